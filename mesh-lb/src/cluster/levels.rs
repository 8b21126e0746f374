//! The levels of a cluster: who is asked first, and who instead.
//!
//! Each level, and each place with a share of its own, has a picker of its own, made with the endpoints and then only
//! read. What ejections change is worked out once per change (an ejection, a return), by the first pick that notices,
//! and kept until the next one: picks in between read it without a lock.

mod after;

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use mesh_core::Endpoint;
use rand::Rng;

use crate::{
    ClusterPolicy, LevelHealth, LocalityPolicy, Member, Prequal, PriorityLoad,
    hash::Places,
    locality::{Level as Ranked, Zones},
    members::Members,
    pick::{Filter, Picker},
    prequal::Pools,
    random::below,
};

pub(super) use self::after::Step;

/// What picks have to know while somebody is ejected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ejections {
    /// Since the cluster's epoch, in nanoseconds.
    pub(super) now: u64,
    /// Counts ejections: what was worked out before the last one is not true any more.
    pub(super) generation: u64,
    /// minHealthPercent.
    pub(super) panic_threshold: u32,
}

pub(super) struct Levels {
    levels: Box<[Arc<Level>]>,
    health: ArcSwap<Health>,
}

struct Level {
    /// What all on it have for [`LocalityPolicy::rank_of`].
    rank: Option<u32>,
    members: Members,
    picker: Picker,
    /// Empty: the level is one place.
    places: Box<[Place]>,
    /// Shares of the places; all 0 where they do not count for now.
    weights: Box<[u64]>,
    /// What the shares depend on, where that is not fixed.
    zones: Option<Zones>,
}

struct Place {
    members: Members,
    picker: Picker,
}

/// What ejections leave, from when somebody returned until the next one does, and in one generation.
struct Health {
    generation: u64,
    /// Requests read the clock before they pick: one may be of a moment before the last return.
    since: u64,
    until: u64,
    load: PriorityLoad,
    /// Of each level, the places' weights.
    weights: Box<[Box<[u64]>]>,
}

/// istio retry.go: attempts after which levels are left.
const UPDATE_FREQUENCY: usize = 2;

impl Health {
    /// Never true.
    fn unknown() -> Self {
        Self { generation: u64::MAX, since: 0, until: 0, load: PriorityLoad::default(), weights: Box::default() }
    }
}

impl Levels {
    pub(super) fn new(members: &Members, policy: &ClusterPolicy) -> Self {
        let level = |ranked: Ranked| {
            if policy.load_balancer.consistent_hash().is_some() {
                // envoy thread_aware_lb_impl: no place is chosen before its host, one table has the shares of all.
                let some = some_of(members, &ranked.members);
                let places = match policy.locality.as_ref().is_some_and(LocalityPolicy::weighs_places) {
                    _ if !ranked.shares.is_empty() => Some(shared_places(&ranked, members.len())),
                    true => Some(weighed_places(&some)),
                    false => None,
                };
                let picker = Picker::over_places(&some, &policy.load_balancer, places, 0);
                let zones = None;
                return Level {
                    rank: None,
                    picker,
                    places: Box::default(),
                    weights: Box::default(),
                    zones,
                    members: some,
                };
            }
            let place = |indices: &Vec<usize>| {
                let members = some_of(members, indices);
                Place { picker: Picker::new(&members, &policy.load_balancer, rand::random()), members }
            };
            let alone = Level::of(&some_of(members, &ranked.members), policy);
            match ranked.zones {
                None => Level {
                    places: ranked.shares.iter().map(|(_, indices)| place(indices)).collect(),
                    weights: ranked.shares.iter().map(|(share, _)| u64::from(*share)).collect(),
                    ..alone
                },
                Some((zones, indices)) => {
                    let all: Vec<u64> = indices.iter().map(|indices| indices.len() as u64).collect();
                    let places = indices.iter().map(place).collect();
                    Level { places, weights: zones.weights(&all), zones: Some(zones), ..alone }
                }
            }
        };
        let ranked = policy.locality.as_ref().and_then(|locality| {
            let each: Vec<_> = members.iter().cloned().collect();
            locality.rank(&each)
        });
        let levels = match ranked {
            None => [Arc::new(Level::of(members, policy))].into(),
            Some(ranked) => ranked.into_iter().map(level).map(Arc::new).collect(),
        };
        Self::of(levels)
    }

    fn of(levels: Box<[Arc<Level>]>) -> Self {
        Self { levels, health: ArcSwap::from_pointee(Health::unknown()) }
    }

    /// Go on with what the levels before have learnt from probes.
    pub(super) fn with_pools(mut self, pools: &Pools, settings: &Arc<Prequal>) -> Self {
        for (number, level) in self.levels.iter_mut().enumerate() {
            // One that stays as it was has its pool.
            let Some(level) = Arc::get_mut(level) else { continue };
            level.picker.share_pool(pools, settings, number, None);
            for (place, Place { picker, .. }) in level.places.iter_mut().enumerate() {
                picker.share_pool(pools, settings, number, Some(place));
            }
        }
        self
    }

    /// Go on from the levels before, where tables are made beside the requests.
    pub(super) fn following(mut self, before: Option<&Self>) -> Self {
        for (number, level) in self.levels.iter_mut().enumerate() {
            let before = before.and_then(|before| before.levels.get(number));
            if let Some(level) = Arc::get_mut(level) {
                level.picker.follow(before.map(|level| &level.picker));
            }
        }
        self
    }

    /// Those that choose: of each level, and of each place.
    pub(super) fn pickers(&self) -> impl Iterator<Item = &Picker> {
        self.levels
            .iter()
            .flat_map(|level| std::iter::once(&level.picker).chain(level.places.iter().map(|place| &place.picker)))
    }

    /// Members that can be chosen at all.
    pub(super) fn len(&self) -> usize {
        self.levels.iter().map(|level| level.members.len()).sum()
    }

    /// Who is on each.
    #[cfg(test)]
    pub(super) fn each(&self) -> impl Iterator<Item = &Members> {
        self.levels.iter().map(|level| &level.members)
    }

    /// Choose a member where nobody is to be avoided; `None` where that is not all there is to it.
    #[inline]
    pub(super) fn pick_freely(&self, hash: Option<u64>, rng: &mut impl Rng) -> Option<&Arc<Member>> {
        let first = self.levels.first().filter(|first| first.places.is_empty())?;
        first.picker.pick_freely(hash, rng)
    }

    /// Choose a member; `None` for `ejections` when nobody is ejected.
    pub(super) fn pick(
        &self,
        ejections: Option<Ejections>,
        filter: Filter<'_>,
        rng: &mut impl Rng,
    ) -> Option<Arc<Member>> {
        let first = self.levels.first()?;
        let filter = Filter { ejected_at: ejections.map(|ejections| ejections.now), ..filter };
        if self.levels.len() > 1 && filter.leaving.len() >= UPDATE_FREQUENCY {
            let health = self.left(ejections, filter.leaving);
            let chosen = health.load.level(filter.by.hash.unwrap_or_else(|| rng.next_u64()));
            return self
                .pick_on(chosen, &health, filter, rng)
                .or_else(|| self.pick_elsewhere(chosen, &health, filter, rng));
        }
        let one_place = self.levels.len() == 1 && first.places.is_empty();
        match ejections {
            // One set, and nothing that its health changes.
            None if first.places.is_empty() => first.picker.pick(filter, rng),
            Some(ejections) if one_place && ejections.panic_threshold == 0 => first.picker.pick(filter, rng),
            None => first.pick(&first.weights, filter, rng),
            Some(ejections) => {
                let health = self.health(ejections);
                // envoy LoadBalancerBase::choosePriority.
                let chosen = health.load.level(filter.by.hash.unwrap_or_else(|| rng.next_u64()));
                self.pick_on(chosen, &health, filter, rng).or_else(|| self.pick_elsewhere(chosen, &health, filter, rng))
            }
        }
    }

    fn pick_on(&self, index: usize, health: &Health, filter: Filter<'_>, rng: &mut impl Rng) -> Option<Arc<Member>> {
        let level = self.levels.get(index)?;
        if health.load.panic.get(index) == Some(&true) {
            // measured on Envoy 1.40: all of the level, whatever the shares of its places.
            return level.picker.pick_untried(Filter { ejected_at: None, ..filter }, rng);
        }
        let weights = health.weights.get(index).unwrap_or(&level.weights);
        level.pick_untried(weights, filter, rng)
    }

    /// Nobody on the level can be chosen, or all were tried before. Envoy draws the level anew up to five times for a
    /// retry; here another level is used if it has any load, and then those that were tried.
    fn pick_elsewhere(
        &self,
        chosen: usize,
        health: &Health,
        filter: Filter<'_>,
        rng: &mut impl Rng,
    ) -> Option<Arc<Member>> {
        let loaded = (0..self.levels.len()).filter(|index| *index != chosen && health.load.load[*index] > 0);
        let others = loaded.map(|index| (index, filter));
        let again = (!filter.tried.is_empty()).then_some((chosen, Filter { tried: &[], ..filter }));
        others.chain(again).find_map(|(index, filter)| self.pick_on(index, health, filter, rng))
    }

    fn health(&self, ejections: Ejections) -> Guard<Arc<Health>> {
        let health = self.health.load();
        if health.generation == ejections.generation && (health.since..health.until).contains(&ejections.now) {
            return health;
        }
        let health = Arc::new(self.work_out(ejections));
        self.health.store(Arc::clone(&health));
        Guard::from_inner(health)
    }

    /// Health as it would be without the levels that earlier attempts went to: each two attempts leave theirs, and when none
    /// that could carry anything is left, all are there again.
    ///
    /// envoy PreviousPrioritiesRetryPriority::determinePriorityLoad, with Istio's update_frequency of 2.
    fn left(&self, ejections: Option<Ejections>, leaving: &[Arc<Endpoint>]) -> Health {
        // Past all ejections nobody is ejected.
        let nobody = Ejections { now: u64::MAX, generation: 0, panic_threshold: 0 };
        let ejections = ejections.unwrap_or(nobody);
        let mut health = self.work_out(ejections);
        let is_of = |level: &Level, endpoint: &Endpoint| {
            level.members.iter().any(|member| member.endpoint().address == endpoint.address)
        };
        let mut levels = self.healths(ejections.now);
        for two in leaving.chunks_exact(UPDATE_FREQUENCY) {
            for (level, health) in self.levels.iter().zip(&mut levels) {
                if two.iter().any(|endpoint| is_of(level, endpoint)) {
                    *health = LevelHealth::default();
                }
            }
            if levels.iter().all(|level| level.healthy == 0) {
                levels = self.healths(ejections.now);
            }
        }
        health.load.load = PriorityLoad::of(&levels, 0).load;
        health
    }

    fn healths(&self, now: u64) -> Vec<LevelHealth> {
        let healthy = |members: &Members| members.iter().filter(|member| !member.detector().is_ejected_at(now)).count();
        let health = |level: &Arc<Level>| LevelHealth::new(healthy(&level.members) as u64, level.members.len() as u64);
        self.levels.iter().map(health).collect()
    }

    fn work_out(&self, Ejections { now, generation, panic_threshold }: Ejections) -> Health {
        let (mut since, mut until) = (0, u64::MAX);
        let mut count = |members: &Members| {
            let ends = members.iter().map(|member| member.detector().ejected_until());
            let ejected = ends.filter(|end| {
                let ejected = now < *end;
                if ejected {
                    until = until.min(*end)
                } else {
                    since = since.max(*end)
                }
                ejected
            });
            let ejected = ejected.count();
            LevelHealth::new((members.len() - ejected) as u64, members.len() as u64)
        };
        let levels: Vec<_> = self.levels.iter().map(|level| count(&level.members)).collect();
        // envoy HostSetImpl::effectiveLocalityWeight; measured on Envoy 1.40: 80 with one of two ejected against 20 is
        // 56 : 20.
        let weights = self.levels.iter().map(|level| match &level.zones {
            Some(zones) => {
                let healthy: Vec<u64> = level.places.iter().map(|place| count(&place.members).healthy).collect();
                zones.weights(&healthy)
            }
            None => {
                let places = level.places.iter().zip(&level.weights);
                places.map(|(place, weight)| count(&place.members).scale(*weight)).collect()
            }
        });
        let weights = weights.collect();
        Health { generation, since, until, load: PriorityLoad::of(&levels, panic_threshold), weights }
    }
}

impl Level {
    /// One place, whose members are alike.
    fn of(members: &Members, policy: &ClusterPolicy) -> Self {
        let first = members.iter().next().map(|member| member.endpoint());
        Self {
            rank: policy.locality.as_ref().zip(first).and_then(|(locality, first)| locality.rank_of(first)),
            picker: Picker::new(members, &policy.load_balancer, rand::random()),
            places: Box::default(),
            weights: Box::default(),
            zones: None,
            members: members.clone(),
        }
    }

    fn pick(&self, weights: &[u64], filter: Filter<'_>, rng: &mut impl Rng) -> Option<Arc<Member>> {
        self.pick_untried(weights, filter, rng)
            .or_else(|| self.pick_untried(weights, Filter { tried: &[], ..filter }, rng))
    }

    /// A place by weight, and one of its members; when all of those were tried, one of another place.
    fn pick_untried(&self, weights: &[u64], filter: Filter<'_>, rng: &mut impl Rng) -> Option<Arc<Member>> {
        if self.places.is_empty() {
            return self.picker.pick_untried(filter, rng);
        }
        let sum = weights.iter().sum();
        if sum == 0 {
            return self.picker.pick_untried(filter, rng);
        }
        let mut left = below(rng, sum);
        let reached = |weight: &u64| {
            let reached = left < *weight;
            left = left.wrapping_sub(*weight);
            reached
        };
        let place = weights.iter().position(reached).and_then(|index| self.places.get(index));
        place
            .and_then(|place| place.picker.pick_untried(filter, rng))
            .or_else(|| if filter.tried.is_empty() { None } else { self.picker.pick_untried(filter, rng) })
    }
}

/// Places with the weights of their endpoints.
fn weighed_places(members: &Members) -> Places {
    let mut known: HashMap<&str, usize> = HashMap::new();
    let (mut weights, mut of) = (Vec::new(), Vec::with_capacity(members.len()));
    for endpoint in members.iter().map(|member| member.endpoint()) {
        let place = *known.entry(&endpoint.locality).or_insert(weights.len());
        weights.resize(weights.len().max(place + 1), 0);
        weights[place] += u64::from(endpoint.weight);
        of.push(place);
    }
    Places::new(weights, of)
}

/// The shares of the places, and who is where.
fn shared_places(ranked: &Ranked, members: usize) -> Places {
    let mut of = vec![0; members];
    for (place, (_, there)) in ranked.shares.iter().enumerate() {
        there.iter().for_each(|member| of[*member] = place);
    }
    let shares = ranked.shares.iter().map(|(share, _)| u64::from(*share)).collect();
    Places::new(shares, ranked.members.iter().map(|member| of[*member]).collect())
}

fn some_of(members: &Members, indices: &[usize]) -> Members {
    indices.iter().map(|index| Arc::clone(members.at(*index))).collect()
}
