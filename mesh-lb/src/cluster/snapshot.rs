//! A cluster's endpoints as they are at one moment: replaced as a whole, read without a lock.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mesh_core::{Endpoint, EndpointAddress};

use super::levels::{Levels, Step};
use crate::{ClusterPolicy, LoadBalancer, Member, member::Loads, members::Members, prequal::Pools};

/// The endpoints at one moment, with what is worked out from them.
pub(super) struct Snapshot {
    pub(super) members: Members,
    pub(super) levels: Levels,
}

impl Snapshot {
    pub(super) fn new(members: Members, policy: &ClusterPolicy) -> Self {
        let levels = Levels::new(&members, policy);
        Self { members, levels }
    }

    /// The next one, with the members that these steps lead to.
    pub(super) fn after(&self, members: Members, steps: &[Step], policy: &ClusterPolicy) -> Self {
        let levels = self.levels.after(&members, steps, policy).unwrap_or_else(|| Levels::new(&members, policy));
        Self { members, levels }
    }

    /// Go on with what the one before has learnt from probes.
    pub(super) fn with_pools(mut self, pools: &Pools, policy: &ClusterPolicy) -> Self {
        if let LoadBalancer::Prequal(settings) = &policy.load_balancer {
            self.levels = self.levels.with_pools(pools, settings);
        }
        self
    }

    /// Is it, or who goes on in its place, among them?
    pub(super) fn has(&self, member: &Member) -> bool {
        self.members.iter().any(|known| std::ptr::eq(known.detector(), member.detector()))
    }

    /// Those that outlier detection ejected: others that are out do not count against maxEjectionPercent.
    pub(super) fn ejected(&self, now: Duration) -> usize {
        self.members.iter().filter(|member| member.detector().is_ejected(now)).count()
    }
}

/// Members for endpoints: those known go on.
pub(super) fn join(
    known: &Members,
    same_peers: bool,
    endpoints: Vec<Arc<Endpoint>>,
    loads: &Loads,
    now: u64,
) -> Members {
    let known: HashMap<&EndpointAddress, &Arc<Member>> =
        known.iter().map(|member| (&member.endpoint().address, member)).collect();
    let member = |endpoint: Arc<Endpoint>| match known.get(&endpoint.address) {
        Some(member) => member.succeed(endpoint, same_peers),
        None => {
            let load = loads.of(&endpoint.address);
            Member::known_since(now, endpoint, load)
        }
    };
    endpoints.into_iter().map(member).collect()
}

pub(super) fn unchanged(before: &Members, after: &Members) -> bool {
    before.len() == after.len() && before.iter().zip(after.iter()).all(|(a, b)| Arc::ptr_eq(a, b))
}
