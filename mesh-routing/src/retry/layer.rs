//! The layer and its service.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use mesh_core::{BoxError, ClusterHandle, Error, Routed};
use tower_layer::Layer;
use tower_service::Service;

use super::{ReplayBody, RetryFuture};
use crate::{Roll, RoutePolicy};

/// Tries requests again as their route says. Stands inside [`TimeoutLayer`](crate::TimeoutLayer) and around whatever
/// picks an endpoint, once per attempt.
#[derive(Clone, Copy, Debug)]
pub struct RetryLayer {
    cap: usize,
    roll: Roll,
}

impl RetryLayer {
    /// Keeps up to 1 MiB of a request's body for another attempt, which is Envoy's default buffer limit.
    #[must_use]
    pub fn new() -> Self {
        Self { cap: 1 << 20, roll: rand::random::<u64> }
    }

    /// Keep up to this many bytes of a body. Costs memory per request in flight, up to its response's head.
    #[must_use]
    pub fn with_body_cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// Draw waits from another source.
    #[must_use]
    pub fn with_roll(mut self, roll: Roll) -> Self {
        self.roll = roll;
        self
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry { inner, cap: self.cap, roll: self.roll }
    }
}

/// The service of [`RetryLayer`]: always ready; each attempt waits for the inner service.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    cap: usize,
    roll: Roll,
}

impl<B, C, S, R> Service<Routed<Request<B>, C, Arc<RoutePolicy<C>>>> for Retry<S>
where
    B: Body,
    C: ClusterHandle,
    S: Service<Routed<Request<ReplayBody<B>>, C, Arc<RoutePolicy<C>>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = RetryFuture<S, B, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed<Request<B>, C, Arc<RoutePolicy<C>>>) -> Self::Future {
        RetryFuture::new(self.inner.clone(), routed, self.cap, self.roll)
    }
}
