//! The inbound stack: everything between a connection and the application, on one screen.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_authz::{
    AuthorizeLayer, PolicySet,
    canonical::CanonicalizeLayer,
    jwt::{AuthenticateLayer, KeyStore, RequestAuthentications},
};
use mesh_core::{LocalReplyLayer, Workload, identity::SpiffeId, path::PathNormalization};
use mesh_routing::{RateLimitLayer, RateLimits};
use mesh_telemetry::{ServerTelemetry, ServerTelemetryLayer};
use mesh_tls::{PeerAuthMode, PeerAuthentications};
use tokio::sync::watch;
use tower::{
    Layer, ServiceBuilder,
    layer::util::{Identity, Stack},
};

use crate::{
    Held,
    limits::Limits,
    mesh::Inner,
    metrics::MeshMetrics,
    prequal::{AnswerLoadLayer, CountLoadLayer, Gauge},
};

/// What the inbound stack reads: shared by every connection, swapped when config changes.
#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    pub(crate) telemetry: ServerTelemetry,
    pub(crate) path_normalization: Arc<ArcSwap<PathNormalization>>,
    pub(crate) policies: Arc<ArcSwap<PolicySet>>,
    pub(crate) authentications: Arc<ArcSwap<RequestAuthentications>>,
    pub(crate) keys: KeyStore,
    pub(crate) peer_authentication: Arc<ArcSwap<PeerAuth>>,
    pub(crate) limits: Arc<ArcSwap<RateLimits>>,
    pub(crate) load: Arc<Gauge>,
    /// Counts changes of policy, for connections that live through one.
    pub(crate) changed: Arc<watch::Sender<u64>>,
}

/// The inbound stack as a layer. Made by [`Mesh::inbound_layer`](crate::Mesh::inbound_layer).
#[derive(Clone, Debug)]
pub struct InboundLayer(Arc<Inner>);

impl InboundLayer {
    pub(crate) fn new(mesh: &Arc<Inner>) -> Self {
        Self(Arc::clone(mesh))
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = Held<<InboundStack as Layer<S>>::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        Held::new(self.0.inbound.stack().layer(inner), &self.0)
    }
}

/// What the inbound stack is made of.
pub type InboundStack = Stack<
    CountLoadLayer,
    Stack<
        RateLimitLayer,
        Stack<
            AuthorizeLayer,
            Stack<
                AuthenticateLayer,
                Stack<
                    CanonicalizeLayer,
                    Stack<LocalReplyLayer, Stack<ServerTelemetryLayer, Stack<AnswerLoadLayer, Identity>>>,
                >,
            >,
        >,
    >,
>;

impl Inbound {
    pub(crate) fn new(
        metrics: &MeshMetrics,
        workload: &Arc<Workload>,
        identity: Option<SpiffeId>,
        limits: &Limits,
    ) -> Self {
        let load = Arc::new(Gauge::new(identity.is_some()));
        let telemetry = ServerTelemetry::new(metrics.istio(), workload);
        telemetry.set_identity(identity);
        Self {
            telemetry,
            path_normalization: Arc::default(),
            // Before the first policy is published, nobody gets in.
            policies: Arc::new(ArcSwap::from_pointee(PolicySet::deny_all_not_ready())),
            authentications: Arc::default(),
            keys: KeyStore::default(),
            peer_authentication: Arc::new(ArcSwap::from_pointee(PeerAuth {
                policies: Arc::default(),
                workload: Arc::clone(workload),
                root_namespace: "istio-system".into(),
            })),
            limits: Arc::clone(&limits.in_force),
            load,
            changed: Arc::default(),
        }
    }

    pub(crate) fn stack(&self) -> InboundStack {
        ServiceBuilder::new()
            // A probe of a client's balancer is no request, and ends here; its question never goes further.
            .layer(AnswerLoadLayer(Arc::clone(&self.load)))
            // Outside of the rest, so that refusals are counted and traced too.
            .layer(ServerTelemetryLayer::new(self.telemetry.clone()))
            // The only place that turns an error into a response.
            .layer(LocalReplyLayer)
            // One spelling of the path, for policy and application alike; what can be read in two ways gets 400;
            // identity headers that a caller wrote are removed.
            .layer(CanonicalizeLayer::new(Arc::clone(&self.path_normalization)))
            // Whose token it brings: 401 for a bad one, whatever policies say.
            .layer(AuthenticateLayer::new(Arc::clone(&self.authentications), self.keys.clone()))
            // DENY, then ALLOW, on the identity that the handshake proved and on the token's.
            .layer(AuthorizeLayer::new(Arc::clone(&self.policies)))
            // Inside of it: who may not ask takes nobody's tokens.
            .layer(RateLimitLayer::inbound(Arc::clone(&self.limits)))
            // What the application has to do, and nothing else. Then the application.
            .layer(CountLoadLayer(Arc::clone(&self.load)))
            .into_inner()
    }

    /// Resolves when plaintext is no longer taken on a port.
    pub(crate) async fn plaintext_refused(&self, port: u16) {
        let mut changed = self.changed.subscribe();
        while self.peer_auth_mode(port) != PeerAuthMode::Strict {
            // The sender lives in self: the wait cannot fail.
            let _ = changed.changed().await;
        }
    }

    /// How a connection to a port is accepted.
    pub(crate) fn peer_auth_mode(&self, port: u16) -> PeerAuthMode {
        self.peer_authentication.load().mode(port)
    }
}

/// PeerAuthentication, from this workload's point of view.
#[derive(Debug)]
pub(crate) struct PeerAuth {
    pub(crate) policies: Arc<PeerAuthentications>,
    pub(crate) workload: Arc<Workload>,
    pub(crate) root_namespace: Arc<str>,
}

impl PeerAuth {
    fn mode(&self, port: u16) -> PeerAuthMode {
        self.policies.mode(&self.workload, &self.root_namespace, port)
    }
}
