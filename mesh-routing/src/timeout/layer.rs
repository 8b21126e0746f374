//! The shell.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use http_body::Body;
use mesh_core::{BoxError, ClusterHandle, ClusterName, Deadline, Error, Progress, Reason, Routed, clock};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use super::{TimeoutBody, grpc};
use crate::RoutePolicy;

/// Enforces the route's timeout. Stands around [`RetryLayer`](crate::RetryLayer): a request that timed out is never
/// retried.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TimeoutLayer;

impl TimeoutLayer {
    /// The route says how long.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout { inner }
    }
}

/// The service of [`TimeoutLayer`]. Puts a [`Deadline`] into the request's extensions.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
}

impl<B, C, S, R> Service<Routed<Request<B>, C, Arc<RoutePolicy<C>>>> for Timeout<S>
where
    C: ClusterHandle,
    S: Service<Routed<Request<B>, C, Arc<RoutePolicy<C>>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body,
{
    type Response = Response<TimeoutBody<R>>;
    type Error = Error;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::from_box(error.into()))
    }

    fn call(&mut self, mut routed: Routed<Request<B>, C, Arc<RoutePolicy<C>>>) -> Self::Future {
        let timeout = grpc::effective(routed.policy.timeout(), routed.request.headers());
        // A time that the clock does not reach is none.
        let deadline = timeout.and_then(|timeout| clock::now().checked_add(timeout));
        let limit = deadline.map(|deadline| {
            routed.request.extensions_mut().insert(Deadline(deadline));
            let progress = routed.request.extensions().get::<Progress>().cloned();
            Limit { deadline, cluster: Arc::clone(routed.cluster.name()), progress }
        });
        let sleep = limit.as_ref().map(|limit| sleep_until(limit.deadline));
        TimeoutFuture { inner: self.inner.call(routed), limit, sleep }
    }
}

#[derive(Debug)]
struct Limit {
    deadline: Instant,
    cluster: Arc<ClusterName>,
    progress: Option<Progress>,
}

impl Limit {
    /// The attempts are told by whoever picks endpoints: the retry layer, which counts them, is dropped with the call.
    fn error(&self) -> Error {
        let mut error = Error::new(Reason::Timeout).with_cluster(&self.cluster);
        error.exchange_mut().attempts = self.progress.as_ref().map_or(0, |progress| progress.so_far().attempts);
        error
    }
}

pin_project! {
    /// The future of [`Timeout`].
    #[derive(Debug)]
    pub struct TimeoutFuture<F> {
        #[pin]
        inner: F,
        limit: Option<Limit>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F, R, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
    R: Body,
{
    type Output = Result<Response<TimeoutBody<R>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            let response = result.map_err(|error| Error::from_box(error.into()))?;
            let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let deadline = this.limit.as_ref().filter(|_| !upgraded).map(|limit| limit.deadline);
            return Poll::Ready(Ok(response.map(|body| TimeoutBody::new(body, deadline))));
        }
        match (this.sleep.as_pin_mut().map(|sleep| sleep.poll(cx)), this.limit) {
            (Some(Poll::Ready(())), Some(limit)) => Poll::Ready(Err(limit.error())),
            _ => Poll::Pending,
        }
    }
}
