use std::{
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use http::Request;
use mesh_core::{BoxError, Error, path::PathNormalization};
use tower_layer::Layer;
use tower_service::Service;

use super::canonicalize;
use crate::ResponseFuture;

/// Canonicalises every request: outermost of what decides inside a server.
///
/// A request that has no single reading ends here with [`mesh_core::Reason::BadRequest`].
#[derive(Clone, Debug, Default)]
pub struct CanonicalizeLayer {
    mode: Arc<ArcSwap<PathNormalization>>,
}

impl CanonicalizeLayer {
    /// In the mode that `mode` holds when a request arrives: MeshConfig's, live.
    #[must_use]
    pub fn new(mode: Arc<ArcSwap<PathNormalization>>) -> Self {
        Self { mode }
    }

    /// In one mode for good. [`Default`] is Istio's default, [`PathNormalization::Base`].
    #[must_use]
    pub fn fixed(mode: PathNormalization) -> Self {
        Self::new(Arc::new(ArcSwap::from_pointee(mode)))
    }
}

impl<S> Layer<S> for CanonicalizeLayer {
    type Service = Canonicalize<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Canonicalize { mode: Arc::clone(&self.mode), inner }
    }
}

/// The service of [`CanonicalizeLayer`].
#[derive(Clone, Debug)]
pub struct Canonicalize<S> {
    mode: Arc<ArcSwap<PathNormalization>>,
    inner: S,
}

impl<B, S> Service<Request<B>> for Canonicalize<S>
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mode = **self.mode.load();
        match canonicalize(&mut request, mode) {
            Ok(()) => ResponseFuture::inner(self.inner.call(request)),
            Err(why) => ResponseFuture::refused(why.into()),
        }
    }
}
