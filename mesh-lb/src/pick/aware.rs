//! Choices by latency.

use std::sync::{Arc, atomic::Ordering};

use rand::Rng;

use super::{Picker, Policy, Sampler, weight};
use crate::{
    LoadReport, Member, PeakEwma, Prequal,
    latency::Moment,
    prequal::{Candidate, Pool, Pools, ProbeTargets},
};

/// Pairs that are drawn before an endpoint is chosen that should be avoided.
const PAIRS: usize = 4;

impl Picker {
    /// Peak EWMA: of two at random, the one where a request more costs less.
    ///
    /// finagle P2CPeakEwma: "power of two choices" over cost x (pending + 1).
    pub(super) fn least_cost(
        &self,
        settings: &PeakEwma,
        allowed: &impl Fn(&Member) -> bool,
        at: Moment,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let mean = self.mean_weight();
        self.better_of_two(allowed, at, rng, |member, relative| {
            let relative = if mean > 0.0 { relative / mean } else { 1.0 };
            member.latency().load(settings, at.now, member.since(), member.in_flight(), relative)
        })
    }

    /// Prequal: the best of the pool, or of two at random the one with fewer requests of this client.
    pub(super) fn prequal(
        &self,
        pool: &Pool,
        allowed: &impl Fn(&Member) -> bool,
        at: Moment,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let tau = PeakEwma::default().tau();
        let know = |member: &Arc<Member>| {
            let (index, latency) = (self.position(member)?, member.latency());
            let usable = allowed(member) && !latency.is_avoided(at);
            // The cast saturates.
            let silence = latency.silence(at.now, tau) as u64;
            Some(Candidate { index, usable, silence, in_flight: member.in_flight() })
        };
        pool.choose(at.now, self.members.len(), know)
            .or_else(|| self.better_of_two(allowed, at, rng, |member, weight| f64::from(member.in_flight()) / weight))
    }

    /// Of two drawn by weight the one that costs less, and drawn again while that one should be avoided.
    fn better_of_two(
        &self,
        allowed: &impl Fn(&Member) -> bool,
        at: Moment,
        rng: &mut impl Rng,
        cost: impl Fn(&Member, f64) -> f64,
    ) -> Option<usize> {
        let rank = |index: usize| {
            let member = self.members.at(index);
            (member.latency().is_avoided(at), cost(member, f64::from(weight(member).max(1))))
        };
        let mut best: Option<(usize, (bool, f64))> = None;
        for _ in 0..PAIRS {
            for _ in 0..2 {
                // The second one is another, as far as the first is not the only one.
                let other = |member: &Member| {
                    best.is_none_or(|(known, _)| !std::ptr::eq(member, &**self.members.at(known))) && allowed(member)
                };
                let drawn = match self.sampler {
                    Sampler::Equal => self.draw(&other, None, rng),
                    Sampler::Weighted(_) => self.draw(allowed, None, rng),
                };
                let Some(drawn) = drawn else { break };
                let rank = rank(drawn);
                if best.is_none_or(|(_, known)| rank < known) {
                    best = Some((drawn, rank));
                }
            }
            if best.is_none_or(|(_, (avoided, _))| !avoided) {
                break;
            }
        }
        best.map(|(index, _)| index)
    }

    /// 0 where all have the same.
    fn mean_weight(&self) -> f64 {
        match &self.sampler {
            Sampler::Equal => 0.0,
            Sampler::Weighted(alias) => alias.total() as f64 / self.members.len() as f64,
        }
    }

    /// Where a member is, if it is one of these. It is nearly always where it was, or, after an endpoint before it came or
    /// went, beside that.
    pub(crate) fn position(&self, member: &Arc<Member>) -> Option<usize> {
        let hint = member.latency().found_at().load(Ordering::Relaxed) as usize;
        let is_here = |index: &usize| *index < self.members.len() && Arc::ptr_eq(self.members.at(*index), member);
        if is_here(&hint) {
            return Some(hint);
        }
        let near = (hint.saturating_sub(8)..hint + 8).find(is_here);
        let found = near.or_else(|| self.members.iter().position(|known| Arc::ptr_eq(known, member)))?;
        // Members are counted in 32 bits.
        member.latency().found_at().store(found as u32, Ordering::Relaxed);
        Some(found)
    }

    /// Go on with the pool of the picker before.
    pub(crate) fn share_pool(&mut self, pools: &Pools, settings: &Arc<Prequal>, level: usize, place: Option<usize>) {
        if !matches!(self.policy, Policy::Prequal(_)) {
            return;
        }
        let pool = pools.of(level, place, settings);
        pool.retain(|member| self.position(member).is_some());
        self.policy = Policy::Prequal(pool);
    }

    /// Members to probe now: any, each at most once, by weight.
    pub(crate) fn probes_due(
        &self,
        allowed: &impl Fn(&Member) -> bool,
        now: u64,
        rng: &mut impl Rng,
        targets: &mut ProbeTargets,
    ) {
        let Policy::Prequal(pool) = &self.policy else { return };
        // Who may not be asked is not missing in the pool.
        let others = self.members.iter().filter(|member| allowed(member)).take(Prequal::MOST).count();
        let due = pool.take_due(now, others);
        for sent in 0..due {
            let new = |member: &Member| allowed(member) && !targets.contains(member);
            match self.draw(&new, None, rng).filter(|_| targets.has_room()) {
                Some(index) => targets.push(Arc::clone(self.members.at(index))),
                None => return pool.not_sent(due - sent),
            }
        }
    }

    /// A member told its load; no matter where it is none of these.
    pub(crate) fn report(&self, member: &Arc<Member>, report: LoadReport, now: u64) {
        let Policy::Prequal(pool) = &self.policy else { return };
        if self.position(member).is_some() {
            pool.report(member, report, now, self.members.len());
        }
    }
}
