//! The request between the router and the balancer.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use crate::Endpoint;

/// A request with the decision made about it: it cannot be built without one, so a balancer never sees a
/// request that no router looked at.
///
/// `C` is the cluster (see [`ClusterHandle`](crate::ClusterHandle)), `P` what the router hands to its own inner
/// layers (timeouts, retries).
#[derive(Clone, Debug)]
pub struct Routed<R, C, P = ()> {
    /// The request, headers and path already as the route wants them.
    pub request: R,
    /// The cluster it goes to. Retries stay in it.
    pub cluster: C,
    /// The route's policy.
    pub policy: P,
    /// Which attempt this is.
    pub attempt: Attempt,
}

/// Which attempt at a request this is, and where earlier ones went.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// 0 for the first.
    pub number: u32,
    /// Endpoints that earlier attempts went to; avoided while there are others.
    pub tried: Vec<Arc<Endpoint>>,
    /// Does the route itself ask for them to be avoided? Without its word, a cluster that hashes does not.
    pub insists: bool,
    /// Endpoints that earlier attempts went to, where the route asks for other levels of priority than theirs.
    pub leaving: Vec<Arc<Endpoint>>,
}

impl<R, C, P> Routed<R, C, P> {
    /// A first attempt.
    pub fn new(request: R, cluster: C, policy: P) -> Self {
        Self { request, cluster, policy, attempt: Attempt::default() }
    }

    /// The same decision about another form of the request.
    pub fn map_request<T>(self, map: impl FnOnce(R) -> T) -> Routed<T, C, P> {
        Routed { request: map(self.request), cluster: self.cluster, policy: self.policy, attempt: self.attempt }
    }
}

/// Sends every request to one cluster: a balancer without a router.
#[derive(Clone, Debug)]
pub struct ToCluster<C>(C);

impl<C> ToCluster<C> {
    /// Everything goes to `cluster`.
    pub fn new(cluster: C) -> Self {
        Self(cluster)
    }
}

impl<C: Clone, S> Layer<S> for ToCluster<C> {
    type Service = WithCluster<C, S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithCluster { cluster: self.0.clone(), inner }
    }
}

/// The service of [`ToCluster`].
#[derive(Clone, Debug)]
pub struct WithCluster<C, S> {
    cluster: C,
    inner: S,
}

impl<B, C, S> Service<Request<B>> for WithCluster<C, S>
where
    C: Clone,
    S: Service<Routed<Request<B>, C>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.inner.call(Routed::new(request, self.cluster.clone(), ()))
    }
}

/// Writes the decision back into the URI and drops it: routing in front of any HTTP client.
///
/// The authority becomes the cluster's host and port; the `Host` header stays what the route made it. For a
/// client that balances by itself, DNS for instance. Per-endpoint identity is lost with the decision.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToAuthority;

impl<S> Layer<S> for ToAuthority {
    type Service = WithAuthority<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithAuthority { inner }
    }
}

/// The service of [`ToAuthority`].
#[derive(Clone, Debug)]
pub struct WithAuthority<S> {
    inner: S,
}

impl<B, C, P, S> Service<Routed<Request<B>, C, P>> for WithAuthority<S>
where
    C: crate::ClusterHandle,
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, routed: Routed<Request<B>, C, P>) -> Self::Future {
        let mut request = routed.request;
        let name = routed.cluster.name();
        if !name.is_passthrough() {
            let authority = format!("{}:{}", name.service.host, name.port);
            set_authority(request.uri_mut(), &authority);
        }
        self.inner.call(request)
    }
}

/// Replace the authority of a URI, giving it the scheme `http` when it has none. An authority that is not one
/// leaves the URI as it was.
pub fn set_authority(uri: &mut http::Uri, authority: &str) {
    let mut parts = std::mem::take(uri).into_parts();
    let before = parts.authority.take();
    parts.authority = authority.parse().ok().or(before);
    if parts.authority.is_some() {
        parts.scheme.get_or_insert(http::uri::Scheme::HTTP);
        parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    }
    *uri = http::Uri::from_parts(parts).unwrap_or_default();
}
