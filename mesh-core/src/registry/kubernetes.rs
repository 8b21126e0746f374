//! Kubernetes `Service` documents.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Location, Protocol, Resolution, Service, ServicePort, TrafficDistribution, Visibility,
    service::{Backend, TargetPort},
    slices::Slices,
    workloads::Workloads,
};
use crate::{
    HostPattern, Labels, ServiceName,
    config::{Document, Field, Issues, ObjectRef, fields},
    identity::TrustDomain,
    service_host,
};

/// A Kubernetes service: its endpoint slices say which addresses it has, and its selector picks workload entries of its
/// namespace. A headless one (`clusterIP: None`) is no other.
#[derive(Clone, Debug)]
pub struct KubernetesService {
    object: ObjectRef,
    name: ServiceName,
    ports: Vec<ServicePort>,
    selector: Labels,
    addresses: Vec<IpAddr>,
    export_to: Visibility,
    traffic_distribution: TrafficDistribution,
    /// Of an ExternalName: the host that it is another name of.
    alias_of: Option<Arc<str>>,
    publish_not_ready: bool,
}

/// Fields as kubectl prints them. Those that Istio's sidecars do not look at are taken as they come.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    ports: Vec<Port>,
    selector: Labels,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    external_name: Option<String>,
    traffic_distribution: Option<String>,
    publish_not_ready_addresses: bool,
    #[serde(rename = "externalIPs")]
    external_ips: Option<IgnoredAny>,
    external_traffic_policy: Option<IgnoredAny>,
    internal_traffic_policy: Option<IgnoredAny>,
    ip_families: Option<IgnoredAny>,
    ip_family_policy: Option<IgnoredAny>,
    session_affinity: Option<IgnoredAny>,
    session_affinity_config: Option<IgnoredAny>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<IgnoredAny>,
    load_balancer_class: Option<IgnoredAny>,
    load_balancer_source_ranges: Option<IgnoredAny>,
    allocate_load_balancer_node_ports: Option<IgnoredAny>,
    health_check_node_port: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Port {
    name: String,
    port: u16,
    protocol: Option<String>,
    app_protocol: Option<String>,
    target_port: Option<IntOrString>,
    node_port: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum IntOrString {
    Int(u16),
    String(String),
}

impl KubernetesService {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Spec>()
    }

    /// Read a document. Errors become issues and `None`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: Spec = document.decode(issues)?;
        let before = issues.errors().count();
        let ports = read_ports(&spec.ports, document, issues);
        let own = document.namespace();
        let export: Vec<String> = document
            .annotations()
            .get("networking.istio.io/exportTo")
            .map(|list| list.split(',').map(|ns| ns.trim().to_owned()).collect())
            .unwrap_or_default();
        let export_to = Visibility::parse(&export, own).unwrap_or_else(|message| {
            issues.push(document.error("", message));
            Visibility::Nobody
        });
        let traffic_distribution = TrafficDistribution::of(spec.traffic_distribution.as_deref(), document, issues);
        let alias_of = match (spec.kind.as_deref(), spec.external_name.as_deref()) {
            (Some("ExternalName"), None | Some("")) => {
                issues
                    .push(document.error("externalName", "externalName is required of a service of type ExternalName"));
                None
            }
            (Some("ExternalName"), Some(name)) => Some(name.trim_end_matches('.').to_ascii_lowercase().into()),
            _ => None,
        };
        let host = service_host(&document.name().to_ascii_lowercase(), own);
        let addresses = spec.cluster_ips.iter().chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok());
        let addresses: HashSet<IpAddr> = addresses.collect();
        (issues.errors().count() == before).then(|| Self {
            object: document.object().clone(),
            name: ServiceName::of_host(&host, own),
            ports,
            selector: spec.selector,
            addresses: addresses.into_iter().collect(),
            export_to,
            traffic_distribution,
            alias_of,
            publish_not_ready: spec.publish_not_ready_addresses,
        })
    }

    /// The name of a service that is only another name, and whose.
    pub(super) fn alias(&self) -> Option<(&ServiceName, &Arc<str>)> {
        self.alias_of.as_ref().map(|of| (&self.name, of))
    }

    pub(super) fn is_visible(&self, client: &str) -> bool {
        self.export_to.includes(&self.name.namespace, client)
    }

    pub(super) fn build(&self, workloads: &Workloads<'_>, slices: &Slices<'_>, trust_domain: &TrustDomain) -> Service {
        let sliced = slices.of(&self.name.namespace, &self.name.name, self.publish_not_ready);
        // Kubernetes: a service without a selector selects nothing.
        let selector = Some(&self.selector).filter(|selector| !selector.is_empty());
        let selected = selector.into_iter().flat_map(|selector| workloads.select(&self.name.namespace, selector));
        let selected = selected.filter(|entry| entry.is_dialled());
        Service {
            name: self.name.clone(),
            object: self.object.clone(),
            pattern: HostPattern::Exact(Arc::clone(&self.name.host)),
            ports: self.ports.clone(),
            location: Location::MeshInternal,
            resolution: Resolution::Static,
            subject_alt_names: Vec::new(),
            addresses: self.addresses.clone(),
            aliases: Vec::new(),
            export_to: self.export_to.clone(),
            traffic_distribution: self.traffic_distribution,
            selector: Some(self.selector.clone()),
            backends: (sliced.into_iter().map(Backend::Sliced))
                .chain(selected.map(|entry| Backend::Workload(Arc::clone(entry))))
                .collect(),
            trust_domain: trust_domain.clone(),
        }
    }
}

fn read_ports(ports: &[Port], document: &Document, issues: &mut Issues) -> Vec<ServicePort> {
    let mut seen = HashSet::new();
    let mut read = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        if port.port == 0 {
            let message = "port number 0 must be in the range 1..65535";
            issues.push(document.error(format!("ports[{index}].port"), message));
        }
        if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            // UDP and SCTP ports are not the mesh's, as in Istio.
            continue;
        }
        if !seen.insert(port.port) {
            let message = format!("port {} already defined", port.port);
            issues.push(document.error(format!("ports[{index}].port"), message));
        }
        let declared = port.app_protocol.as_deref().unwrap_or(&port.name);
        read.push(ServicePort {
            number: port.port,
            name: port.name.as_str().into(),
            protocol: Protocol::from_name(declared.strip_prefix("kubernetes.io/").unwrap_or(declared)),
            target: port.target_port.as_ref().map(|target| match target {
                IntOrString::Int(number) => TargetPort::Number(*number),
                IntOrString::String(name) => TargetPort::Name(name.as_str().into()),
            }),
        });
    }
    read
}
