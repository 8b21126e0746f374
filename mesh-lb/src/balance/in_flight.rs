//! One request in flight: counted while it exists.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{Cluster, Ended, Member};

/// A place among the requests of a cluster and of a member. Dropping it gives both back.
///
/// [`BalanceLayer`](crate::BalanceLayer) takes one for every request. Whoever calls [`Cluster::pick`] without the layer
/// takes it here, or least request has nothing to compare:
///
/// ```
/// # use std::sync::Arc;
/// # use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
/// # let name = ClusterName { service: ServiceName::of_host("a", "b"), port: 80, subset: None };
/// # let endpoints = ["10.0.0.1", "10.0.0.2"].map(|ip| Arc::new(Endpoint::new(EndpointAddress::new(ip, 9080))));
/// use mesh_lb::{Cluster, ClusterPolicy, InFlight};
///
/// let cluster = Cluster::new(name, ClusterPolicy::default().with_max_requests(1), endpoints.into());
/// let member = cluster.pick(clock::now(), &mut rand::rng(), &[]).unwrap();
/// let request = InFlight::enter(&cluster, &member).unwrap();
/// assert_eq!((member.in_flight(), cluster.in_flight()), (1, 1));
/// assert!(InFlight::enter(&cluster, &member).is_none(), "http2MaxRequests");
/// drop(request);
/// assert_eq!((member.in_flight(), cluster.in_flight()), (0, 0));
/// ```
#[derive(Debug)]
pub struct InFlight {
    cluster: Cluster,
    member: Arc<Member>,
    /// Where the policy learns from latencies: when it was sent, in nanoseconds since the cluster's epoch, until it ended.
    sent: Option<u64>,
}

impl InFlight {
    /// `None` when the cluster's circuit breaker is full.
    #[must_use]
    pub fn enter(cluster: &Cluster, member: &Arc<Member>) -> Option<Self> {
        Self::of(cluster, Arc::clone(member))
    }

    /// The same for a member that is not needed elsewhere.
    #[must_use]
    pub fn of(cluster: &Cluster, member: Arc<Member>) -> Option<Self> {
        if !cluster.admit() {
            return None;
        }
        member.load().add();
        Some(Self { cluster: cluster.clone(), member, sent: None })
    }

    /// It is sent now, to an endpoint that answers: peak EWMA and Prequal learn from how long that takes, others look at
    /// nothing.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
    /// # let name = ClusterName { service: ServiceName::of_host("a", "b"), port: 80, subset: None };
    /// # let endpoints = ["10.0.0.1", "10.0.0.2"].map(|ip| Arc::new(Endpoint::new(EndpointAddress::new(ip, 9080))));
    /// use mesh_lb::{Cluster, ClusterPolicy, Ended, InFlight, PeakEwma};
    ///
    /// let policy = ClusterPolicy::default().with_load_balancer(PeakEwma::default().into());
    /// let cluster = Cluster::new(name, policy, endpoints.into());
    /// let (now, mut rng) = (clock::now(), rand::rng());
    /// let mut took = |milliseconds| {
    ///     let member = cluster.pick(now, &mut rng, &[]).unwrap();
    ///     let mut request = InFlight::enter(&cluster, &member).unwrap().sent_at(now);
    ///     request.ended(now + Duration::from_millis(milliseconds), Ended::Answered);
    ///     member.endpoint().address.to_string()
    /// };
    /// let slow = took(500);
    /// assert_ne!(took(5), slow);
    /// assert_ne!(took(5), slow);
    /// ```
    #[must_use]
    pub fn sent_at(mut self, now: Instant) -> Self {
        if self.sent.is_none() {
            self.sent = self.cluster.sent(&self.member, now);
        }
        self
    }

    /// How it ended, as far as latency goes: with the head of a response. Once; it is in flight until it is dropped.
    pub fn ended(&mut self, now: Instant, how: Ended) {
        if let Some(sent) = self.sent.take() {
            self.cluster.ended(&self.member, how, sent, now);
        }
    }

    /// Does anybody ask how it ended?
    pub(super) fn is_measured(&self) -> bool {
        self.sent.is_some()
    }

    /// The cluster it was chosen from.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The member it goes to.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.sent.is_some() {
            self.member.latency().forgotten();
        }
        self.member.load().sub();
        self.cluster.leave();
    }
}
