//! ServiceEntry: services that Kubernetes does not know.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use serde::Deserialize;

use super::{
    Location, Protocol, Resolution, Service, ServicePort, TrafficDistribution, Visibility, WorkloadEntry,
    service::{Backend, TargetPort},
    workload_entry::{self, field_error},
    workloads::Workloads,
};
use crate::{
    HostPattern, Labels, ServiceName,
    config::{Document, Field, Issues, ObjectRef, Topic, fields},
    identity::TrustDomain,
};

/// Hosts with ports and endpoints (istio networking/v1alpha3 ServiceEntry).
#[derive(Clone, Debug)]
pub struct ServiceEntry {
    object: ObjectRef,
    namespace: Arc<str>,
    hosts: Vec<HostPattern>,
    addresses: Vec<IpAddr>,
    ports: Vec<ServicePort>,
    location: Location,
    resolution: Resolution,
    endpoints: Vec<Arc<WorkloadEntry>>,
    selector: Option<Labels>,
    export_to: Visibility,
    traffic_distribution: TrafficDistribution,
    subject_alt_names: Vec<Arc<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    hosts: Vec<String>,
    addresses: Vec<String>,
    ports: Vec<Port>,
    location: SpecLocation,
    resolution: SpecResolution,
    endpoints: Vec<workload_entry::Spec>,
    workload_selector: Option<Selector>,
    export_to: Vec<String>,
    subject_alt_names: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Port {
    number: u16,
    protocol: String,
    name: String,
    target_port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Selector {
    labels: Labels,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum SpecLocation {
    #[default]
    MeshExternal,
    MeshInternal,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum SpecResolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

impl ServiceEntry {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Spec>()
    }

    /// Read a document. Errors become issues and `None`. Messages are Istio's.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: Spec = document.decode(issues)?;
        let before = issues.errors().count();
        let namespace = document.namespace();
        let hosts = read_hosts(&spec, document, issues);
        let ports = read_ports(&spec.ports, document, issues);
        let addresses = read_addresses(&spec, document, issues);
        // istio ValidateServiceEntry: "for plain TCP there is no way to differentiate between the hosts".
        let named = |port: &ServicePort| !matches!(port.protocol, Protocol::Tcp | Protocol::Unspecified);
        if !matches!(spec.resolution, SpecResolution::None) && spec.hosts.len() > 1 && !ports.iter().all(named) {
            issues.push(document.error("hosts", "multiple hosts provided with non-HTTP, non-TLS ports"));
        }
        let resolution = read_resolution(&spec, document, issues);
        let export_to = Visibility::parse(&spec.export_to, namespace).unwrap_or_else(|message| {
            issues.push(document.error("exportTo", message));
            Visibility::Nobody
        });
        let mut endpoints = Vec::with_capacity(spec.endpoints.len());
        for (index, endpoint) in spec.endpoints.into_iter().enumerate() {
            let path = format!("endpoints[{index}]");
            for name in endpoint.ports.keys() {
                if !spec.ports.iter().any(|port| port.name == *name) {
                    let message = format!("endpoint port {name} is not defined by the service entry");
                    issues.push(document.error(format!("{path}.ports.{name}"), message));
                }
            }
            let socket = endpoint.address.starts_with("unix://");
            if matches!(spec.resolution, SpecResolution::Static)
                && !socket
                && endpoint.address.parse::<IpAddr>().is_err()
            {
                let message = format!("endpoint address {:?} is not a valid IP address", endpoint.address);
                issues.push(field_error(document, &path, "address", message));
            }
            let entry = WorkloadEntry::validate(endpoint, namespace, &Arc::from(""), &path, document, issues);
            endpoints.push(Arc::new(entry));
        }
        (issues.errors().count() == before).then(|| Self {
            object: document.object().clone(),
            namespace: Arc::clone(namespace),
            hosts,
            addresses,
            ports,
            location: match spec.location {
                SpecLocation::MeshExternal => Location::MeshExternal,
                SpecLocation::MeshInternal => Location::MeshInternal,
            },
            resolution,
            endpoints,
            selector: spec.workload_selector.map(|selector| selector.labels),
            export_to,
            traffic_distribution: TrafficDistribution::of(None, document, issues),
            subject_alt_names: spec.subject_alt_names.iter().map(|name| name.as_str().into()).collect(),
        })
    }

    /// The namespace it stands in.
    pub(super) fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// One service for each host.
    pub(super) fn build(&self, workloads: &Workloads<'_>, trust_domain: &TrustDomain) -> Vec<Service> {
        let selected: Vec<Backend> = match &self.selector {
            Some(selector) => {
                let dialled = workloads.select(&self.namespace, selector).filter(|entry| entry.is_dialled());
                dialled.map(|entry| Backend::Workload(Arc::clone(entry))).collect()
            }
            None => {
                let dialled = self.endpoints.iter().filter(|entry| entry.is_dialled());
                dialled.map(|entry| Backend::Workload(Arc::clone(entry))).collect()
            }
        };
        let dns = matches!(self.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        self.hosts
            .iter()
            .map(|pattern| {
                let host = pattern.to_string();
                // ServiceEntry.endpoints: with DNS and no endpoints "the proxy will use the address … specified in
                // the hosts field".
                let backends = if self.endpoints.is_empty() && dns && self.selector.is_none() {
                    vec![Backend::Host(host.as_str().into())]
                } else {
                    selected.clone()
                };
                Service {
                    name: ServiceName::of_host(&host, &self.namespace),
                    object: self.object.clone(),
                    pattern: pattern.clone(),
                    ports: self.ports.clone(),
                    location: self.location,
                    resolution: self.resolution,
                    subject_alt_names: self.subject_alt_names.clone(),
                    addresses: self.addresses.clone(),
                    aliases: Vec::new(),
                    export_to: self.export_to.clone(),
                    traffic_distribution: self.traffic_distribution,
                    selector: self.selector.clone(),
                    backends,
                    trust_domain: trust_domain.clone(),
                }
            })
            .collect()
    }
}

fn read_hosts(spec: &Spec, document: &Document, issues: &mut Issues) -> Vec<HostPattern> {
    if spec.hosts.is_empty() {
        issues.push(document.error("hosts", "service entry must have at least one host"));
    }
    let dns = matches!(spec.resolution, SpecResolution::Dns | SpecResolution::DnsRoundRobin);
    let mut hosts = Vec::with_capacity(spec.hosts.len());
    for (index, host) in spec.hosts.iter().enumerate() {
        let path = format!("hosts[{index}]");
        match HostPattern::parse_domain(host) {
            Ok(HostPattern::Any) => issues.push(document.error(path, format!("invalid host {host}"))),
            Ok(HostPattern::Suffix(_)) if dns && spec.endpoints.is_empty() && spec.workload_selector.is_none() => {
                let mode = if matches!(spec.resolution, SpecResolution::Dns) { "DNS" } else { "DNS_ROUND_ROBIN" };
                let message = format!("hosts must be FQDN if no endpoints are provided for resolution mode {mode}");
                issues.push(document.error(path, message));
            }
            Ok(pattern) => hosts.push(pattern),
            Err(error) => issues.push(document.error(path, format!("invalid host {host:?}: {error}"))),
        }
    }
    hosts
}

fn read_addresses(spec: &Spec, document: &Document, issues: &mut Issues) -> Vec<IpAddr> {
    let mut read = Vec::new();
    let networks = matches!(spec.resolution, SpecResolution::None | SpecResolution::Static);
    for (index, address) in spec.addresses.iter().enumerate() {
        let path = format!("addresses[{index}]");
        match (address.parse::<IpAddr>(), address.contains('/')) {
            (Ok(ip), _) => read.push(ip),
            (Err(_), true) if !is_network(address) => {
                issues.push(document.error(path, format!("{address:?} is not a valid IP address or CIDR block")));
            }
            (Err(_), true) if !networks => {
                let message = "CIDR addresses are allowed only for NONE/STATIC resolution types";
                issues.push(document.error(path, message));
            }
            (Err(_), true) => {
                let issue = document.warning(path, "a CIDR is read but not enforced in-process");
                issues.push(issue.about(Topic::NotEnforced));
            }
            (Err(_), false) => {
                issues.push(document.error(path, format!("{address:?} is not a valid IP address or CIDR block")));
            }
        }
    }
    read
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn read_resolution(spec: &Spec, document: &Document, issues: &mut Issues) -> Resolution {
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        let message = "only one of WorkloadSelector or Endpoints is allowed in Service Entry";
        issues.push(document.error("workloadSelector", message));
    }
    match spec.resolution {
        SpecResolution::None => {
            if !spec.endpoints.is_empty() {
                let message = "no endpoints should be provided for resolution type none";
                issues.push(document.error("endpoints", message));
            }
            Resolution::None
        }
        SpecResolution::Static => Resolution::Static,
        SpecResolution::Dns => Resolution::Dns,
        SpecResolution::DnsRoundRobin => {
            if spec.endpoints.len() > 1 {
                let message = "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN";
                issues.push(document.error("endpoints", message));
            }
            Resolution::DnsRoundRobin
        }
        SpecResolution::DynamicDns => {
            let message = "DYNAMIC_DNS is not supported: NONE, STATIC, DNS, DNS_ROUND_ROBIN";
            issues.push(document.error("resolution", message).about(Topic::NotEnforced));
            Resolution::None
        }
    }
}

fn read_ports(ports: &[Port], document: &Document, issues: &mut Issues) -> Vec<ServicePort> {
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    let mut read = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        let mut refuse = |field: &str, message: String| -> () {
            issues.push(document.error(format!("ports[{index}].{field}"), message))
        };
        if port.number == 0 {
            refuse("number", "port number 0 must be in the range 1..65535".into());
        }
        if port.name.is_empty() {
            refuse("name", "service entry port name must be set".into());
        } else if !names.insert(port.name.as_str()) {
            refuse("name", format!("service entry port name {:?} already defined", port.name));
        }
        if !numbers.insert(port.number) {
            refuse("number", format!("service entry port {} already defined", port.number));
        }
        let protocol = match port.protocol.to_ascii_uppercase().as_str() {
            "HTTP" | "GRPC-WEB" => Protocol::Http,
            "HTTP2" => Protocol::Http2,
            "GRPC" => Protocol::Grpc,
            "HTTPS" => Protocol::Https,
            "TLS" => Protocol::Tls,
            "TCP" | "MONGO" | "MYSQL" | "REDIS" => Protocol::Tcp,
            "" => Protocol::from_name(&port.name),
            other => {
                refuse("protocol", format!("unsupported protocol: {other}: HTTP, HTTP2, GRPC, HTTPS, TLS, TCP, MONGO"));
                Protocol::Unspecified
            }
        };
        let target = port.target_port.map(TargetPort::Number);
        read.push(ServicePort { number: port.number, name: port.name.as_str().into(), protocol, target });
    }
    read
}
