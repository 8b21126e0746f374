//! Kubernetes `Pod` and `Node` documents: who is behind an address of an EndpointSlice, and where.

use std::{net::IpAddr, sync::Arc};

use serde::Deserialize;

use crate::{
    Labels,
    config::{self, Document, Field, Issues, Value, fields},
};

/// A pod's labels and service account, as endpoints take them over. It is not an endpoint itself: which pods answer for a
/// service, and whether they are ready, is what EndpointSlices say.
#[derive(Clone, Debug)]
pub struct Pod {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) labels: Arc<Labels>,
    pub(super) service_account: Arc<str>,
    pub(super) node: Option<Arc<str>>,
    pub(super) addresses: Vec<IpAddr>,
}

/// A node's labels: its region and zone, which an EndpointSlice says in part.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) name: Arc<str>,
    pub(super) labels: Labels,
}

impl Node {
    /// Read a document. Errors become issues and `None`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        document.decode::<Ignored>(issues)?;
        Some(Self { name: Arc::clone(document.name()), labels: document.labels().clone() })
    }
}

/// Nothing of a node's spec is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ignored {}

/// Of all that a pod's spec has, what says who it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    service_account_name: Option<String>,
    node_name: Option<String>,
    host_network: bool,
}

impl Pod {
    /// The fields of its spec that are looked at.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Spec>()
    }

    /// Read a document. Errors become issues and `None`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: Spec = document.decode(issues)?;
        // core/v1 PodSpec.serviceAccountName: the admission controller writes "default" where it is not given.
        let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        // istio PodCache: a pod on its host's network shares the address, which then says nothing of who it is.
        let addresses = if spec.host_network || is_over(document) { Vec::new() } else { addresses(document) };
        Some(Self {
            namespace: Arc::clone(document.namespace()),
            name: Arc::clone(document.name()),
            labels: Arc::new(document.labels().clone()),
            service_account: account.into(),
            node: spec.node_name.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
            addresses,
        })
    }
}

/// istio shouldPodBeInEndpoints, IsPodPhaseTerminal: of a pod whose phase is Failed or Succeeded the address is another's
/// by now, or may be soon.
fn is_over(document: &Document) -> bool {
    let phase = document.root().get("status").and_then(|status| status.get("phase")?.as_str());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// `status.podIP` and `status.podIPs`: what Kubernetes wrote, or nothing.
fn addresses(document: &Document) -> Vec<IpAddr> {
    let Some(status) = document.root().get("status") else { return Vec::new() };
    let more: &[config::Node] = match status.get("podIPs").map(|node| &node.value) {
        Some(Value::Sequence(ips)) => ips,
        _ => &[],
    };
    let all = status.get("podIP").into_iter().chain(more.iter().filter_map(|ip| ip.get("ip")));
    let mut addresses: Vec<IpAddr> = all.filter_map(|node| node.as_str()?.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
