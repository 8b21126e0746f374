//! Local replies: the one place that turns a typed error into a response.
//!
//! Everything inside may fail with an [`Error`](crate::Error); outside of this layer there are only responses.
//! Each [`Reason`] has Envoy's status, body, headers and response flag. A gRPC caller gets
//! the gRPC form: status 200, `grpc-status` and `grpc-message` in the headers, no body.
//!
//! ```
//! use http::{Request, Response};
//! use mesh_core::{Error, Exchange, LocalReplyLayer, Reason, ResponseFlag};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let service = ServiceBuilder::new()
//!     .layer(LocalReplyLayer)
//!     .service(service_fn(|_: Request<()>| async { Err::<Response<String>, _>(Error::new(Reason::NoHealthyUpstream)) }));
//! let response = service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(response.status(), 503);
//! assert!(response.extensions().get::<Exchange>().unwrap().flags.contains(ResponseFlag::NoHealthyUpstream));
//! # });
//! ```

mod body;
mod grpc;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use body::ReplyBody;

use crate::{BoxError, Error, Reason};

/// A response made here, from an error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalReply {
    /// Status.
    pub status: StatusCode,
    /// Headers, `content-length` included.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl LocalReply {
    /// Envoy's reply for an error; `grpc` when the caller speaks gRPC.
    #[must_use]
    pub fn new(error: &Error, grpc: bool) -> Self {
        let reason = error.reason();
        let mut headers = HeaderMap::new();
        if reason == Reason::Overflow {
            // envoy router: a breaker's reply carries `x-envoy-overloaded: true`.
            headers.insert(HeaderName::from_static("x-envoy-overloaded"), HeaderValue::from_static("true"));
        }
        error.edit_headers(&mut headers);
        // measured on Envoy 1.40 (interop): its CORS filter's own answer has one form, whoever asks.
        if grpc && reason != Reason::Preflight {
            return grpc::reply(error, headers);
        }
        let (status, body) = (reason.status(), error.body());
        // measured on Envoy 1.40 (t2): a directResponse of 204 has no content-length, one of 555 has 0.
        headers.remove(header::CONTENT_LENGTH);
        if status != StatusCode::NO_CONTENT {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        if body.is_empty() {
            // measured on Envoy 1.40: not even where the rule sets one.
            headers.remove(header::CONTENT_TYPE);
        } else {
            // t2: the rule's own content-type stays.
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
        }
        Self { status, headers, body }
    }

    fn into_response<B>(self, error: &Error) -> Response<ReplyBody<B>> {
        let mut response = Response::new(ReplyBody::local(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.extensions_mut().insert(error.exchange().clone());
        response
    }
}

/// Turns errors into responses. Nothing outside of it fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalReplyLayer;

impl<S> Layer<S> for LocalReplyLayer {
    type Service = LocalReplies<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LocalReplies { inner }
    }
}

/// The service of [`LocalReplyLayer`].
#[derive(Clone, Debug)]
pub struct LocalReplies<S> {
    inner: S,
}

impl<S, B, RB> Service<Request<B>> for LocalReplies<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<ReplyBody<RB>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future, S::Error>;

    /// A service that cannot become ready answers with its error when called.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match ready!(self.inner.poll_ready(cx)) {
            Ok(()) | Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let grpc = grpc::is_grpc(request.headers());
        let head = request.method() == Method::HEAD;
        ResponseFuture { inner: self.inner.call(request), grpc, head, error: std::marker::PhantomData }
    }
}

pin_project! {
    /// The response future of [`LocalReplies`].
    #[derive(Debug)]
    pub struct ResponseFuture<F, E> {
        #[pin]
        inner: F,
        grpc: bool,
        head: bool,
        error: std::marker::PhantomData<fn() -> E>,
    }
}

impl<F, RB, E> Future for ResponseFuture<F, E>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ReplyBody<RB>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(Ok(match ready!(this.inner.poll(cx)) {
            Ok(response) => response.map(ReplyBody::upstream),
            Err(error) => {
                let error = Error::from_box(error.into());
                tracing::debug!(target: "mesh::reply", %error, cause = error.source().map(tracing::field::display), "local reply");
                let mut reply = LocalReply::new(&error, *this.grpc);
                if *this.head {
                    // measured on Envoy 1.40 (t2): the headers of a GET, no body (RFC 9110 9.3.2).
                    reply.body = Bytes::new();
                }
                reply.into_response(&error)
            }
        }))
    }
}

use std::error::Error as _;

#[cfg(test)]
mod tests;
