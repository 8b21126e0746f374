//! One request in flight: counted while it exists.

use std::sync::Arc;

use crate::{Cluster, Member};

/// A place among the requests of a cluster and of a member. Dropping it gives both back.
#[derive(Debug)]
pub(super) struct InFlight {
    cluster: Cluster,
    member: Arc<Member>,
}

impl InFlight {
    /// `None` when the cluster's circuit breaker is full.
    pub(super) fn enter(cluster: &Cluster, member: &Arc<Member>) -> Option<Self> {
        if !cluster.admit() {
            return None;
        }
        member.load().add();
        Some(Self { cluster: cluster.clone(), member: Arc::clone(member) })
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.member.load().sub();
        self.cluster.leave();
    }
}
