//! Kubernetes `EndpointSlice` documents (`discovery.k8s.io/v1`): the addresses that answer for a Service.
//!
//! Several slices belong to one Service, by label. An endpoint may stand in two of them while Kubernetes moves it, so what
//! a Service has is all of them without duplicates ([`slices`](super::slices)).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    HostPattern,
    config::{Document, Field, Issues, Topic, fields},
};

/// The label that names the slice's Service, one of its namespace.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Addresses of one Service with the ports that they answer on.
#[derive(Clone, Debug)]
pub struct EndpointSlice {
    pub(super) namespace: Arc<str>,
    /// `None`: nobody's.
    pub(super) service: Option<Arc<str>>,
    pub(super) ports: Vec<SlicePort>,
    pub(super) addresses: Vec<Address>,
}

/// A port, by the name that it has in the Service.
#[derive(Clone, Debug)]
pub(super) struct SlicePort {
    pub(super) name: Arc<str>,
    pub(super) number: u16,
}

/// One address of an endpoint.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) address: Arc<str>,
    pub(super) ready: bool,
    pub(super) zone: Option<Arc<str>>,
    pub(super) node: Option<Arc<str>>,
    /// The pod behind it, with its namespace.
    pub(super) pod: Option<(Arc<str>, Arc<str>)>,
}

/// It has no spec: its fields are the document's own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    api_version: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    metadata: Option<IgnoredAny>,
    address_type: Option<AddressType>,
    endpoints: Vec<Endpoint>,
    ports: Vec<Port>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum AddressType {
    IPv4,
    IPv6,
    #[serde(rename = "FQDN")]
    Fqdn,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Conditions,
    node_name: Option<String>,
    zone: Option<String>,
    target_ref: Option<TargetRef>,
    hostname: Option<IgnoredAny>,
    /// For kube-proxy; Istio's localityLbSetting and trafficDistribution decide from the zone.
    hints: Option<IgnoredAny>,
    deprecated_topology: BTreeMap<String, IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<IgnoredAny>,
    terminating: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TargetRef {
    kind: String,
    name: String,
    namespace: Option<String>,
    api_version: Option<IgnoredAny>,
    field_path: Option<IgnoredAny>,
    resource_version: Option<IgnoredAny>,
    uid: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
    protocol: Option<String>,
    /// What is spoken is the Service's to say.
    app_protocol: Option<IgnoredAny>,
}

impl EndpointSlice {
    /// The group whose documents of this kind have no spec.
    pub const GROUP: &str = "discovery.k8s.io";
    /// Its kind.
    pub const KIND: &str = "EndpointSlice";

    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Spec>()
    }

    /// Read a document. Errors become issues and `None`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: Spec = document.decode(issues)?;
        let before = issues.errors().count();
        let Some(kind) = spec.address_type else {
            issues.push(document.error("addressType", "addressType is required: IPv4, IPv6 or FQDN"));
            return None;
        };
        let namespace = Arc::clone(document.namespace());
        let mut addresses = Vec::with_capacity(spec.endpoints.len());
        for (index, endpoint) in spec.endpoints.iter().enumerate() {
            let path = format!("endpoints[{index}].addresses");
            // kubernetes validateEndpoints: "must contain at least 1 address".
            if endpoint.addresses.is_empty() {
                issues.push(document.error(&*path, "an endpoint must contain at least 1 address"));
            }
            for (nth, address) in endpoint.addresses.iter().enumerate() {
                if let Err(message) = check(kind, address) {
                    issues.push(document.error(format!("{path}[{nth}]"), message));
                }
                addresses.push(read(endpoint, address, &namespace));
            }
        }
        let service = document.labels().get(SERVICE_NAME).filter(|name| !name.is_empty());
        if service.is_none() {
            let message = format!("no label {SERVICE_NAME}: its endpoints are no service's");
            issues.push(document.warning("", message).about(Topic::NotEnforced));
        }
        let service = service.map(|name| name.to_ascii_lowercase().into());
        let ports = read_ports(&spec.ports, document, issues);
        (issues.errors().count() == before).then_some(Self { namespace, service, ports, addresses })
    }
}

/// kubernetes validateEndpoints: an address is of the slice's type.
fn check(kind: AddressType, address: &str) -> Result<(), String> {
    let ip: Option<IpAddr> = address.parse().ok();
    match (kind, ip) {
        (AddressType::IPv4, Some(ip)) if ip.is_ipv4() => Ok(()),
        (AddressType::IPv6, Some(ip)) if ip.is_ipv6() => Ok(()),
        (AddressType::IPv4, _) => Err(format!("{address:?} is not a valid IPv4 address")),
        (AddressType::IPv6, _) => Err(format!("{address:?} is not a valid IPv6 address")),
        (AddressType::Fqdn, None) => match HostPattern::parse_domain(address) {
            Ok(HostPattern::Exact(_)) => Ok(()),
            _ => Err(format!("{address:?} is not a fully qualified domain name")),
        },
        (AddressType::Fqdn, Some(_)) => Err(format!("{address:?} is not a fully qualified domain name")),
    }
}

fn read(endpoint: &Endpoint, address: &str, namespace: &Arc<str>) -> Address {
    let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Arc::from);
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod");
    let pod = pod.map(|target| {
        let of = target.namespace.as_deref().map_or_else(|| Arc::clone(namespace), Arc::from);
        (of, Arc::from(target.name.as_str()))
    });
    Address {
        address: address.to_ascii_lowercase().into(),
        // discovery/v1 EndpointConditions.ready: "A nil value should be interpreted as \"true\"." It is false for what is
        // terminating.
        ready: endpoint.conditions.ready.unwrap_or(true),
        zone: text(&endpoint.zone),
        node: text(&endpoint.node_name),
        pod,
    }
}

/// discovery/v1 EndpointPort.port: "If this is not specified, ports are not restricted and must be interpreted in the
/// context of the specific consumer": istio buildEndpointSlice passes over it.
fn read_ports(ports: &[Port], document: &Document, issues: &mut Issues) -> Vec<SlicePort> {
    let mut read = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        if port.port == Some(0) {
            let message = "port number 0 must be in the range 1..65535";
            issues.push(document.error(format!("ports[{index}].port"), message));
        }
        match port.protocol.as_deref() {
            None | Some("TCP") => {}
            // UDP and SCTP ports are not the mesh's, as in Istio.
            Some("UDP" | "SCTP") => continue,
            Some(other) => {
                let message = format!("unknown protocol {other:?}: TCP, UDP or SCTP");
                issues.push(document.error(format!("ports[{index}].protocol"), message));
            }
        }
        let name = port.name.as_deref().unwrap_or_default().into();
        read.extend(port.port.map(|number| SlicePort { name, number }));
    }
    read
}
