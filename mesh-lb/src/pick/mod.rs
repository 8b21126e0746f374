//! Choosing an endpoint.
//!
//! A [`Picker`] is made once for a set of members and then only read: no lock, no allocation, and what is
//! shared between picks is one cursor (round robin) or nothing. It never looks at a clock; who may be chosen
//! comes in as a [`Filter`].
//!
//! Avoiding endpoints (ejected, or tried by an earlier attempt) is exact, where Envoy gives up after five
//! re-picks: a few draws first, which nearly always suffice, then one walk over the members.

mod alias;
mod aware;
mod schedule;
mod warming;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use mesh_core::Endpoint;
use rand::Rng;

use self::{alias::Alias, schedule::Schedule, warming::Warming};
use crate::{
    LoadBalancer, Member, PeakEwma, Warmup,
    hash::{Ejections, Lookup, Places, Tables},
    latency::Moment,
    members::Members,
    prequal::Pool,
    random::below,
};

/// Whom a pick may choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter<'a> {
    /// Time since the cluster's epoch, in nanoseconds, where ejection matters: `None` when nobody is ejected,
    /// or when so many are that all are used.
    pub(crate) ejected_at: Option<u64>,
    /// Endpoints of earlier attempts.
    pub(crate) tried: &'a [Arc<Endpoint>],
    /// Endpoints of earlier attempts whose levels this one should leave.
    pub(crate) leaving: &'a [Arc<Endpoint>],
    /// How new members start, and the time since the cluster's epoch.
    pub(crate) warmup: Option<(&'a Warmup, u64)>,
    /// Where in a table of hashes to look.
    pub(crate) by: By,
    /// When, for the policies that learn from latencies.
    pub(crate) at: Moment,
}

/// What consistent hashing asks about a request and its cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct By {
    /// The hash of the request's key; without one it goes anywhere.
    pub(crate) hash: Option<u64>,
    /// Ejections from the cluster so far: a table that knows of fewer is old.
    pub(crate) ejections: u64,
    /// Requests that the cluster has in flight.
    pub(crate) in_flight: u32,
}

impl Filter<'_> {
    fn allows(&self, member: &Member) -> bool {
        !self.ejected_at.is_some_and(|now| member.detector().is_ejected_at(now))
            && !self.tried.iter().any(|endpoint| endpoint.address == member.endpoint().address)
    }
}

/// A load-balancing policy over a fixed set of members.
#[derive(Debug)]
pub(crate) struct Picker {
    members: Members,
    /// Since when the members are known: the first and the last of them.
    known: (u64, u64),
    sampler: Sampler,
    policy: Policy,
}

#[derive(Debug)]
enum Sampler {
    Equal,
    Weighted(Alias),
}

#[derive(Debug)]
enum Policy {
    LeastRequest,
    RoundRobin { schedule: Schedule, cursor: AtomicUsize },
    Random,
    Hash(Arc<Tables>),
    PeakEwma(PeakEwma),
    Prequal(Arc<Pool>),
}

/// Draws before the exact walk.
const DRAWS: usize = 8;

impl Picker {
    /// `start` spreads the first picks of many clients in a round robin.
    pub(crate) fn new(members: &Members, load_balancer: &LoadBalancer, start: u64) -> Self {
        Self::over_places(members, load_balancer, None, start)
    }

    /// Of members in places that have shares of their own; for consistent hashing, whose table has these shares too.
    pub(crate) fn over_places(
        members: &Members,
        load_balancer: &LoadBalancer,
        mut places: Option<Places>,
        start: u64,
    ) -> Self {
        // A weight of 0 takes an endpoint out of service, unless that would be all of them.
        let members = match members.facts().map(|facts| facts.weights) {
            Some((0, 1..)) => {
                if let Some(places) = &mut places {
                    places.keep(|member| weight(members.at(member)) > 0);
                }
                members.iter().filter(|member| weight(member) > 0).cloned().collect()
            }
            _ => members.clone(),
        };
        let facts = members.facts();
        let equal = facts.is_none_or(|facts| facts.weights.0 == facts.weights.1);
        let weights = || members.weights().collect::<Vec<_>>();
        let policy = match load_balancer {
            LoadBalancer::LeastRequest | LoadBalancer::Passthrough => Policy::LeastRequest,
            LoadBalancer::Random => Policy::Random,
            LoadBalancer::PeakEwma(settings) => Policy::PeakEwma(*settings),
            LoadBalancer::Prequal(settings) => Policy::Prequal(Arc::new(Pool::new(Arc::clone(settings)))),
            LoadBalancer::ConsistentHash(hash) => Policy::Hash(Tables::new(hash, &members, places)),
            LoadBalancer::RoundRobin => {
                let schedule = if equal { Schedule::equal(members.len()) } else { Schedule::weighted(&weights()) };
                // The remainder is below a usize.
                let start = (start % schedule.len().max(1) as u64) as usize;
                Policy::RoundRobin { schedule, cursor: AtomicUsize::new(start) }
            }
        };
        let sampler = if equal { Sampler::Equal } else { Sampler::Weighted(Alias::new(&weights())) };
        let known = facts.map_or((0, 0), |facts| facts.since);
        Self { members, known, sampler, policy }
    }

    /// Choose a member. Endpoints of earlier attempts are avoided while there are others; ejected ones always.
    pub(crate) fn pick(&self, filter: Filter<'_>, rng: &mut impl Rng) -> Option<&Arc<Member>> {
        let index = match self.pick_among(filter, rng) {
            None if !filter.tried.is_empty() => self.pick_among(Filter { tried: &[], ..filter }, rng),
            found => found,
        };
        index.map(|index| self.members.at(index))
    }

    /// The same, but `None` where all were tried.
    pub(crate) fn pick_untried(&self, filter: Filter<'_>, rng: &mut impl Rng) -> Option<&Arc<Member>> {
        self.pick_among(filter, rng).map(|index| self.members.at(index))
    }

    fn pick_among(&self, filter: Filter<'_>, rng: &mut impl Rng) -> Option<usize> {
        let allowed = |member: &Member| filter.allows(member);
        let warming = Warming::of(filter.warmup, self.known);
        match &self.policy {
            Policy::Hash(tables) => {
                // envoy thread_aware_lb_impl chooseHost: "If there is no hash in the context, just choose a random value".
                let hash = filter.by.hash.unwrap_or_else(|| rng.next_u64());
                let ejections = filter.ejected_at.map(|at| Ejections { at, count: filter.by.ejections });
                tables.pick(Lookup { hash, ejections, in_flight: filter.by.in_flight }, allowed)
            }
            Policy::Random => self.draw(&allowed, None, rng),
            Policy::LeastRequest => self.least_request(&allowed, warming, rng),
            Policy::PeakEwma(settings) => self.least_cost(settings, &allowed, filter.at, rng),
            Policy::Prequal(pool) => self.prequal(pool, &allowed, filter.at, rng),
            Policy::RoundRobin { schedule, cursor } => {
                // Every turn of the schedule is used once, also one that is passed over: the next endpoint does
                // not get two turns because its neighbour is ejected.
                for _ in 0..schedule.len().min(64) {
                    let index = schedule.turn(cursor.fetch_add(1, Ordering::Relaxed));
                    let member = self.members.at(index);
                    if allowed(member) && warming.is_none_or(|warming| warming.admits(member, rng)) {
                        return Some(index);
                    }
                }
                self.walk(&allowed, warming, rng)
            }
        }
    }

    /// Power of two choices: two at random, the less loaded one.
    ///
    /// envoy load_balancers "Weighted least request": equal weights, two random hosts, fewer active requests.
    /// With unequal weights Envoy walks a schedule of weight / (active + 1). Two draws by weight, of which the
    /// lower active / weight is kept, have the same shares at rest and need no schedule that every request
    /// changes. The numerator is not active + 1: at rest that would prefer the heavier one twice, once in the
    /// draw and once in the comparison.
    fn least_request(
        &self,
        allowed: &impl Fn(&Member) -> bool,
        warming: Option<Warming<'_>>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let first = self.draw(allowed, warming, rng)?;
        if self.members.len() == 1 {
            return Some(first);
        }
        let second = match self.sampler {
            Sampler::Equal => {
                let chosen = self.members.at(first);
                self.draw(&|member: &Member| !std::ptr::eq(member, &**chosen) && allowed(member), warming, rng)
            }
            Sampler::Weighted(_) => self.draw(allowed, warming, rng),
        };
        let Some(second) = second else { return Some(first) };
        let cost = |index: usize, other: usize| {
            u64::from(self.members.at(index).in_flight()).saturating_mul(weight_now(self.members.at(other), warming))
        };
        Some(if cost(second, first) < cost(first, second) { second } else { first })
    }

    /// A random member by weight, of those allowed.
    fn draw(
        &self,
        allowed: &impl Fn(&Member) -> bool,
        warming: Option<Warming<'_>>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        if self.members.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            let index = match &self.sampler {
                // Below the length, which is a usize.
                Sampler::Equal => below(rng, self.members.len() as u64) as usize,
                Sampler::Weighted(alias) => alias.sample(rng),
            };
            let member = self.members.at(index);
            if allowed(member) && warming.is_none_or(|warming| warming.admits(member, rng)) {
                return Some(index);
            }
        }
        self.walk(allowed, warming, rng)
    }

    /// The same, exactly, over all members.
    fn walk(
        &self,
        allowed: &impl Fn(&Member) -> bool,
        warming: Option<Warming<'_>>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let each = || self.members.iter().enumerate().filter(|(_, member)| allowed(member));
        let total: u64 = each().map(|(_, member)| weight_now(member, warming)).sum();
        let mut left = below(rng, total);
        let mut last = None;
        for (index, member) in each() {
            last = Some(index);
            let weight = weight_now(member, warming);
            if left < weight {
                break;
            }
            left -= weight;
        }
        last
    }
}

fn weight(member: &Member) -> u32 {
    member.endpoint().weight
}

fn weight_now(member: &Member, warming: Option<Warming<'_>>) -> u64 {
    let weight = u64::from(weight(member).max(1));
    warming.map_or(weight, |warming| warming.weight(member, weight))
}

#[cfg(test)]
mod schedule_shares;
#[cfg(test)]
mod tests;
