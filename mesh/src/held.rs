//! Services that keep their mesh going.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::mesh::Inner;

/// A service of a mesh that keeps the mesh's background work (config, names, identity) going while it lives, so that
/// a client whose [`Mesh`](crate::Mesh) was dropped does not call by yesterday's rules until its certificate expires.
pub struct Held<S> {
    service: S,
    mesh: Arc<Inner>,
}

impl<S> Held<S> {
    pub(crate) fn new(service: S, mesh: &Arc<Inner>) -> Self {
        Self { service, mesh: Arc::clone(mesh) }
    }
}

impl<S: Clone> Clone for Held<S> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), mesh: Arc::clone(&self.mesh) }
    }
}

impl<S> fmt::Debug for Held<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl<R, S: Service<R>> Service<R> for Held<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.call(request)
    }
}
