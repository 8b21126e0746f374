//! A service: a host, its ports and the workloads behind it.

use std::{net::IpAddr, sync::Arc};

use crate::{
    Endpoint, EndpointAddress, EndpointTls, HostPattern, Labels, ServiceName, Workload,
    config::{Document, Issues, ObjectRef},
    host::is_dns_label,
    identity::TrustDomain,
};

use super::{
    WorkloadEntry,
    slices::{self, Sliced},
};

/// A service of the registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Service {
    /// Its names.
    pub name: ServiceName,
    /// The Kubernetes Service or ServiceEntry that it is from.
    pub object: ObjectRef,
    /// The host as a pattern: a ServiceEntry may have a wildcard.
    pub pattern: HostPattern,
    /// Its ports, in the order written.
    pub ports: Vec<ServicePort>,
    /// Inside or outside of the mesh.
    pub location: Location,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// ServiceEntry.subjectAltNames: identities its endpoints may have.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Virtual addresses: hosts by which it is called as well.
    pub addresses: Vec<IpAddr>,
    /// Kubernetes' ExternalName services that stand for it.
    pub aliases: Vec<ServiceName>,
    /// Who may see it.
    pub export_to: Visibility,
    /// Which endpoints its clients prefer.
    pub traffic_distribution: TrafficDistribution,
    pub(super) selector: Option<Labels>,
    pub(super) backends: Vec<Backend>,
    pub(super) trust_domain: TrustDomain,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServicePort {
    /// The number callers use.
    pub number: u16,
    /// Its name.
    pub name: Arc<str>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The endpoint's port, where it differs and the workload does not say.
    pub target: Option<TargetPort>,
}

/// Kubernetes' targetPort: a number or the name of a container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// A name, looked up in the workload's ports.
    Name(Arc<str>),
}

/// A workload behind a service, not yet narrowed to a port.
#[derive(Clone, Debug)]
pub(super) enum Backend {
    /// A workload entry, alone or inside a ServiceEntry.
    Workload(Arc<WorkloadEntry>),
    /// An address of an EndpointSlice.
    Sliced(Arc<Sliced>),
    /// The service's own host, for DNS without endpoints.
    Host(Arc<str>),
}

/// What is spoken on a port (Istio's explicit protocol selection).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC: HTTP/2.
    Grpc,
    /// TLS that carries HTTP; not terminated in the mesh unless a DestinationRule originates it.
    Https,
    /// TLS of any kind.
    Tls,
    /// Bytes.
    Tcp,
    /// Not declared: the caller's own version is used.
    #[default]
    Unspecified,
}

impl Protocol {
    /// istio "Protocol selection": the name is `<protocol>[-<suffix>]`; appProtocol uses the same words.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        if lower == "grpc-web" || lower.starts_with("grpc-web-") {
            return Self::Http;
        }
        match lower.split('-').next().unwrap_or_default() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" | "mongo" | "mysql" | "redis" => Self::Tcp,
            _ => Self::Unspecified,
        }
    }
}

/// ServiceEntry.location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Location {
    /// Outside: plaintext unless a DestinationRule says otherwise.
    #[default]
    MeshExternal,
    /// Inside: mutual TLS with mesh identity unless policy says otherwise.
    MeshInternal,
}

/// ServiceEntry.resolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// The address that the caller dialled.
    #[default]
    None,
    /// The endpoints' addresses as written.
    Static,
    /// All addresses of the endpoints' names.
    Dns,
    /// The first address of the name, asked anew for new connections.
    DnsRoundRobin,
}

/// Kubernetes' `trafficDistribution`, and Istio's annotation of the same name for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrafficDistribution {
    /// All alike.
    #[default]
    Any,
    /// Those in the client's zone; then its region, its network, the rest.
    PreferSameZone,
    /// Those on the client's node; then its subzone, zone, region, network, the rest.
    PreferSameNode,
}

impl TrafficDistribution {
    /// istio model.GetTrafficDistribution: what the spec says, else the annotation, in any case; PreferClose is the
    /// older name of PreferSameZone.
    ///
    /// # Errors
    /// The text that is neither.
    pub(super) fn read(spec: Option<&str>, document: &Document) -> Result<Self, String> {
        let annotation = document.annotations().get("networking.istio.io/traffic-distribution");
        let Some(text) = spec.or(annotation) else { return Ok(Self::Any) };
        match text.to_ascii_lowercase().as_str() {
            "prefersamezone" | "preferclose" => Ok(Self::PreferSameZone),
            "prefersamenode" => Ok(Self::PreferSameNode),
            "" | "any" => Ok(Self::Any),
            _ => Err(text.to_owned()),
        }
    }

    /// As `read`; anything else is reported, and all endpoints are alike.
    pub(super) fn of(spec: Option<&str>, document: &Document, issues: &mut Issues) -> Self {
        Self::read(spec, document).unwrap_or_else(|text| {
            let message = format!("{text:?} is not enforced: PreferSameZone, PreferSameNode or PreferClose");
            issues.push(document.warning(if spec.is_some() { "trafficDistribution" } else { "" }, message));
            Self::Any
        })
    }
}

/// `exportTo`: the namespaces that see an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// `*`, the default.
    #[default]
    Public,
    /// `.`, or the object's own namespace and nothing else.
    Private,
    /// Named namespaces; `.` among them is the object's own.
    Namespaces(Vec<Arc<str>>),
    /// `~`: nobody.
    Nobody,
}

impl Visibility {
    /// Read an `exportTo` list. istio: "The value '.' is reserved and defines an export to the same namespace";
    /// "'*' … to all namespaces"; empty means all.
    ///
    /// # Errors
    /// Istio's validation text, when the list contradicts itself.
    pub fn parse(export_to: &[String], own: &str) -> Result<Self, String> {
        for (index, entry) in export_to.iter().enumerate() {
            if export_to[..index].contains(entry) {
                return Err(format!("duplicate entries in exportTo for entry {entry}"));
            }
        }
        if export_to.len() > 1 && export_to.iter().any(|entry| entry == "*") {
            return Err("cannot have both public (*) and non-public exportTo values for a resource".into());
        }
        if export_to.len() > 1 && export_to.iter().any(|entry| entry == "~") {
            return Err("cannot export service entry to no one (~) and someone".into());
        }
        // istio visibility.Instance.Validate
        let named = |entry: &&String| !matches!(entry.as_str(), "*" | "." | "~");
        if let Some(entry) = export_to.iter().filter(named).find(|entry| !is_dns_label(entry) || entry.contains('_')) {
            return Err(format!("only .,*, or a valid DNS 1123 label is allowed as exportTo entry, not {entry:?}"));
        }
        Ok(match export_to {
            [] => Self::Public,
            [one] if one == "*" => Self::Public,
            [one] if one == "~" => Self::Nobody,
            [one] if one == "." || one == own => Self::Private,
            many => Self::Namespaces(
                many.iter().map(|ns| if ns == "." { own.into() } else { ns.as_str().into() }).collect(),
            ),
        })
    }

    /// Does a client in `client` see an object of namespace `own`?
    #[must_use]
    pub fn includes(&self, own: &str, client: &str) -> bool {
        match self {
            Self::Public => true,
            Self::Private => own == client,
            Self::Namespaces(namespaces) => namespaces.iter().any(|ns| **ns == *client),
            Self::Nobody => false,
        }
    }
}

impl Service {
    /// The port with this number.
    #[must_use]
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Does its selector pick a workload?
    #[must_use]
    pub fn selects(&self, workload: &Workload) -> bool {
        let selector = self.selector.as_ref().filter(|selector| !selector.is_empty());
        self.name.namespace == workload.namespace && selector.is_some_and(|labels| workload.labels.contains_all(labels))
    }

    /// The endpoints that answer on a port; empty for a port that the service does not have.
    #[must_use]
    pub fn endpoints(&self, port: u16) -> Vec<Arc<Endpoint>> {
        let Some(port) = self.port(port) else { return Vec::new() };
        let endpoints = self.backends.iter().filter_map(|backend| self.endpoint(backend, port).map(Arc::new)).collect();
        match self.backends.iter().any(|backend| matches!(backend, Backend::Sliced(_))) {
            true => slices::once(endpoints),
            false => endpoints,
        }
    }

    /// `None`: it does not have the port.
    fn endpoint(&self, backend: &Backend, port: &ServicePort) -> Option<Endpoint> {
        Some(match backend {
            Backend::Host(host) => {
                Endpoint::new(EndpointAddress::new(host, port.target_number().unwrap_or(port.number)))
            }
            Backend::Sliced(sliced) => return sliced.endpoint(port, &self.trust_domain),
            Backend::Workload(entry) => {
                let mut endpoint = Endpoint::new(EndpointAddress::new(&entry.address, entry.port_for(port)));
                endpoint.labels = Arc::clone(&entry.labels);
                endpoint.weight = entry.weight;
                endpoint.locality = Arc::clone(&entry.locality);
                endpoint.workload = entry.workload_name();
                endpoint.namespace = Some(Arc::clone(&entry.namespace));
                endpoint.identity = entry.identity(&self.trust_domain);
                endpoint.tls = match (self.location, entry.labels.get("security.istio.io/tlsMode")) {
                    (Location::MeshExternal, _) | (_, Some("disabled")) => EndpointTls::Disabled,
                    (Location::MeshInternal, _) => EndpointTls::Istio,
                };
                endpoint
            }
        })
    }
}

impl ServicePort {
    pub(super) fn target_number(&self) -> Option<u16> {
        match self.target {
            Some(TargetPort::Number(number)) => Some(number),
            _ => None,
        }
    }
}
