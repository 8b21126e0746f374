//! Clusters: the named groups of endpoints that routes point at.

use std::{
    fmt,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
};

/// The service behind a cluster, with the names telemetry gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName {
    /// Fully qualified host, lower case: `reviews.default.svc.cluster.local`.
    pub host: Arc<str>,
    /// Short name: `reviews`; the host itself for services outside Kubernetes.
    pub name: Arc<str>,
    /// Namespace of the service.
    pub namespace: Arc<str>,
}

impl ServiceName {
    /// Names of a host. `<name>.<namespace>.svc.<domain>` is taken apart; any other host is its own name, in
    /// `namespace`.
    #[must_use]
    pub fn of_host(host: &str, namespace: &str) -> Self {
        let mut parts = host.splitn(4, '.');
        if let (Some(name), Some(ns), Some("svc"), Some(_)) = (parts.next(), parts.next(), parts.next(), parts.next()) {
            return Self { host: host.into(), name: name.into(), namespace: ns.into() };
        }
        Self { host: host.into(), name: host.into(), namespace: namespace.into() }
    }
}

/// The name of a cluster: a service, one of its ports and, where a route names one, a subset.
///
/// Displays as Istio and Envoy name it: `outbound|9080|v1|reviews.default.svc.cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterName {
    /// The service.
    pub service: ServiceName,
    /// The service's port, not the endpoint's.
    pub port: u16,
    /// The subset of a DestinationRule.
    pub subset: Option<Arc<str>>,
}

impl ClusterName {
    /// Istio's name for traffic to hosts that the mesh does not know.
    pub const PASSTHROUGH: &str = "PassthroughCluster";

    /// The cluster of hosts outside the registry, under ALLOW_ANY.
    #[must_use]
    pub fn passthrough() -> Self {
        let name: Arc<str> = Self::PASSTHROUGH.into();
        Self {
            service: ServiceName { host: Arc::clone(&name), name, namespace: "unknown".into() },
            port: 0,
            subset: None,
        }
    }

    /// Is this the passthrough cluster?
    #[must_use]
    pub fn is_passthrough(&self) -> bool {
        self.port == 0 && &*self.service.host == Self::PASSTHROUGH
    }

    /// The server name that Istio sends: `outbound_.<port>_.<subset>_.<host>`. Never an identity.
    #[must_use]
    pub fn sni(&self) -> String {
        format!("outbound_.{}_.{}_.{}", self.port, self.subset.as_deref().unwrap_or(""), self.service.host)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_passthrough() {
            return f.write_str(Self::PASSTHROUGH);
        }
        write!(f, "outbound|{}|{}|{}", self.port, self.subset.as_deref().unwrap_or(""), self.service.host)
    }
}

/// What routing needs of a cluster: its name, and its leave to retry.
///
/// A route table is compiled with handles, so that a route and the cluster it points at arrive in the same
/// atomic swap. mesh-lb's clusters are handles; so is a bare name, for routing without balancing.
pub trait ClusterHandle: Clone + Send + Sync + 'static {
    /// The cluster's name.
    fn name(&self) -> &Arc<ClusterName>;

    /// A place in the cluster's retry budget, given back when the permit drops; `None` when it is spent.
    fn retry_permit(&self) -> Option<RetryPermit>;
}

impl ClusterHandle for Arc<ClusterName> {
    fn name(&self) -> &Arc<ClusterName> {
        self
    }

    /// A bare name has no traffic of its own to take a share of: never refused.
    fn retry_permit(&self) -> Option<RetryPermit> {
        Some(RetryPermit::unlimited())
    }
}

/// Leave to have one retry in flight. Dropping it gives the place back.
#[derive(Debug)]
pub struct RetryPermit(Option<Arc<AtomicU32>>);

impl RetryPermit {
    /// A permit that counts against nothing.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Take a place while fewer than `limit` are taken.
    #[must_use]
    pub fn try_acquire(in_flight: &Arc<AtomicU32>, limit: u32) -> Option<Self> {
        in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < limit).then_some(taken + 1))
            .ok()
            .map(|_| Self(Some(Arc::clone(in_flight))))
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        if let Some(in_flight) = &self.0 {
            in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
