use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Request;
use mesh_core::{BoxError, Error, Reason, identity::PeerIdentity};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::ExpectedPeer;

/// Refuses requests without a verified peer, or of another peer than those named.
///
/// For a service that wants this and no more; who may do what, per path and method, is AuthorizationPolicy.
#[derive(Clone, Debug)]
pub struct RequirePeerLayer {
    allowed: Arc<Option<ExpectedPeer>>,
}

impl RequirePeerLayer {
    /// Any verified peer will do.
    #[must_use]
    pub fn verified() -> Self {
        Self { allowed: Arc::new(None) }
    }

    /// Only these.
    #[must_use]
    pub fn only(allowed: ExpectedPeer) -> Self {
        Self { allowed: Arc::new(Some(allowed)) }
    }
}

impl<S> Layer<S> for RequirePeerLayer {
    type Service = RequirePeer<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequirePeer { inner, allowed: Arc::clone(&self.allowed) }
    }
}

/// Middleware of [`RequirePeerLayer`].
#[derive(Clone, Debug)]
pub struct RequirePeer<S> {
    inner: S,
    allowed: Arc<Option<ExpectedPeer>>,
}

impl<S> RequirePeer<S> {
    fn allows(&self, peer: Option<&PeerIdentity>) -> bool {
        peer.is_some_and(|peer| self.allowed.as_ref().as_ref().is_none_or(|allowed| allowed.accepts(peer.id())))
    }
}

impl<S, B> Service<Request<B>> for RequirePeer<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::from_box(error.into()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let allowed = self.allows(request.extensions().get());
        ResponseFuture { inner: allowed.then(|| self.inner.call(request)) }
    }
}

pin_project! {
    /// Response of [`RequirePeer`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        // None: denied.
        #[pin]
        inner: Option<F>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
{
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => Poll::Ready(ready!(inner.poll(cx)).map_err(|error| Error::from_box(error.into()))),
            None => Poll::Ready(Err(Error::new(Reason::Denied))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;
    use crate::{PeerIdentityLayer, forge::peer};

    #[test]
    fn a_layer_applied_twice_shares_whom_it_lets_in() {
        // axum applies a layer for every route.
        let layer = RequirePeerLayer::verified();
        let (one, two) = (layer.layer(()), layer.layer(()));
        assert!(Arc::ptr_eq(&one.allowed, &two.allowed));
    }

    #[tokio::test]
    async fn a_request_needs_a_verified_peer() {
        let admin = "spiffe://cluster.local/ns/default/sa/admin";
        let guest = "spiffe://cluster.local/ns/default/sa/guest";
        let only_admin = RequirePeerLayer::only(ExpectedPeer::exactly(admin.parse().unwrap()));
        for (layer, who, allowed) in [
            (RequirePeerLayer::verified(), None, false),
            (RequirePeerLayer::verified(), Some(guest), true),
            (only_admin.clone(), None, false),
            (only_admin.clone(), Some(guest), false),
            (only_admin, Some(admin), true),
        ] {
            let service = ServiceBuilder::new()
                .layer(PeerIdentityLayer::new(who.map(peer)))
                .layer(layer)
                .service(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) }));
            let request = Request::post("http://reviews.default.svc.cluster.local/reviews/1").body(()).unwrap();
            let outcome = service.oneshot(request).await;
            assert_eq!(outcome.is_ok(), allowed, "{who:?}");
            if let Err(error) = outcome {
                assert_eq!(error.reason(), Reason::Denied);
            }
        }
    }
}
