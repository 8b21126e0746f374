//! One request in flight: counted while it exists.

use std::sync::Arc;

use crate::{Cluster, Member};

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
        Some(Self { cluster: cluster.clone(), member })
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
        self.member.load().sub();
        self.cluster.leave();
    }
}
