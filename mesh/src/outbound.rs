//! The outbound stack: everything between a caller and an endpoint, on one screen.

use std::{
    convert::Infallible,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use mesh_core::{BoxError, LocalReplyLayer, Workload, identity::SpiffeId};
use mesh_lb::{BalanceLayer, Cluster};
use mesh_routing::{
    CorsLayer, FaultLayer, MirrorLayer, RateLimitLayer, RateLimits, RetryLayer, RouteLayer, RouteTable, TimeoutLayer,
};
use mesh_telemetry::{ClientTelemetry, ClientTelemetryLayer};
use tower::ServiceBuilder;
use tower_service::Service;

use crate::{
    Body, Held,
    connect::{ConnectionBody, Connector},
    limits::Limits,
    mesh::Inner,
    metrics::MeshMetrics,
};

/// The routes of one snapshot, with the clusters they point at: swapped as one.
pub(crate) type Routes = Arc<ArcSwap<RouteTable<Cluster>>>;

macro_rules! outbound {
    ($telemetry:expr, $routes:expr, $limits:expr, $innermost:expr) => {
        ServiceBuilder::new()
            // Outermost, so that local replies and retries count once.
            .layer(ClientTelemetryLayer::new($telemetry))
            // The only place that turns an error into a response: outside of it nothing fails.
            .layer(LocalReplyLayer)
            // Decides once, on one snapshot: virtual host, rule, destination. Redirects and direct responses end here.
            .layer(RouteLayer::new($routes))
            // Once for each request, however often it is sent; what is refused meets no fault and no upstream.
            .layer(RateLimitLayer::outbound($limits))
            // Outside timeout and retry: an injected delay is not the upstream's (istio HTTPFaultInjection).
            .layer(FaultLayer::new())
            // Inside of faults, outside of everything that sends: Envoy's order (fault, cors, router).
            .layer(CorsLayer::new())
            // As the request goes out, and outside of its timeout: a copy has its own, and nobody waits for it.
            .layer(MirrorLayer::new())
            // The whole request, all tries and the response body.
            .layer(TimeoutLayer::new())
            // Replays the request within its cluster, within the cluster's budget.
            .layer(RetryLayer::new())
            // Circuit breaker, healthy endpoints, pick; then in flight and outliers until the body ends.
            .layer(BalanceLayer::new())
            // The connection: pooled per endpoint and identity, the peer verified before a byte of the request.
            .service($innermost)
    };
}

type Stack = Through<Connector>;

/// The layers of [`outbound!`] around something that sends.
type Through<S> = mesh_telemetry::ClientTelemetryService<
    mesh_core::LocalReplies<
        mesh_routing::Router<
            Cluster,
            mesh_routing::RateLimited<
                mesh_routing::FaultInjector<
                    mesh_routing::Cors<
                        mesh_routing::Mirroring<mesh_routing::Timeout<mesh_routing::Retry<mesh_lb::Balance<S>>>>,
                    >,
                >,
            >,
        >,
    >,
>;

/// A client of the mesh.
///
/// A [`tower::Service`] for any request body; clones and clients of other body types share connections, limits and
/// statistics. It never fails: what goes wrong is a response, as from a sidecar, with the reason in its
/// [`Exchange`](mesh_core::Exchange) extension.
pub struct Client<B = Body> {
    stack: Held<Stack>,
    body: PhantomData<fn(B)>,
}

/// What the stack is made of.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub(crate) telemetry: ClientTelemetry,
    pub(crate) routes: Routes,
    pub(crate) limits: Arc<ArcSwap<RateLimits>>,
    pub(crate) connector: Connector,
}

impl Outbound {
    pub(crate) fn new(
        metrics: &MeshMetrics,
        workload: &Workload,
        identity: Option<SpiffeId>,
        routes: Arc<RouteTable<Cluster>>,
        limits: &Limits,
        connector: Connector,
    ) -> Self {
        let telemetry = ClientTelemetry::new(metrics.istio(), workload);
        telemetry.set_identity(identity);
        let limits = Arc::clone(&limits.in_force);
        Self { telemetry, routes: Arc::new(ArcSwap::new(routes)), limits, connector }
    }

    pub(crate) fn layer(mesh: &Arc<Inner>) -> OutboundLayer {
        OutboundLayer(Arc::clone(mesh))
    }

    pub(crate) fn client<B>(mesh: &Arc<Inner>) -> Client<B> {
        let Self { telemetry, routes, limits, connector } = &mesh.outbound;
        let stack = outbound!(telemetry.clone(), Arc::clone(routes), Arc::clone(limits), connector.clone());
        Client { stack: Held::new(stack, mesh), body: PhantomData }
    }
}

/// The outbound stack without connections, as a layer over any HTTP client. Made by
/// [`Mesh::outbound_layer`](crate::Mesh::outbound_layer).
#[derive(Clone, Debug)]
pub struct OutboundLayer(Arc<Inner>);

/// The service of [`OutboundLayer`].
pub type WithoutConnections<S> = Held<Through<mesh_lb::WithEndpoint<S>>>;

impl<S> tower::Layer<S> for OutboundLayer {
    type Service = WithoutConnections<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let Outbound { telemetry, routes, limits, .. } = &self.0.outbound;
        let inner = mesh_lb::ToEndpoint.layer(inner);
        let stack = outbound!(telemetry.clone(), Arc::clone(routes), Arc::clone(limits), inner);
        Held::new(stack, &self.0)
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self { stack: self.stack.clone(), body: PhantomData }
    }
}

impl<B> std::fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The body of a response to a [`Client`]: each layer that watches until the end has its part.
pub type ResponseBody = mesh_telemetry::RecordingBody<
    mesh_core::ReplyBody<mesh_routing::TimeoutBody<mesh_lb::InFlightBody<ConnectionBody>>>,
>;

/// The future of a [`Client`].
pub type ResponseFuture<B> = <Stack as Service<Request<B>>>::Future;

impl<B> Service<Request<B>> for Client<B>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.stack, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.stack.call(request)
    }
}
