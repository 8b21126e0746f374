use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use mesh_core::{ClusterName, EndpointAddress, MeshConfig, ServiceName, Workload, registry::TrafficDistribution};
use proptest::prelude::*;
use rand::Rng;

use super::*;
use crate::{
    ClusterPolicy, ConsistentHash, HashTable, LoadBalancer, LocalityPolicy, Outcome, OutlierDetection, Warmup,
    random::SplitMix64,
};

const PLACES: [&str; 4] = ["eu/1/a", "eu/1/b", "eu/2", "us"];

fn endpoint(n: usize, place: usize, weight: u32) -> Arc<Endpoint> {
    let address = EndpointAddress::new(&format!("10.0.{}.{}", n / 250, n % 250 + 1), 80);
    Arc::new(Endpoint::new(address).with_locality(&PLACES[place].parse().unwrap()).with_weight(weight))
}

fn cluster(policy: ClusterPolicy, endpoints: Vec<Arc<Endpoint>>) -> Cluster {
    let service = ServiceName::of_host("a.default.svc.cluster.local", "default");
    Cluster::new(ClusterName { service, port: 80, subset: None }, policy, endpoints)
}

fn near() -> LocalityPolicy {
    let client = Arc::new(Workload::new("default", "client").with_locality(PLACES[0].parse().unwrap()));
    LocalityPolicy::effective(&client, None, TrafficDistribution::Any, &MeshConfig::default().locality, true).unwrap()
}

fn detection() -> OutlierDetection {
    OutlierDetection { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierDetection::default() }
}

fn policies() -> Vec<LoadBalancer> {
    let hash = ConsistentHash::new(HashTable::Maglev { size: 251 });
    vec![LoadBalancer::LeastRequest, LoadBalancer::RoundRobin, LoadBalancer::Random, hash.into()]
}

proptest! {
    /// Steps lead to what the same endpoints given at once are: the same endpoints on the same levels, and in the same
    /// order where that matters. Members that stayed are the same.
    #[test]
    fn steps_lead_to_what_all_at_once_would(
        start in 0_usize..150,
        steps in proptest::collection::vec((0_usize..170, 0_usize..4, 0_u32..3, any::<bool>()), 1..80),
        policy in 0_usize..4,
        ranked: bool,
    ) {
        let mut policy = ClusterPolicy::default().with_load_balancer(policies()[policy].clone());
        if ranked {
            policy = policy.with_outlier_detection(detection()).with_locality(near());
        }
        let mut expected: Vec<_> = (0..start).map(|n| endpoint(n, n % 3, 1)).collect();
        let stepped = cluster(policy.clone(), expected.clone());
        for (n, place, weight, add) in steps {
            let (given, at) = (endpoint(n, place, weight), expected.iter().position(|known| known.address == endpoint(n, 0, 0).address));
            let known: BTreeMap<_, _> = stepped.members().iter().map(|m| (m.endpoint().address.clone(), Arc::clone(m))).collect();
            match (at, add) {
                (Some(at), true) => expected[at] = Arc::clone(&given),
                (None, true) => expected.push(Arc::clone(&given)),
                (Some(at), false) => drop(expected.remove(at)),
                (None, false) => {}
            }
            stepped.apply([if add { Update::Add(Arc::clone(&given)) } else { Update::Remove(given.address.clone()) }]);
            for member in stepped.members().iter().filter(|member| member.endpoint().address != given.address) {
                prop_assert!(Arc::ptr_eq(member, &known[&member.endpoint().address]));
            }
        }
        let given = cluster(policy.clone(), expected.clone());
        let (mut found, mut levels) = (stepped.endpoints(), [&stepped, &given].map(levels));
        if !policy.load_balancer.is_ordered() {
            found.sort_by(|a, b| a.address.cmp(&b.address));
            expected.sort_by(|a, b| a.address.cmp(&b.address));
            levels.iter_mut().flatten().for_each(|level| level.sort());
        }
        prop_assert_eq!(found, expected);
        let [stepped, given] = levels;
        prop_assert_eq!(stepped, given);
    }
}

/// Who is on each level, in its order.
fn levels(cluster: &Cluster) -> Vec<Vec<EndpointAddress>> {
    let snapshot = cluster.0.endpoints.load();
    let level = |members: &Members| members.iter().map(|member| member.endpoint().address.clone()).collect::<Vec<_>>();
    snapshot.levels.each().map(level).filter(|level| !level.is_empty()).collect()
}

/// Ejections, in flight and age are the member's, who goes on through a new description.
#[test]
fn a_new_description_keeps_what_is_known() {
    let all: Vec<_> = (0..100).map(|n| endpoint(n, 0, 1)).collect();
    let cluster = cluster(ClusterPolicy::default().with_outlier_detection(detection()), all);
    let (now, before) = (clock::now(), Arc::clone(&cluster.members()[70]));
    before.load().add();
    cluster.record(&before, Outcome::ServerError, now);
    cluster.apply([Update::Add(endpoint(70, 1, 5)), Update::Remove(endpoint(3, 0, 1).address.clone())]);
    let after = cluster.members().iter().find(|member| member.endpoint().weight == 5).cloned().unwrap();
    assert!(cluster.is_ejected(&after, now) && after.in_flight() == 1);
    assert_eq!(cluster.members().len(), 99);
    cluster.apply([Update::Add(endpoint(70, 1, 5))]);
    assert!(cluster.members().iter().any(|member| Arc::ptr_eq(member, &after)), "nothing new");
    cluster.apply([Update::Reset(vec![endpoint(70, 2, 5)]), Update::Add(endpoint(1, 0, 1))]);
    assert!(cluster.is_ejected(&cluster.members()[0], now) && cluster.members().len() == 2);
    cluster.apply([Update::Gone]);
    assert!(cluster.members().is_empty() && cluster.pick(now, &mut SplitMix64(1), &[]).is_none());
}

#[test]
fn an_address_that_is_listed_twice_leaves_as_one() {
    let cluster = cluster(ClusterPolicy::default(), vec![endpoint(0, 0, 1), endpoint(1, 0, 1), endpoint(0, 0, 1)]);
    cluster.apply([Update::Remove(endpoint(0, 0, 1).address.clone())]);
    assert_eq!(cluster.endpoints(), [endpoint(1, 0, 1)]);
}

/// 100,000 endpoints come and go one by one while others pick: nobody is lost, nobody who is gone is found.
#[test]
fn endpoints_come_and_go_one_by_one_under_concurrent_picks() {
    let seed = mesh_test::seed();
    let ranked = ClusterPolicy::default().with_outlier_detection(detection()).with_locality(near());
    let warming = ClusterPolicy::default().with_warmup(Warmup::new(std::time::Duration::from_secs(1)));
    let in_turn = ClusterPolicy::default().with_load_balancer(LoadBalancer::RoundRobin);
    const COUNT: usize = 70;
    for (policy, changes) in [(ClusterPolicy::default(), 100_000), (in_turn, 5_000), (ranked, 5_000), (warming, 5_000)]
    {
        let all: Vec<_> = (0..COUNT).map(|n| endpoint(n, n % 4, 1 + n as u32 % 2)).collect();
        let (cluster, done) = (cluster(policy, all.clone()), AtomicBool::new(false));
        thread::scope(|scope| {
            for picker in 0..2 {
                let (cluster, done) = (&cluster, &done);
                scope.spawn(move || {
                    let (mut rng, now) = (SplitMix64(seed ^ picker), clock::now());
                    while !done.load(Ordering::Relaxed) {
                        cluster.pick(now, &mut rng, &[]).expect("one endpoint is always there");
                    }
                });
            }
            let (mut rng, now, mut there) = (SplitMix64(seed), clock::now(), vec![true; COUNT]);
            for _ in 0..changes {
                // The first always stays.
                let n = 1 + (rng.next_u64() % (COUNT as u64 - 1)) as usize;
                there[n] = !there[n];
                let (add, remove) = (Update::Add(Arc::clone(&all[n])), Update::Remove(all[n].address.clone()));
                cluster.apply([if there[n] { add } else { remove }]);
                let picked = cluster.pick(now, &mut rng, &[]).unwrap();
                let picked = all.iter().position(|endpoint| Arc::ptr_eq(endpoint, picked.endpoint())).unwrap();
                assert!(there[picked], "a removed endpoint was picked");
            }
            let found: Vec<_> = cluster.endpoints();
            assert_eq!(found.len(), there.iter().filter(|there| **there).count());
            assert!(found.iter().all(|found| all.iter().zip(&there).any(|(known, there)| *there && known == found)));
            cluster.apply((0..COUNT).map(|n| Update::Add(Arc::clone(&all[n]))));
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(cluster.members().len(), COUNT, "nobody is lost");
    }
}

/// While a table is being made, picks go on with the one before: past those who have left, and never with nobody. However
/// many changes there are meanwhile, then it is the last one's.
#[test]
fn a_table_is_made_beside_the_requests() {
    for table in [HashTable::DEFAULT_RING, HashTable::DEFAULT_MAGLEV] {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let _in_it = runtime.enter();
        let policy = || ClusterPolicy::default().with_load_balancer(ConsistentHash::new(table).into());
        let all: Vec<_> = (0..40).map(|n| endpoint(n, 0, 1)).collect();
        let (cluster, now) = (cluster(policy(), all[..20].to_vec()), clock::now());
        let choices = |cluster: &Cluster| {
            let pick = |n: u64| cluster.pick_by_hash(Some(n << 54), now, &mut SplitMix64(1), &[]).unwrap();
            (0..1000).map(|n| pick(n).endpoint().clone()).collect::<Vec<_>>()
        };
        let before = choices(&cluster);
        // The one thread that could make a table waits.
        let (free, held) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || held.recv());
        for n in 0..10 {
            cluster.apply([Update::Remove(all[n].address.clone()), Update::Add(all[20 + n].clone())]);
            let meanwhile = choices(&cluster);
            let is_old = before.iter().zip(&meanwhile).filter(|(before, now)| Arc::ptr_eq(before, now)).count();
            assert!(meanwhile.iter().all(|picked| !all[..=n].contains(picked)), "{table:?}: who left is picked");
            assert!(is_old > 300, "{table:?}: {is_old} of 1,000 are where they were");
        }
        cluster.set_endpoints(all[25..].to_vec());
        assert!(choices(&cluster).iter().all(|picked| all[25..].contains(picked)), "{table:?}");
        drop(free);
        cluster.settle();
        let fresh = self::cluster(policy(), all[25..].to_vec());
        assert_eq!(choices(&cluster), choices(&fresh), "{table:?}");
    }
}

/// A runtime that ends before it made a table leaves nobody without.
#[test]
fn a_table_that_a_runtime_left_undone_is_made_by_the_next_pick() {
    let policy = ClusterPolicy::default().with_load_balancer(ConsistentHash::new(HashTable::DEFAULT_RING).into());
    let all: Vec<_> = (0..4).map(|n| endpoint(n, 0, 1)).collect();
    let cluster = cluster(policy, all[..2].to_vec());
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let (free, held) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || held.recv());
    {
        let _in_it = runtime.enter();
        cluster.set_endpoints(all.clone());
    }
    runtime.shutdown_background();
    drop(free);
    let (now, mut rng) = (clock::now(), SplitMix64(1));
    while !all[2..].contains(cluster.pick(now, &mut rng, &[]).unwrap().endpoint()) {
        thread::yield_now();
    }
}

/// What the caller's iterator does is its own affair: steps that were not taken leave nothing behind.
#[test]
fn steps_that_panic_are_none() {
    let all: Vec<_> = (0..10).map(|n| endpoint(n, 0, 1)).collect();
    let cluster = cluster(ClusterPolicy::default(), all[..6].to_vec());
    let remove = |n: usize| Update::Remove(all[n].address.clone());
    cluster.apply([remove(5)]);
    let steps = (0..3).map(|n| if n < 2 { remove(n) } else { panic!("the caller's") });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cluster.apply(steps))).is_err());
    assert_eq!(cluster.endpoints(), all[..5]);
    cluster.apply([remove(0), remove(1), remove(4), Update::Add(all[7].clone())]);
    let mut left = cluster.endpoints();
    left.sort_by(|a, b| a.address.cmp(&b.address));
    assert_eq!(left, [all[2].clone(), all[3].clone(), all[7].clone()]);
}
