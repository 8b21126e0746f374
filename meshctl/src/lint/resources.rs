//! Objects by kind, and what is looked up in them: hosts and workloads. Built once, read by every analyzer.

use std::collections::HashMap;

use mesh_core::config::{Document, Node};

use super::{
    hosts::Hosts,
    view::{View as _, spec},
    workloads::Workloads,
};

/// A group and a kind in it.
pub(super) type Kind = (&'static str, &'static str);

pub(super) const VIRTUAL_SERVICE: Kind = ("networking.istio.io", "VirtualService");
pub(super) const DESTINATION_RULE: Kind = ("networking.istio.io", "DestinationRule");
pub(super) const SERVICE_ENTRY: Kind = ("networking.istio.io", "ServiceEntry");
pub(super) const WORKLOAD_ENTRY: Kind = ("networking.istio.io", "WorkloadEntry");
pub(super) const GATEWAY: Kind = ("networking.istio.io", "Gateway");
pub(super) const SIDECAR: Kind = ("networking.istio.io", "Sidecar");
pub(super) const AUTHORIZATION_POLICY: Kind = ("security.istio.io", "AuthorizationPolicy");
pub(super) const PEER_AUTHENTICATION: Kind = ("security.istio.io", "PeerAuthentication");
pub(super) const REQUEST_AUTHENTICATION: Kind = ("security.istio.io", "RequestAuthentication");
pub(super) const TELEMETRY: Kind = ("telemetry.istio.io", "Telemetry");
pub(super) const WASM_PLUGIN: Kind = ("extensions.istio.io", "WasmPlugin");
pub(super) const KUBERNETES_GATEWAY: Kind = ("gateway.networking.k8s.io", "Gateway");
pub(super) const HTTP_ROUTE: Kind = ("gateway.networking.k8s.io", "HTTPRoute");
pub(super) const GRPC_ROUTE: Kind = ("gateway.networking.k8s.io", "GRPCRoute");
pub(super) const MESH_POLICY: Kind = ("mesh.rs", "MeshPolicy");
pub(super) const REFERENCE_GRANT: Kind = ("gateway.networking.k8s.io", "ReferenceGrant");
pub(super) const SERVICE: Kind = ("", "Service");
pub(super) const POD: Kind = ("", "Pod");
pub(super) const NODE: Kind = ("", "Node");
pub(super) const NAMESPACE: Kind = ("", "Namespace");
const MESH_CONFIG: Kind = ("", "MeshConfig");

/// Objects, and the indices over them.
pub(super) struct Resources<'a> {
    all: &'a [Document],
    kinds: HashMap<(&'a str, &'a str), Vec<&'a Document>>,
    pub(super) hosts: Hosts<'a>,
    pub(super) workloads: Workloads<'a>,
}

impl<'a> Resources<'a> {
    pub(super) fn new(all: &'a [Document]) -> Self {
        let mut kinds: HashMap<_, Vec<_>> = HashMap::new();
        for document in all {
            kinds.entry((document.group(), document.kind())).or_default().push(document);
        }
        let mut resources = Self { all, kinds, hosts: Hosts::default(), workloads: Workloads::default() };
        resources.hosts = Hosts::new(&resources);
        resources.workloads = Workloads::new(&resources);
        resources
    }

    /// Every object, in the order of files.
    pub(super) fn all(&self) -> &'a [Document] {
        self.all
    }

    /// Those of a kind.
    pub(super) fn of(&self, kind: Kind) -> &[&'a Document] {
        self.kinds.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Those of a kind with their specs.
    pub(super) fn specs(&self, kind: Kind) -> impl Iterator<Item = (&'a Document, &'a Node)> {
        self.of(kind).iter().map(|document| (*document, spec(document)))
    }

    /// The `mesh:` document's settings.
    pub(super) fn mesh(&self) -> Option<&'a Node> {
        self.specs(MESH_CONFIG).map(|(_, spec)| spec).next()
    }

    /// The namespace whose policies hold everywhere.
    pub(super) fn root_namespace(&self) -> &'a str {
        self.mesh().map(|mesh| mesh.text("rootNamespace")).filter(|name| !name.is_empty()).unwrap_or("istio-system")
    }
}
