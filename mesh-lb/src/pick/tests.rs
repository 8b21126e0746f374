use std::sync::Arc;

use mesh_core::{Endpoint, EndpointAddress};
use proptest::prelude::*;

use super::*;
use crate::{ConsistentHash, HashTable, OutlierDetection, random::SplitMix64};

pub(super) const ALL: Filter<'static> = Filter {
    ejected_at: None,
    tried: &[],
    leaving: &[],
    warmup: None,
    by: By { hash: None, ejections: 0, in_flight: 0 },
    at: Moment { now: 0, ended: 0 },
};

/// A Maglev table is even to a slot; a ring is not, and has tests of its own.
fn policies() -> [LoadBalancer; 4] {
    let maglev = ConsistentHash::new(HashTable::Maglev { size: 1_000_003 }).into();
    [LoadBalancer::Random, LoadBalancer::LeastRequest, LoadBalancer::RoundRobin, maglev]
}

fn endpoint(index: usize, weight: u32) -> Arc<Endpoint> {
    let address = EndpointAddress::new(&format!("10.0.{}.{}", index / 250, index % 250 + 1), 80);
    Arc::new(Endpoint::new(address).with_weight(weight))
}

pub(super) fn members(weights: &[u32]) -> Members {
    weights.iter().enumerate().map(|(i, weight)| Member::new(endpoint(i, *weight), Arc::default())).collect()
}

fn seed() -> u64 {
    mesh_test::seed()
}

/// How often each member is picked.
fn counts(members: &Members, load_balancer: &LoadBalancer, filter: Filter<'_>, picks: usize) -> Vec<usize> {
    let mut rng = SplitMix64(seed());
    let picker = Picker::new(members, load_balancer, rng.0);
    let mut counts = vec![0; members.len()];
    for _ in 0..picks {
        let picked = picker.pick(filter, &mut rng).unwrap();
        counts[members.iter().position(|member| Arc::ptr_eq(member, picked)).unwrap()] += 1;
    }
    counts
}

/// Within 5 standard deviations: fails once in a million and more runs.
pub(super) fn assert_share(count: usize, picks: usize, share: f64, what: &str) {
    let (n, found) = (picks as f64, count as f64);
    let bound = 5.0 * (n * share * (1.0 - share)).sqrt() + 1.0;
    assert!((found - n * share).abs() <= bound, "{what}: {found} of {n}, expected {} +- {bound}", n * share);
}

#[test]
fn shares_follow_weights_for_every_policy() {
    for weights in [&[1_u32][..], &[1, 1], &[1, 3], &[1, 2, 5, 3, 7], &[1, 1000], &[u32::MAX, u32::MAX, u32::MAX / 2]] {
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        for policy in policies() {
            let counts = counts(&members(weights), &policy, ALL, 40_000);
            for (count, weight) in counts.iter().zip(weights) {
                assert_share(*count, 40_000, f64::from(*weight) / total, &format!("{policy:?} {weights:?}"));
            }
        }
    }
}

#[test]
fn round_robin_of_equals_is_exact() {
    assert_eq!(counts(&members(&[1, 1, 1]), &LoadBalancer::RoundRobin, ALL, 300), [100, 100, 100]);
    assert_eq!(counts(&members(&[5, 5, 10]), &LoadBalancer::RoundRobin, ALL, 400), [100, 100, 200]);
}

#[test]
fn a_weight_of_zero_gets_nothing_unless_all_are_zero() {
    for policy in policies() {
        assert_eq!(counts(&members(&[0, 1]), &policy, ALL, 100), [0, 100]);
        let counts = counts(&members(&[0, 0]), &policy, ALL, 1000);
        assert_share(counts[0], 1000, 0.5, "all zero");
    }
}

#[test]
fn nobody_to_pick() {
    let picker = Picker::new(&members(&[]), &LoadBalancer::LeastRequest, 0);
    assert!(picker.pick(ALL, &mut SplitMix64(1)).is_none());
    let picker = Picker::new(&members(&[]), &LoadBalancer::RoundRobin, 7);
    assert!(picker.pick(ALL, &mut SplitMix64(1)).is_none());
}

/// envoy load_balancers "Weighted least request": of two random hosts the one with fewer active requests.
/// istio.md 1.4: "P2C, choice 2 when weights equal"
#[test]
fn least_request_takes_the_less_loaded_of_two() {
    let members = members(&[1, 1, 1]);
    members.at(0).load().add();
    let counts = counts(&members, &LoadBalancer::LeastRequest, ALL, 30_000);
    assert_eq!(counts[0], 0, "it loses against either of the others");
    assert_share(counts[1], 30_000, 0.5, "the rest share");
}

/// istio.md 1.4: "else WRR with w/(active+1)^1.0"
#[test]
fn least_request_weighs_load_by_weight() {
    // Two in flight on weight 4 is less than one on weight 1.
    let members = members(&[1, 4]);
    members.at(0).load().add();
    (0..2).for_each(|_| members.at(1).load().add());
    let counts = counts(&members, &LoadBalancer::LeastRequest, ALL, 10_000);
    // The lighter one only when it is drawn twice.
    assert_share(counts[0], 10_000, 0.04, "weight 1");
}

#[test]
fn tried_endpoints_are_avoided_while_there_are_others() {
    for policy in policies() {
        let members = members(&[1, 1, 1000]);
        let tried = [Arc::clone(members.at(2).endpoint()), endpoint(0, 9)];
        let counts = counts(&members, &policy, Filter { tried: &tried, ..ALL }, 100);
        assert_eq!(counts, [0, 100, 0], "{policy:?}: compared by address");
        let tried: Vec<_> = members.iter().map(|member| Arc::clone(member.endpoint())).collect();
        let picker = Picker::new(&members, &policy, 0);
        assert!(picker.pick(Filter { tried: &tried, ..ALL }, &mut SplitMix64(1)).is_some(), "all were tried");
    }
}

#[test]
fn a_neighbour_of_an_ejected_endpoint_gets_no_double_share() {
    let members = members(&[1, 1, 1]);
    members.at(1).detector().eject(&OutlierDetection::default(), std::time::Duration::ZERO);
    let counts = counts(&members, &LoadBalancer::RoundRobin, Filter { ejected_at: Some(0), ..ALL }, 300);
    assert_eq!(counts, [150, 0, 150]);
}

/// envoy slow start: the share of a new endpoint grows with its age, whatever is in flight.
#[test]
fn a_new_endpoint_starts_slowly() {
    let warmup = crate::Warmup::new(std::time::Duration::from_secs(60));
    let second = 1_000_000_000_u64;
    for policy in [LoadBalancer::RoundRobin, LoadBalancer::LeastRequest] {
        for (weights, age, shares) in [
            (&[1, 1, 1][..], 0, [1.0 / 2.1, 1.0 / 2.1, 0.1 / 2.1]),
            (&[1, 1, 1], 30, [0.4, 0.4, 0.2]),
            (&[1, 1, 2], 30, [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]),
            (&[1, 1, 1], 60, [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]),
        ] {
            let since = |index| if index == 2 { 100 * second } else { 0 };
            let members = (0..3).map(|i| Member::known_since(since(i), endpoint(i, weights[i]), Arc::default()));
            let filter = Filter { warmup: Some((&warmup, (100 + age) * second)), ..ALL };
            let counts = counts(&members.collect(), &policy, filter, 20_000);
            for (count, share) in counts.iter().zip(shares) {
                assert_share(*count, 20_000, share, &format!("{policy:?} {weights:?} {age} s"));
            }
        }
        // All are new: alike, and as quick as ever.
        let members = (0..2).map(|i| Member::known_since(0, endpoint(i, 1), Arc::default()));
        let counts = counts(&members.collect(), &policy, Filter { warmup: Some((&warmup, 1)), ..ALL }, 20_000);
        assert_share(counts[0], 20_000, 0.5, "all new");
    }
}

#[test]
fn least_request_sees_the_weight_that_a_new_endpoint_has_now() {
    let warmup = crate::Warmup::new(std::time::Duration::from_secs(60));
    let members: Members =
        (0..2).map(|i| Member::known_since(i as u64 * u64::MAX / 2, endpoint(i, 1), Arc::default())).collect();
    members.at(1).load().add();
    (0..5).for_each(|_| members.at(0).load().add());
    // Five in flight on the whole of a weight is less than one on a tenth.
    let filter = Filter { warmup: Some((&warmup, u64::MAX / 2)), ..ALL };
    assert_eq!(counts(&members, &LoadBalancer::LeastRequest, filter, 1000), [1000, 0]);
}

proptest! {
    #[test]
    fn never_an_ejected_one(
        weights in proptest::collection::vec((0_u32..5, any::<bool>()), 1..40),
        policy in prop_oneof![
            Just(LoadBalancer::Random),
            Just(LoadBalancer::LeastRequest),
            Just(LoadBalancer::RoundRobin),
            Just(ConsistentHash::new(HashTable::DEFAULT_RING).into()),
        ],
        seed: u64,
    ) {
        let members = members(&weights.iter().map(|(weight, _)| *weight).collect::<Vec<_>>());
        for (member, (_, ejected)) in members.iter().zip(&weights) {
            if *ejected {
                member.detector().eject(&OutlierDetection::default(), std::time::Duration::ZERO);
            }
        }
        let in_service = |weight: u32| weight > 0 || weights.iter().all(|(w, _)| *w == 0);
        let expected = weights.iter().any(|(weight, ejected)| !ejected && in_service(*weight));
        let picker = Picker::new(&members, &policy, seed);
        let mut rng = SplitMix64(seed);
        for _ in 0..20 {
            let picked = picker.pick(Filter { ejected_at: Some(1), ..ALL }, &mut rng);
            prop_assert_eq!(picked.is_some(), expected);
            prop_assert!(picked.is_none_or(|member| !member.detector().is_ejected_at(1)));
        }
    }
}
