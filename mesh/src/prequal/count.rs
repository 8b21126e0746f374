//! The innermost layer of the inbound stack: counts the requests that the application has.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use mesh_core::clock;
use mesh_lb::InHand;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Gauge;

/// Counts requests from their arrival at the application until their responses' bodies have ended.
#[derive(Clone, Debug)]
pub struct CountLoadLayer(pub(crate) Arc<Gauge>);

/// The service of [`CountLoadLayer`].
#[derive(Clone, Debug)]
pub struct CountLoad<S> {
    gauge: Arc<Gauge>,
    inner: S,
}

impl<S> Layer<S> for CountLoadLayer {
    type Service = CountLoad<S>;

    fn layer(&self, inner: S) -> CountLoad<S> {
        CountLoad { gauge: Arc::clone(&self.0), inner }
    }
}

impl<B, S, RB> Service<Request<B>> for CountLoad<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body,
{
    type Response = Response<CountedLoadBody<RB>>;
    type Error = S::Error;
    type Future = CountFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        CountFuture { counted: Counted(self.gauge.begin()), future: self.inner.call(request) }
    }
}

/// A request, while it counts. Dropped before its end it was given up: a censored sample.
#[derive(Debug)]
struct Counted(Option<InHand>);

impl Counted {
    fn ended(&mut self) {
        if let Some(request) = self.0.take() {
            request.answered(clock::now());
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(request) = self.0.take() {
            request.abandoned(clock::now());
        }
    }
}

pin_project! {
    /// The future of [`CountLoad`].
    #[derive(Debug)]
    pub struct CountFuture<F> {
        #[pin]
        future: F,
        counted: Counted,
    }
}

impl<F, E, RB> Future for CountFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
    RB: Body,
{
    type Output = Result<Response<CountedLoadBody<RB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let mut counted = Counted(this.counted.0.take());
        if response.body().is_end_stream() {
            counted.ended();
        }
        Poll::Ready(Ok(response.map(|body| CountedLoadBody { body, counted })))
    }
}

pin_project! {
    /// A response's body, whose request counts until it ends.
    #[derive(Debug)]
    pub struct CountedLoadBody<B> {
        #[pin]
        body: B,
        counted: Counted,
    }
}

impl<B: Body> Body for CountedLoadBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !this.body.is_end_stream() => {}
            Some(Ok(_)) | None => this.counted.ended(),
            // It broke off: it would have taken at least as long.
            Some(Err(_)) => drop(Counted(this.counted.0.take())),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
