//! Zone awareness in clusters: shares as they are picked, with ejections and in panic.

use mesh_core::{Locality, Workload, ZoneAwareSetting};

use super::{tests::detecting, *};
use crate::{Callers, LocalityPolicy, random::SplitMix64};

const ZONES: [&str; 3] = ["r/a", "r/b", "r/c"];

fn endpoint(index: usize, locality: &str) -> Arc<Endpoint> {
    let address = mesh_core::EndpointAddress::new(&format!("10.0.0.{index}"), 80);
    let place: Locality = locality.parse().unwrap();
    Arc::new(Endpoint::new(address).with_locality(&place))
}

/// Two callers in each zone of region r, and this many endpoints; elsewhere two more.
fn cluster(counts: [usize; 3], policy: ClusterPolicy) -> Cluster {
    let client = Arc::new(Workload::new("default", "client").with_locality("r/a".parse().unwrap()));
    let callers = Callers::new(ZONES.map(|zone| (zone.parse().unwrap(), 2))).into();
    let locality = LocalityPolicy::zone_aware(&client, &ZoneAwareSetting::default().into(), &callers).unwrap();
    let zones = ZONES.iter().zip(counts).flat_map(|(zone, count)| std::iter::repeat_n(*zone, count));
    let endpoints = zones.chain(["q/a", "q/b"]).enumerate().map(|(index, zone)| endpoint(index, zone)).collect();
    let service = mesh_core::ServiceName::of_host("a", "b");
    Cluster::new(ClusterName { service, port: 80, subset: None }, policy.with_locality(locality), endpoints)
}

/// How many of 20,000 picks are in each zone of r, and elsewhere.
fn picks(cluster: &Cluster, now: Instant) -> [f64; 4] {
    let mut rng = SplitMix64(mesh_test::seed());
    let mut counts = [0.0; 4];
    for _ in 0..20_000 {
        let member = cluster.pick(now, &mut rng, &[]).unwrap();
        let zone = ZONES.iter().position(|zone| *member.endpoint().locality == **zone).unwrap_or(3);
        counts[zone] += 1.0;
    }
    counts
}

fn assert_shares(found: [f64; 4], expected: [f64; 4]) {
    for (found, share) in found.iter().zip(expected) {
        let (mean, deviation) = (20_000.0 * share, (20_000.0 * share * (1.0 - share)).sqrt());
        assert!((found - mean).abs() <= 5.0 * deviation, "{found} of 20000, {share}");
    }
}

fn fail(cluster: &Cluster, zone: &str, count: usize, now: Instant) {
    let members = cluster.members();
    let there = members.iter().filter(|member| *member.endpoint().locality == *zone);
    there.take(count).for_each(|member| cluster.record(member, Outcome::ServerError, now));
}

#[test]
fn picks_have_the_shares() {
    let now = clock::now();
    assert_shares(picks(&cluster([4, 4, 4], ClusterPolicy::default()), now), [1.0, 0.0, 0.0, 0.0]);
    // 1,666 / 3,333 stay.
    assert_shares(picks(&cluster([1, 4, 1], ClusterPolicy::default()), now), [0.4998, 0.5002, 0.0, 0.0]);
    // envoy: below min_cluster_size all healthy hosts of the tier are alike.
    assert_shares(picks(&cluster([1, 3, 1], ClusterPolicy::default()), now), [0.2, 0.6, 0.2, 0.0]);
    for load_balancer in [LoadBalancer::RoundRobin, LoadBalancer::Random] {
        let policy = ClusterPolicy::default().with_load_balancer(load_balancer);
        assert_shares(picks(&cluster([1, 4, 1], policy), now), [0.4998, 0.5002, 0.0, 0.0]);
    }
}

#[test]
fn ejections_change_the_shares_and_returns_do_again() {
    let cluster = cluster([2, 4, 2], detecting(100, 0));
    let now = clock::now();
    // A quarter of the endpoints for a third of the callers.
    assert_shares(picks(&cluster, now), [2500.0 / 3333.0, 833.0 / 3333.0, 0.0, 0.0]);
    fail(&cluster, "r/a", 1, now);
    // 1,428 for 3,333; b has 5,714, so that its 2,381 more are all there is to have, and c's is 0. 7 of 8 healthy is
    // enough for the tier.
    let stay = (1428 * 10_000 / 3333) as f64 / 10_000.0;
    assert_shares(picks(&cluster, now), [stay, 1.0 - stay, 0.0, 0.0]);
    fail(&cluster, "r/a", 2, now);
    assert_eq!(picks(&cluster, now)[0], 0.0, "nobody at home");
    let later = now + Duration::from_secs(301);
    assert_shares(picks(&cluster, later), [2500.0 / 3333.0, 833.0 / 3333.0, 0.0, 0.0]);
}

/// envoy hostSourceToUse: a tier in panic has all its hosts, whatever their zones; past its health the next tier has a share.
#[test]
fn panic_forgets_zones_and_other_regions_stand_in() {
    let now = clock::now();
    let panicking = cluster([4, 4, 4], detecting(100, 60));
    ZONES.iter().for_each(|zone| fail(&panicking, zone, 3, now));
    fail(&panicking, "q/a", 1, now);
    // 3 of 12 and 1 of 2: both tiers are below 60 %, and by 1.4 times their health 35 and 70.
    let found = picks(&panicking, now);
    assert!(found[..3].iter().all(|count| *count > 1500.0), "{found:?}");
    let spilling = cluster([4, 4, 4], detecting(100, 0));
    ZONES.iter().for_each(|zone| fail(&spilling, zone, 2, now));
    // Half of the tier: 70 % of all, and all of that at home.
    assert_shares(picks(&spilling, now), [0.7, 0.0, 0.0, 0.3]);
}
