//! What active health checks say of a cluster's members, for picks to see as they see ejections.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use super::{Cluster, Shared, Snapshot};
use crate::{ClusterPolicy, Member, members::Members};

impl Cluster {
    /// What a health check changed: a member that fails gets no request any more, one that passes does again.
    ///
    /// One that was never checked is out as long as another one passes: envoy Host::HealthFlag::FAILED_ACTIVE_HC is set
    /// on new hosts until their first check. While nobody passes, those that were not checked are in.
    ///
    /// Without [`ClusterPolicy::health_check`], and for members that have left, it changes nothing.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
    /// # let name = ClusterName { service: ServiceName::of_host("a", "b"), port: 80, subset: None };
    /// # let endpoints = ["10.0.0.1", "10.0.0.2"].map(|ip| Arc::new(Endpoint::new(EndpointAddress::new(ip, 9080))));
    /// use mesh_lb::{Cluster, ClusterPolicy, HealthCheck, HealthCheckKind};
    ///
    /// let policy = ClusterPolicy::default().with_health_check(HealthCheck::new(HealthCheckKind::Tcp));
    /// let cluster = Cluster::new(name, policy, endpoints.into());
    /// let (first, second) = (&cluster.members()[0], &cluster.members()[1]);
    /// cluster.set_health(first, true);
    /// let pick = || cluster.pick(clock::now(), &mut rand::rng(), &[]).unwrap();
    /// assert!((0..20).all(|_| Arc::ptr_eq(&pick(), first)), "the other one was not checked yet");
    /// cluster.set_health(second, true);
    /// assert!((0..100).any(|_| Arc::ptr_eq(&pick(), second)));
    /// ```
    pub fn set_health(&self, member: &Member, healthy: bool) {
        if self.0.policy.health_check.is_none() {
            return;
        }
        let shared = &self.0.shared;
        let _one = shared.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = shared.in_force.load();
        let Some(snapshot) = snapshot.as_deref().filter(|snapshot| snapshot.has(member)) else { return };
        if member.detector().checked() == Some(healthy) {
            return;
        }
        member.detector().set_checked(Some(healthy));
        shared.mark(&snapshot.members);
        let (cluster, endpoint) = (self.name(), &member.endpoint().address);
        match healthy {
            true => tracing::info!(%cluster, %endpoint, "health check passes"),
            false => tracing::warn!(%cluster, %endpoint, "health check fails"),
        }
    }

    /// What health checks say of a member: `None` where there are none, or before its first.
    #[must_use]
    pub fn health(&self, member: &Member) -> Option<bool> {
        self.0.policy.health_check.as_ref().and_then(|_| member.detector().checked())
    }

    /// Ready when its endpoints were replaced since the last time; for one who waits.
    pub fn endpoints_changed(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.0.shared);
        async move { shared.changed.notified().await }
    }
}

impl Shared {
    /// Put members in force. `checks`: do health checks have a say, where they have or had?
    pub(super) fn mark_and_publish(
        &self,
        checks: Option<bool>,
        members: &Members,
        policy: &ClusterPolicy,
        make: impl FnOnce() -> Snapshot,
    ) -> Arc<Snapshot> {
        let mark = || {
            let Some(checks) = checks else { return };
            let _one = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
            if !checks {
                members.iter().for_each(|member| member.detector().set_checked(None));
            }
            self.mark(members);
        };
        // New members that wait for their first check get no request before it...
        mark();
        let snapshot = Arc::new(make().with_pools(&self.pools, policy));
        self.in_force.store(Some(Arc::clone(&snapshot)));
        // ...and those that others' results have changed meanwhile do.
        mark();
        self.changed.notify_one();
        snapshot
    }

    /// Work out who is out of service; the lock is held.
    fn mark(&self, members: &Members) {
        let passed = members.iter().any(|member| member.detector().checked() == Some(true));
        let (mut changed, mut until) = (false, 0);
        for detector in members.iter().map(|member| member.detector()) {
            // Never checked: out where another one is known to be well.
            let out = detector.checked().map_or(passed, |healthy| !healthy);
            changed |= detector.set_out(out);
            until = until.max(detector.ejected_until());
        }
        // In this order, as with an ejection; lower only when nobody can be out any more.
        self.ejections.fetch_add(u64::from(changed), Ordering::AcqRel);
        self.ejected_until.store(until, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use mesh_core::{
        ClusterName, Endpoint, EndpointAddress, LocalitySetting, MeshConfig, ServiceName, Workload, clock,
        registry::TrafficDistribution,
    };

    use super::*;
    use crate::{ConsistentHash, HashTable, HealthCheck, HealthCheckKind, LocalityPolicy, Outcome, OutlierDetection};

    fn endpoint(n: u8, place: &str) -> Arc<Endpoint> {
        let endpoint = Endpoint::new(EndpointAddress::new(&format!("10.0.0.{n}"), 80));
        Arc::new(endpoint.with_locality(&place.parse().unwrap()))
    }

    fn checked() -> ClusterPolicy {
        ClusterPolicy::default().with_health_check(HealthCheck::new(HealthCheckKind::Tcp))
    }

    fn cluster(policy: ClusterPolicy, endpoints: Vec<Arc<Endpoint>>) -> Cluster {
        let service = ServiceName::of_host("a.test", "default");
        Cluster::new(ClusterName { service, port: 80, subset: None }, policy, endpoints)
    }

    fn three(policy: ClusterPolicy) -> Cluster {
        cluster(policy, [1, 2, 3].map(|n| endpoint(n, "eu/1")).into())
    }

    /// The last numbers of the addresses that 200 picks went to.
    fn picked(cluster: &Cluster) -> Vec<String> {
        let pick = |_| cluster.pick_by_hash(None, clock::now(), &mut rand::rng(), &[]);
        let host = |member: Arc<Member>| member.endpoint().address.host().rsplit('.').next().unwrap().to_owned();
        let hosts: BTreeSet<String> = (0..200).filter_map(pick).map(host).collect();
        hosts.into_iter().collect()
    }

    fn set(cluster: &Cluster, results: &[(usize, bool)]) {
        results.iter().for_each(|(index, healthy)| cluster.set_health(&cluster.members()[*index], *healthy));
    }

    /// envoy: a new host is FAILED_ACTIVE_HC until its first check passed; nobody waits for the first of all.
    #[test]
    fn who_was_never_checked_is_out_while_another_one_passes() {
        let cluster = three(checked().with_outlier_detection(OutlierDetection::default()));
        assert_eq!(picked(&cluster), ["1", "2", "3"], "nobody was checked");
        set(&cluster, &[(0, false)]);
        assert_eq!(picked(&cluster), ["2", "3"]);
        set(&cluster, &[(1, true)]);
        assert_eq!(picked(&cluster), ["2"]);
        set(&cluster, &[(2, true), (0, true)]);
        assert_eq!(picked(&cluster), ["1", "2", "3"]);
        assert_eq!(cluster.0.shared.ejected_until.load(Ordering::Relaxed), 0, "picks look no further again");
    }

    #[test]
    fn without_checks_results_are_nobodys() {
        let cluster = three(ClusterPolicy::default());
        set(&cluster, &[(0, false), (1, false)]);
        assert_eq!(picked(&cluster), ["1", "2", "3"]);
        assert_eq!(cluster.health(&cluster.members()[0]), None);
    }

    /// envoy CommonLbConfig.healthy_panic_threshold: 50 % where Istio sets nothing; istio applyOutlierDetection: 0.
    #[test]
    fn panic_is_as_with_ejections() {
        for (policy, expected) in
            [(checked(), &["1", "2", "3"][..]), (checked().with_outlier_detection(OutlierDetection::default()), &["3"])]
        {
            let cluster = three(policy);
            set(&cluster, &[(0, false), (1, false), (2, true)]);
            assert_eq!(picked(&cluster), expected, "one of three is left");
        }
        let cluster = three(checked().with_outlier_detection(OutlierDetection::default()));
        set(&cluster, &[(0, false), (1, false), (2, false)]);
        assert_eq!(picked(&cluster), [""; 0], "503 UH");
    }

    #[test]
    fn levels_lose_what_fails() {
        let client = Arc::new(Workload::new("default", "client").with_locality("eu/1".parse().unwrap()));
        let (rule, mesh) = (Arc::new(LocalitySetting::default()), MeshConfig::default());
        let near = LocalityPolicy::effective(&client, Some(&rule), TrafficDistribution::Any, &mesh.locality, true);
        let policy = checked().with_locality(near.unwrap());
        let cluster = cluster(policy, vec![endpoint(1, "eu/1"), endpoint(2, "eu/1"), endpoint(3, "us/1")]);
        set(&cluster, &[(0, true), (1, true), (2, true)]);
        assert_eq!(picked(&cluster), ["1", "2"]);
        set(&cluster, &[(0, false)]);
        assert_eq!(picked(&cluster), ["2", "3"], "half of a level carries 70 %");
    }

    #[test]
    fn tables_of_hashes_leave_out_what_fails() {
        let policy = checked()
            .with_load_balancer(ConsistentHash::new(HashTable::DEFAULT_RING).into())
            .with_outlier_detection(OutlierDetection::default());
        let cluster = three(policy);
        set(&cluster, &[(0, true), (1, false), (2, true)]);
        assert_eq!(picked(&cluster), ["1", "3"]);
        set(&cluster, &[(1, true)]);
        assert_eq!(picked(&cluster), ["1", "2", "3"]);
    }

    /// Health is the member's: new endpoints beside it change nothing, and they wait for their own first check.
    #[test]
    fn health_outlives_a_change_of_endpoints() {
        let cluster = three(checked().with_outlier_detection(OutlierDetection::default()));
        set(&cluster, &[(0, false), (1, true), (2, true)]);
        cluster.set_endpoints([1, 2, 4].map(|n| endpoint(n, "eu/1")).into());
        assert_eq!(picked(&cluster), ["2"]);
        let left = cluster.members();
        cluster.set_endpoints(vec![endpoint(4, "eu/1")]);
        assert_eq!(picked(&cluster), ["4"], "who has passed has left");
        left.iter().for_each(|member| cluster.set_health(member, false));
        assert_eq!(picked(&cluster), [""; 0]);
        assert_eq!(cluster.health(&left[1]), Some(true), "who has left is asked about to no effect");
    }

    /// Both are reasons of their own: an ejection that ends puts nobody back whose check fails, and the other way round;
    /// what checks take out does not count against maxEjectionPercent.
    #[test]
    fn ejections_and_checks_add_up() {
        let detection =
            OutlierDetection { consecutive_5xx: 1, max_ejection_percent: 34, ..OutlierDetection::default() };
        let cluster = three(checked().with_outlier_detection(detection));
        set(&cluster, &[(0, false), (1, true), (2, true)]);
        let (members, now) = (cluster.members(), clock::now());
        cluster.record(&members[1], Outcome::ServerError, now);
        assert!(cluster.is_ejected(&members[1], now) && !cluster.is_ejected(&members[0], now));
        assert_eq!(picked(&cluster), ["3"]);
        set(&cluster, &[(1, false), (1, true)]);
        assert_eq!(picked(&cluster), ["3"], "ejected all the same");
        set(&cluster, &[(0, true)]);
        assert_eq!(picked(&cluster), ["1", "3"]);
        set(&cluster, &[(1, false)]);
        let back = now + Duration::from_secs(3600);
        let late = (0..200).filter_map(|_| cluster.pick(back, &mut rand::rng(), &[]));
        assert!(late.into_iter().all(|member| !Arc::ptr_eq(&member, &members[1])), "its check fails");
    }
}
