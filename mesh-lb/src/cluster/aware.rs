//! What a cluster learns from latencies and probes.

use std::sync::Arc;

use rand::Rng;
use tokio::time::Instant;

use super::Cluster;
use crate::{Ended, LoadBalancer, LoadReport, Member, Prequal, ProbeTargets, latency::Moment, outlier::nanos};

impl Cluster {
    /// When something happens, for the policies that learn.
    pub(crate) fn moment(&self, now: Instant) -> Moment {
        match self.0.policy.load_balancer.learns() {
            Some(_) => Moment { now: self.nanos(now), ended: self.0.loads.outcomes().ended() },
            None => Moment::default(),
        }
    }

    /// A request is sent: when that is, where the policy asks.
    pub(crate) fn sent(&self, member: &Member, now: Instant) -> Option<u64> {
        let tau = self.0.policy.load_balancer.learns().filter(|_| !self.is_passthrough())?;
        let at = self.moment(now);
        member.latency().sent(at, tau, || self.count());
        Some(at.now)
    }

    /// It ended.
    pub(crate) fn ended(&self, member: &Member, how: Ended, sent: u64, now: Instant) {
        let Some(tau) = self.0.policy.load_balancer.learns() else { return };
        member.latency().ended(how, sent, self.moment(now), tau, self.0.loads.outcomes(), || self.count());
    }

    /// Prequal: the members to probe now; none for any other policy.
    ///
    /// Whoever carries probes asks after each pick, and a few times a second while there is none: the pool's answers are
    /// old after a second, and are replaced until a minute after the last request. It hands what it hears to
    /// [`report`](Self::report). No answer is no news.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
    /// # let name = ClusterName { service: ServiceName::of_host("a", "b"), port: 80, subset: None };
    /// # let endpoints = (1..=9).map(|n| Arc::new(Endpoint::new(EndpointAddress::new(&format!("10.0.0.{n}"), 80))));
    /// use mesh_lb::{Cluster, ClusterPolicy, LoadReport, Prequal};
    ///
    /// let policy = ClusterPolicy::default().with_load_balancer(Prequal::default().into());
    /// let cluster = Cluster::new(name, policy, endpoints.collect());
    /// let (now, mut rng) = (clock::now(), rand::rng());
    /// assert_eq!(cluster.probes_due(now, &mut rng).len(), 0, "nobody wants to know");
    ///
    /// let _first = cluster.pick(now, &mut rng, &[]).unwrap(); // the less loaded of two
    /// let mut asked: Vec<_> = cluster.probes_due(now, &mut rng).collect();
    /// for (latency, member) in (5..).zip(&asked) {
    ///     cluster.report(member, LoadReport::new(0, Duration::from_millis(latency)), now);
    /// }
    /// assert!(Arc::ptr_eq(&cluster.pick(now, &mut rng, &[]).unwrap(), &asked[0]));
    /// ```
    #[must_use]
    pub fn probes_due(&self, now: Instant, rng: &mut impl Rng) -> ProbeTargets {
        let mut targets = ProbeTargets::default();
        if self.prequal().is_none() {
            return targets;
        }
        let at = self.nanos(now);
        let ejected_at = self.ejections(now).map(|ejections| ejections.now);
        let allowed = |member: &Member| !ejected_at.is_some_and(|now| member.detector().is_ejected_at(now));
        for picker in self.0.endpoints.load().levels.pickers() {
            picker.probes_due(&allowed, at, rng, &mut targets);
        }
        targets
    }

    /// Prequal: a member told its load, in answer to a probe or with a response. Who has left is forgotten.
    pub fn report(&self, member: &Arc<Member>, report: LoadReport, now: Instant) {
        let Some(settings) = self.prequal() else { return };
        let until = self.nanos(now).saturating_add(nanos(settings.probe_max_age()));
        member.latency().promise(nanos(report.latency), until);
        for picker in self.0.endpoints.load().levels.pickers() {
            picker.report(member, report, self.nanos(now));
        }
    }

    /// Its settings, where the policy is Prequal.
    #[must_use]
    pub fn prequal(&self) -> Option<&Prequal> {
        match &self.0.policy.load_balancer {
            LoadBalancer::Prequal(settings) => Some(settings),
            _ => None,
        }
    }

    fn count(&self) -> usize {
        self.0.endpoints.load().members.len()
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(self.0.shared.since_epoch(now))
    }
}
