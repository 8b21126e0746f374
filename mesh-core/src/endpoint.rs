//! Endpoints: one network address that answers for a service.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{Labels, Locality, identity::SpiffeId};

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// An IP address and port: dialled as it is.
    Socket(SocketAddr),
    /// A name and port: resolved when it is dialled (the address a caller asked for, on passthrough).
    Name(Arc<str>, u16),
}

impl EndpointAddress {
    /// An IP address where `host` is one, a name otherwise.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Self::Socket(SocketAddr::new(ip, port)),
            Err(_) => Self::Name(host.into(), port),
        }
    }

    /// The host: a name, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> Cow<'_, str> {
        match self {
            Self::Socket(address) => Cow::Owned(address.ip().to_string()),
            Self::Name(host, _) => Cow::Borrowed(host),
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Socket(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }
}

impl From<SocketAddr> for EndpointAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// What an endpoint expects on its port (Istio's label `security.istio.io/tlsMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EndpointTls {
    /// In the mesh: mutual TLS with mesh identity, unless policy says otherwise.
    #[default]
    Istio,
    /// Labelled `security.istio.io/tlsMode: disabled`, or outside the mesh: plaintext unless a
    /// DestinationRule says otherwise.
    Disabled,
}

/// An endpoint of a service: an address with what the registry knows of the workload behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Labels of the workload: subsets select on them.
    pub labels: Arc<Labels>,
    /// Load-balancing weight, relative to the cluster's other endpoints; 1 when not given.
    pub weight: u32,
    /// `region/zone/subzone`, empty when not known.
    pub locality: Arc<str>,
    /// The identity its certificate must carry, where the registry knows its service account.
    pub identity: Option<SpiffeId>,
    /// Mutual TLS or plaintext.
    pub tls: EndpointTls,
    /// The workload's name and namespace where known, for telemetry.
    pub workload: Option<Arc<str>>,
    /// The namespace of the workload, for telemetry.
    pub namespace: Option<Arc<str>>,
}

impl Endpoint {
    /// An endpoint of weight 1 with no labels and no identity, outside the mesh.
    #[must_use]
    pub fn new(address: impl Into<EndpointAddress>) -> Self {
        Self {
            address: address.into(),
            labels: Arc::default(),
            weight: 1,
            locality: Arc::from(""),
            identity: None,
            tls: EndpointTls::Disabled,
            workload: None,
            namespace: None,
        }
    }

    /// With these labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = Arc::new(labels);
        self
    }

    /// With this load-balancing weight.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Running here.
    #[must_use]
    pub fn with_locality(mut self, locality: &Locality) -> Self {
        self.locality = locality.to_string().into();
        self
    }

    /// In the mesh, with this identity.
    #[must_use]
    pub fn with_identity(mut self, identity: SpiffeId) -> Self {
        self.identity = Some(identity);
        self.tls = EndpointTls::Istio;
        self
    }
}
