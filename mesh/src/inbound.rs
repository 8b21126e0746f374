//! The inbound stack: everything between a connection and the application, on one screen.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_authz::{AuthorizeLayer, PolicySet, canonical::CanonicalizeLayer};
use mesh_core::{LocalReplyLayer, Workload, identity::SpiffeId, path::PathNormalization};
use mesh_telemetry::{ServerTelemetry, ServerTelemetryLayer};
use mesh_tls::{PeerAuthMode, PeerAuthentications};
use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};

use crate::metrics::MeshMetrics;

/// What the inbound stack reads: shared by every connection, swapped when config changes.
#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    pub(crate) telemetry: ServerTelemetry,
    pub(crate) path_normalization: Arc<ArcSwap<PathNormalization>>,
    pub(crate) policies: Arc<ArcSwap<PolicySet>>,
    pub(crate) peer_authentication: Arc<ArcSwap<PeerAuth>>,
}

/// The inbound stack as a layer.
pub type InboundLayer =
    Stack<AuthorizeLayer, Stack<CanonicalizeLayer, Stack<LocalReplyLayer, Stack<ServerTelemetryLayer, Identity>>>>;

impl Inbound {
    pub(crate) fn new(metrics: &MeshMetrics, workload: &Arc<Workload>, identity: Option<SpiffeId>) -> Self {
        let telemetry = ServerTelemetry::new(metrics.istio(), workload);
        telemetry.set_identity(identity);
        Self {
            telemetry,
            path_normalization: Arc::default(),
            // Before the first policy is published, nobody gets in.
            policies: Arc::new(ArcSwap::from_pointee(PolicySet::deny_all_not_ready())),
            peer_authentication: Arc::new(ArcSwap::from_pointee(PeerAuth {
                policies: Arc::default(),
                workload: Arc::clone(workload),
                root_namespace: "istio-system".into(),
            })),
        }
    }

    pub(crate) fn layer(&self) -> InboundLayer {
        ServiceBuilder::new()
            // Outermost, so that refusals are counted and traced too.
            .layer(ServerTelemetryLayer::new(self.telemetry.clone()))
            // The only place that turns an error into a response.
            .layer(LocalReplyLayer)
            // One spelling of the path, for policy and application alike; what can be read in two ways gets 400;
            // identity headers that a caller wrote are removed.
            .layer(CanonicalizeLayer::new(Arc::clone(&self.path_normalization)))
            // DENY, then ALLOW, on the identity that the handshake proved. Then the application.
            .layer(AuthorizeLayer::new(Arc::clone(&self.policies)))
            .into_inner()
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
