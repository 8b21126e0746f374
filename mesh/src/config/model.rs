//! The models of all kinds that the mesh reads.

use std::sync::Arc;

use mesh_authz::{AuthorizationPolicy, jwt::RequestAuthentication};
use mesh_core::{
    MeshConfig,
    config::{Document, Field, Issues, Topic},
    registry::{EndpointSlice, KubernetesService, Node, Pod, ServiceEntry, Sources, WorkloadEntry},
};
use mesh_lb::{DefaultPolicy, DestinationRule};
use mesh_routing::{GatewayRoutes, GrpcRoute, HttpRoute, ReferenceGrant, RetryPolicy, VirtualService};
use mesh_tls::PeerAuthentication;

use super::mesh_policy::{MeshPolicy, splice};

/// One object, read.
#[derive(Clone, Debug)]
pub(crate) enum Model {
    VirtualService(Arc<VirtualService>),
    DestinationRule(Arc<DestinationRule>),
    HttpRoute(Arc<HttpRoute>),
    GrpcRoute(Arc<GrpcRoute>),
    ReferenceGrant(Arc<ReferenceGrant>),
    Service(Arc<KubernetesService>),
    ServiceEntry(Arc<ServiceEntry>),
    WorkloadEntry(Arc<WorkloadEntry>),
    EndpointSlice(Arc<EndpointSlice>),
    Pod(Arc<Pod>),
    Node(Arc<Node>),
    PeerAuthentication(Arc<PeerAuthentication>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    RequestAuthentication(Arc<RequestAuthentication>),
    MeshConfig(Arc<MeshConfig>),
    MeshPolicy(Arc<MeshPolicy>),
}

/// Istio's kinds of that group. Another one is a slip of the pen: its object would silently not be in force.
const NETWORKING: [&str; 9] = [
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "WorkloadEntry",
    "Gateway",
    "Sidecar",
    "EnvoyFilter",
    "WorkloadGroup",
    "ProxyConfig",
];

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The kinds of the Gateway API's group.
const GATEWAY_KINDS: [&str; 11] = [
    "HTTPRoute",
    "GRPCRoute",
    "ReferenceGrant",
    "Gateway",
    "GatewayClass",
    "ListenerSet",
    "BackendTLSPolicy",
    "BackendLBPolicy",
    "TLSRoute",
    "TCPRoute",
    "UDPRoute",
];

/// The versions of a kind whose fields we know; `None` for one that is not ours.
fn versions(group: &str, kind: &str) -> Option<&'static [&'static str]> {
    match (group, kind) {
        ("networking.istio.io", _) => Some(&["v1", "v1beta1", "v1alpha3"]),
        ("security.istio.io", _) => Some(&["v1", "v1beta1"]),
        ("mesh.rs", _) => Some(&["v1"]),
        (EndpointSlice::GROUP, EndpointSlice::KIND) => Some(&["v1"]),
        (GATEWAY_API, "HTTPRoute") => Some(&["v1", "v1beta1"]),
        (GATEWAY_API, "GRPCRoute") => Some(&["v1", "v1alpha2"]),
        (GATEWAY_API, "ReferenceGrant") => Some(&["v1", "v1beta1", "v1alpha2"]),
        _ => None,
    }
}

/// Every kind with the fields of its spec.
pub(crate) fn kinds() -> Vec<(&'static str, Vec<Field>)> {
    vec![
        ("VirtualService", VirtualService::fields()),
        ("HTTPRoute", HttpRoute::fields()),
        ("GRPCRoute", GrpcRoute::fields()),
        ("ReferenceGrant", ReferenceGrant::fields()),
        ("DestinationRule", DestinationRule::fields()),
        ("ServiceEntry", ServiceEntry::fields()),
        ("WorkloadEntry", WorkloadEntry::fields()),
        ("Service", KubernetesService::fields()),
        ("EndpointSlice", EndpointSlice::fields()),
        ("Pod", Pod::fields()),
        ("PeerAuthentication", PeerAuthentication::fields()),
        ("AuthorizationPolicy", AuthorizationPolicy::fields()),
        ("RequestAuthentication", RequestAuthentication::fields()),
        ("MeshConfig", mesh_config_fields()),
        ("MeshPolicy", MeshPolicy::fields()),
    ]
}

/// Two policies among them are mesh-routing's and mesh-lb's.
fn mesh_config_fields() -> Vec<Field> {
    let mut fields = MeshConfig::fields();
    splice(&mut fields, RetryPolicy::MESH_FIELD, RetryPolicy::fields());
    splice(&mut fields, DefaultPolicy::MESH_FIELD, DefaultPolicy::fields());
    fields
}

/// What became of a document.
pub(crate) enum Read {
    Model(Model),
    /// It has errors; the issues say which.
    Bad,
    /// Not one of our kinds.
    Foreign,
}

/// Is it one of the objects that stand or fall together? A kind that nobody knows in Istio's security group may be one
/// of them, misspelt.
pub(crate) fn is_security(document: &Document) -> bool {
    document.group() == "security.istio.io"
        || matches!(document.kind(), "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication")
}

pub(crate) fn read(document: &Document, issues: &mut Issues) -> Read {
    fn model<T>(read: Option<T>, wrap: impl FnOnce(Arc<T>) -> Model) -> Read {
        read.map_or(Read::Bad, |model| Read::Model(wrap(Arc::new(model))))
    }
    let version = document.api_version().rsplit('/').next().unwrap_or_default();
    if let Some(versions) = versions(document.group(), document.kind())
        && !versions.contains(&version)
    {
        let message = format!("unknown version {version:?} of {}: {}", document.group(), versions.join(", "));
        issues.push(document.error("", message));
        return Read::Bad;
    }
    match (document.group(), document.kind()) {
        ("networking.istio.io", "VirtualService") => {
            model(VirtualService::from_document(document, issues), Model::VirtualService)
        }
        ("networking.istio.io", "DestinationRule") => {
            model(DestinationRule::from_document(document, issues), Model::DestinationRule)
        }
        ("networking.istio.io", "ServiceEntry") => {
            model(ServiceEntry::from_document(document, issues), Model::ServiceEntry)
        }
        ("networking.istio.io", "WorkloadEntry") => {
            model(WorkloadEntry::from_document(document, issues), Model::WorkloadEntry)
        }
        (GATEWAY_API, "HTTPRoute") => model(HttpRoute::from_document(document, issues), Model::HttpRoute),
        (GATEWAY_API, "GRPCRoute") => model(GrpcRoute::from_document(document, issues), Model::GrpcRoute),
        (GATEWAY_API, "ReferenceGrant") => {
            model(ReferenceGrant::from_document(document, issues), Model::ReferenceGrant)
        }
        (GATEWAY_API, kind) if !GATEWAY_KINDS.contains(&kind) => {
            let message = format!("unknown kind {kind} in {GATEWAY_API}: {}", GATEWAY_KINDS.join(", "));
            issues.push(document.error("", message));
            Read::Bad
        }
        ("security.istio.io", "PeerAuthentication") => {
            model(PeerAuthentication::from_document(document, issues), Model::PeerAuthentication)
        }
        ("security.istio.io", "AuthorizationPolicy") => {
            model(AuthorizationPolicy::from_document(document, issues), Model::AuthorizationPolicy)
        }
        ("security.istio.io", "RequestAuthentication") => {
            model(RequestAuthentication::from_document(document, issues), Model::RequestAuthentication)
        }
        ("security.istio.io", kind) => {
            let message = format!(
                "unknown kind {kind} in security.istio.io: AuthorizationPolicy, PeerAuthentication, RequestAuthentication"
            );
            issues.push(document.error("", message));
            Read::Bad
        }
        (EndpointSlice::GROUP, EndpointSlice::KIND) => {
            model(EndpointSlice::from_document(document, issues), Model::EndpointSlice)
        }
        ("", "Node") => model(Node::from_document(document, issues), Model::Node),
        ("", "Pod") => model(Pod::from_document(document, issues), Model::Pod),
        ("", "Service") => model(KubernetesService::from_document(document, issues), Model::Service),
        ("", "MeshConfig") => {
            // Its policies are mesh-routing's and mesh-lb's to check; the document stands or falls as one.
            let retries = RetryPolicy::from_mesh_document(document, issues);
            let defaults = DefaultPolicy::from_mesh_document(document, issues);
            let good = retries.is_some() && defaults.is_some();
            model(MeshConfig::from_document(document, issues).filter(|_| good), Model::MeshConfig)
        }
        ("mesh.rs", "MeshPolicy") => model(MeshPolicy::from_document(document, issues), Model::MeshPolicy),
        ("networking.istio.io", kind) if !NETWORKING.contains(&kind) => {
            let message = format!("unknown kind {kind} in networking.istio.io: {}", NETWORKING.join(", "));
            issues.push(document.error("", message));
            Read::Bad
        }
        (group, kind) => {
            let known = [
                "VirtualService",
                "DestinationRule",
                "ServiceEntry",
                "WorkloadEntry",
                "PeerAuthentication",
                "AuthorizationPolicy",
                "RequestAuthentication",
                "MeshPolicy",
                "HTTPRoute",
                "GRPCRoute",
                "EndpointSlice",
            ];
            if known.contains(&kind) {
                let message = format!(
                    "apiVersion {:?} is not Istio's for {kind}: networking.istio.io/v1 or security.istio.io/v1 (mesh.rs/v1 for MeshPolicy, {GATEWAY_API}/v1 for routes, discovery.k8s.io/v1 for EndpointSlice)",
                    document.api_version()
                );
                issues.push(document.error("", message));
                return Read::Bad;
            }
            let message = match (group, kind) {
                ("networking.istio.io" | "telemetry.istio.io" | "gateway.networking.k8s.io", _) => {
                    format!("{kind} is not enforced in-process")
                }
                _ => format!("{kind} is not a kind that the mesh reads"),
            };
            issues.push(document.warning("", message).about(Topic::NotEnforced));
            Read::Foreign
        }
    }
}

/// All models in force, each kind in Istio's order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models {
    pub(crate) mesh: Arc<MeshConfig>,
    pub(crate) sources: Sources,
    pub(crate) virtual_services: Vec<Arc<VirtualService>>,
    pub(crate) gateway_routes: GatewayRoutes,
    pub(crate) destination_rules: Vec<Arc<DestinationRule>>,
    pub(crate) peer_authentications: Vec<Arc<PeerAuthentication>>,
    pub(crate) authorization_policies: Vec<Arc<AuthorizationPolicy>>,
    pub(crate) request_authentications: Vec<Arc<RequestAuthentication>>,
    pub(crate) mesh_policies: Vec<Arc<MeshPolicy>>,
}

impl Models {
    pub(crate) fn push(&mut self, model: &Model) {
        match model {
            Model::VirtualService(model) => self.virtual_services.push(Arc::clone(model)),
            Model::DestinationRule(model) => self.destination_rules.push(Arc::clone(model)),
            Model::HttpRoute(model) => self.gateway_routes.http.push(Arc::clone(model)),
            Model::GrpcRoute(model) => self.gateway_routes.grpc.push(Arc::clone(model)),
            Model::ReferenceGrant(model) => self.gateway_routes.grants.push(Arc::clone(model)),
            Model::Service(model) => self.sources.services.push(Arc::clone(model)),
            Model::ServiceEntry(model) => self.sources.service_entries.push(Arc::clone(model)),
            Model::WorkloadEntry(model) => self.sources.workload_entries.push(Arc::clone(model)),
            Model::EndpointSlice(model) => self.sources.endpoint_slices.push(Arc::clone(model)),
            Model::Node(model) => self.sources.nodes.push(Arc::clone(model)),
            Model::Pod(model) => self.sources.pods.push(Arc::clone(model)),
            Model::PeerAuthentication(model) => self.peer_authentications.push(Arc::clone(model)),
            Model::AuthorizationPolicy(model) => self.authorization_policies.push(Arc::clone(model)),
            Model::RequestAuthentication(model) => self.request_authentications.push(Arc::clone(model)),
            Model::MeshConfig(model) => self.mesh = Arc::clone(model),
            Model::MeshPolicy(model) => self.mesh_policies.push(Arc::clone(model)),
        }
    }
}
