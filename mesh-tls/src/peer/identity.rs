use std::task::{Context, Poll};

use http::Request;
use mesh_core::identity::PeerIdentity;
use tower_layer::Layer;
use tower_service::Service;

/// Puts a connection's peer into the extensions of each of its requests; on a plaintext connection, takes out what
/// stands there.
///
/// One layer per connection, made when the connection was accepted.
#[derive(Clone, Debug)]
pub struct PeerIdentityLayer {
    peer: Option<PeerIdentity>,
}

impl PeerIdentityLayer {
    /// The verified peer of a connection; `None` for plaintext.
    #[must_use]
    pub fn new(peer: Option<PeerIdentity>) -> Self {
        Self { peer }
    }
}

impl<S> Layer<S> for PeerIdentityLayer {
    type Service = WithPeerIdentity<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithPeerIdentity { inner, peer: self.peer.clone() }
    }
}

/// Middleware of [`PeerIdentityLayer`].
#[derive(Clone, Debug)]
pub struct WithPeerIdentity<S> {
    inner: S,
    peer: Option<PeerIdentity>,
}

impl<S, B> Service<Request<B>> for WithPeerIdentity<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let extensions = request.extensions_mut();
        match &self.peer {
            Some(peer) => drop(extensions.insert(peer.clone())),
            None => drop(extensions.remove::<PeerIdentity>()),
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;
    use crate::forge::peer;

    async fn seen(layer: PeerIdentityLayer, request: Request<()>) -> Option<String> {
        let service = service_fn(|request: Request<()>| async move {
            Ok::<_, Infallible>(Response::new(request.extensions().get::<PeerIdentity>().map(|p| p.id().to_string())))
        });
        ServiceBuilder::new().layer(layer).service(service).oneshot(request).await.unwrap().into_body()
    }

    #[tokio::test]
    async fn only_the_connection_says_who_the_peer_is() {
        let forged = || {
            let mut request = Request::get("http://reviews:9080/reviews/0?x=1").body(()).unwrap();
            request.extensions_mut().insert(peer("spiffe://cluster.local/ns/default/sa/admin"));
            request
        };
        assert_eq!(seen(PeerIdentityLayer::new(None), forged()).await, None);
        let real = "spiffe://cluster.local/ns/default/sa/productpage";
        assert_eq!(seen(PeerIdentityLayer::new(Some(peer(real))), forged()).await.as_deref(), Some(real));
    }
}
