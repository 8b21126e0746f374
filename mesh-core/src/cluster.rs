//! Clusters: the named groups of endpoints that routes point at.

use std::{
    fmt,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::Reason;

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
    ///
    /// `failed` is why the attempt ended that is to be repeated; `None` when it ended with a response.
    fn retry_permit(&self, failed: Option<Reason>) -> Option<RetryPermit>;
}

impl ClusterHandle for Arc<ClusterName> {
    fn name(&self) -> &Arc<ClusterName> {
        self
    }

    /// A bare name has no traffic of its own to take a share of: never refused.
    fn retry_permit(&self, _: Option<Reason>) -> Option<RetryPermit> {
        Some(RetryPermit::unlimited())
    }
}

/// Leave to have one retry under way: waiting for its back-off to end, then in flight. Dropping it gives the place
/// back.
#[derive(Debug, Default)]
pub struct RetryPermit {
    _place: Option<Counted>,
    waiting: Option<Counted>,
}

impl RetryPermit {
    /// A permit that counts against nothing.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// Take a place when `admits` says so of the number that is taken already.
    #[must_use]
    pub fn try_acquire(taken: &Arc<AtomicU32>, admits: impl Fn(u32) -> bool) -> Option<Self> {
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| admits(taken).then_some(taken + 1))
            .ok()
            .map(|_| Self { _place: Some(Counted(Arc::clone(taken))), waiting: None })
    }

    /// Count the request as one that waits, until its retry is [`sent`](Self::sent).
    #[must_use]
    pub fn waiting(mut self, waiting: &Arc<AtomicU32>) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        self.waiting = Some(Counted(Arc::clone(waiting)));
        self
    }

    /// The back-off is over and the retry on its way.
    pub fn sent(&mut self) {
        self.waiting = None;
    }
}

/// One that was added to a count, taken off again on drop.
#[derive(Debug)]
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
