//! The shell: answers preflights, passes on everything else.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use mesh_core::{BoxError, Error, Routed};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::RoutePolicy;

/// Answers CORS preflights as the route says. Stands inside [`FaultLayer`](crate::FaultLayer).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CorsLayer;

impl CorsLayer {
    /// The route says who may ask.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = Cors<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Cors { inner }
    }
}

/// The service of [`CorsLayer`].
#[derive(Clone, Debug)]
pub struct Cors<S> {
    inner: S,
}

impl<B, C, S, R> Service<Routed<Request<B>, C, Arc<RoutePolicy<C>>>> for Cors<S>
where
    S: Service<Routed<Request<B>, C, Arc<RoutePolicy<C>>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = CorsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::from_box(error.into()))
    }

    fn call(&mut self, routed: Routed<Request<B>, C, Arc<RoutePolicy<C>>>) -> Self::Future {
        let request = &routed.request;
        let answer = routed.policy.cors().and_then(|cors| cors.preflight(request.method(), request.headers()));
        let state = match answer {
            Some(error) => State::Answered { error: Some(error) },
            None => State::Call { future: self.inner.call(routed) },
        };
        CorsFuture { state }
    }
}

pin_project! {
    /// The future of [`Cors`].
    #[derive(Debug)]
    pub struct CorsFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Call { #[pin] future: F },
        Answered { error: Option<Error> },
    }
}

impl<F, B, E> Future for CorsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProj::Call { future } => ready!(future.poll(cx)).map_err(|error| Error::from_box(error.into())),
            StateProj::Answered { error } => Err(error.take().expect("polled after completion")),
        })
    }
}
