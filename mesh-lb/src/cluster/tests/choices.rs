//! Whom a pick may choose, whatever happened before: every policy, random changes, compared with what is known outside.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::{BoundedLoad, InFlight, LevelHealth, LoadReport, PeakEwma, Prequal, PriorityLoad};

const ENDPOINTS: usize = 12;
const OUTCOMES: [Outcome; 5] =
    [Outcome::Success, Outcome::ServerError, Outcome::GatewayError, Outcome::NotConnected, Outcome::NoResponse];

/// Every policy that chooses.
fn policies() -> Vec<LoadBalancer> {
    let hash = |table| ConsistentHash::new(table);
    let bounded = hash(HashTable::Maglev { size: 101 }).with_bounded_load(BoundedLoad::percent(125).unwrap());
    vec![
        LoadBalancer::LeastRequest,
        LoadBalancer::RoundRobin,
        LoadBalancer::Random,
        hash(HashTable::Ring { minimum_size: 64 }).into(),
        hash(HashTable::Maglev { size: 101 }).into(),
        bounded.into(),
        PeakEwma::default().into(),
        Prequal::default().into(),
    ]
}

/// A cluster, or a service's cluster with those of its subsets.
struct Service {
    clusters: Vec<(Cluster, Option<&'static str>)>,
    set: Box<dyn Fn(Vec<Arc<Endpoint>>)>,
    min_health: u32,
}

fn alone(policy: LoadBalancer, min_health: u32) -> Service {
    let cluster = Cluster::new(name(), detecting(100, min_health).with_load_balancer(policy), Vec::new());
    let changed = cluster.clone();
    Service { clusters: vec![(cluster, None)], set: Box::new(move |to| changed.set_endpoints(to)), min_health }
}

fn with_subsets(policy: &str, min_health: u32) -> Service {
    let mut config = Config::new();
    let dns = ENTRY.replace("STATIC", "DNS").replace("10.0.0.1", "one.test").replace("10.0.0.2", "two.test");
    let rule = format!(
        "---\nkind: DestinationRule\nmetadata: {{name: db}}\nspec:\n  host: db.test\n  subsets: [{{name: v1, labels: {{version: v1}}}}, \
         {{name: v2, labels: {{version: v2}}}}]\n  trafficPolicy: {{loadBalancer: {{{policy}}}, outlierDetection: \
         {{consecutive5xxErrors: 1, maxEjectionPercent: 100, minHealthPercent: {min_health}}}}}\n"
    );
    let set = config.build(&format!("{dns}{rule}"));
    let named = db(&set, None).endpoints();
    let clusters = [None, Some("v1"), Some("v2")].map(|subset| (db(&set, subset), subset));
    let all = set.clone();
    let change = move |to| {
        let _kept = &all;
        config.clusters.set_endpoints("db.test", 80, &named, to);
    };
    Service { clusters: clusters.into(), set: Box::new(change), min_health }
}

fn some(rng: &mut SplitMix64, below: u64) -> u64 {
    crate::random::below(rng, below)
}

/// What may be chosen of a cluster, by what it says of itself and by what it was told.
fn check(service: &Service, told: &[Arc<Endpoint>], now: Instant, rng: &mut SplitMix64) {
    for (cluster, subset) in &service.clusters {
        let mine: Vec<_> =
            told.iter().filter(|endpoint| subset.is_none_or(|v| endpoint.labels.get("version") == Some(v))).collect();
        let members = cluster.members();
        assert!(members.iter().map(|member| member.endpoint()).eq(mine.iter().copied()), "{subset:?}");
        let weighed = mine.iter().any(|endpoint| endpoint.weight > 0);
        let out = |member: &Member| cluster.is_ejected(member, now);
        let weight = |member: &Member| member.endpoint().weight > 0 || !weighed;
        let healthy = members.iter().filter(|member| !out(member)).count();
        let health = LevelHealth::new(healthy as u64, members.len() as u64);
        let panics = PriorityLoad::of(&[health], service.min_health).panic[0];
        let anybody = members.iter().any(|member| weight(member) && (panics || !out(member)));
        for _ in 0..6 {
            let tried: Vec<_> =
                mine.iter().filter(|_| some(rng, 3) == 0).map(|endpoint| Arc::clone(endpoint)).collect();
            let hash = (some(rng, 2) == 0).then(|| rng.next_u64());
            let Some(picked) = cluster.pick_by_hash(hash, now, rng, &tried) else {
                assert!(!anybody, "{:?}: somebody could have been chosen", cluster.policy().load_balancer);
                continue;
            };
            let what = format!("{:?} {subset:?} {picked:?} of {members:?}", cluster.policy().load_balancer);
            assert!(mine.contains(&picked.endpoint()), "removed, or of another subset: {what}");
            assert!(panics || !out(&picked), "ejected: {what}");
            assert!(weight(&picked), "of no weight: {what}");
            let other = members
                .iter()
                .any(|member| weight(member) && (panics || !out(member)) && !tried.contains(member.endpoint()));
            assert!(!other || !tried.contains(picked.endpoint()), "tried before: {what}");
        }
    }
}

fn change(
    service: &Service,
    told: &mut Vec<Arc<Endpoint>>,
    now: &mut Instant,
    rng: &mut SplitMix64,
    busy: &mut Vec<InFlight>,
) {
    match some(rng, 8) {
        0 | 1 => {
            // Any of them, in any order, of any weight and version.
            told.clear();
            for n in 0..ENDPOINTS {
                let version = if some(rng, 2) == 0 { "v1" } else { "v2" };
                let labelled = Endpoint::clone(&endpoint(n)).with_labels(Labels::from_iter([("version", version)]));
                let weight = [0, 1, 1, 1, 5][some(rng, 5) as usize];
                told.extend((some(rng, 3) > 0).then(|| Arc::new(labelled.with_weight(weight))));
            }
            (0..told.len()).for_each(|n| told.swap(n, some(rng, n as u64 + 1) as usize));
            (service.set)(told.clone());
        }
        2 => *now += Duration::from_millis(some(rng, 40_000)),
        3 => drop(busy.pop()),
        _ => {
            let (cluster, _) = &service.clusters[some(rng, service.clusters.len() as u64) as usize];
            let Some(member) = cluster.pick(*now, rng, &[]) else { return };
            cluster.record(&member, OUTCOMES[some(rng, 5) as usize], *now);
            if let (LoadBalancer::Prequal(_), rif) = (&cluster.policy().load_balancer, some(rng, 9)) {
                cluster.report(&member, LoadReport::new(rif as u32, Duration::from_millis(some(rng, 99))), *now);
            }
            busy.extend(InFlight::enter(cluster, &member));
        }
    }
}

/// No pick returns an endpoint that is ejected, removed, of another subset, or of no weight where others have some, unless panic
/// says so; and somebody is picked whenever somebody may be.
#[test]
fn nobody_is_picked_who_must_not_be() {
    let dns_policies = [
        "simple: LEAST_REQUEST",
        "simple: ROUND_ROBIN",
        "simple: RANDOM",
        "consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 64}}",
        "consistentHash: {httpHeaderName: x, maglev: {tableSize: 101}}",
        "simple: LEAST_REQUEST, warmup: {duration: 20s}",
    ];
    let mut rng = SplitMix64(mesh_test::seed());
    for min_health in [0, 50] {
        let alone = policies().into_iter().map(|policy| alone(policy, min_health));
        for service in alone.chain(dns_policies.iter().map(|policy| with_subsets(policy, min_health))) {
            let (mut told, mut now, mut busy) = (Vec::new(), clock::now(), Vec::new());
            (service.set)(told.clone());
            for _ in 0..300 {
                change(&service, &mut told, &mut now, &mut rng, &mut busy);
                check(&service, &told, now, &mut rng);
            }
        }
    }
}

#[test]
fn one_is_always_picked_and_of_none_nobody() {
    let mut rng = SplitMix64(mesh_test::seed());
    for policy in policies() {
        for weight in [0, 1, u32::MAX] {
            let only: Arc<Endpoint> = Arc::new(Endpoint::clone(&endpoint(1)).with_weight(weight));
            let policy = ClusterPolicy::default().with_load_balancer(policy.clone());
            let cluster = Cluster::new(name(), policy.clone(), vec![Arc::clone(&only)]);
            for _ in 0..50 {
                let hash = Some(rng.next_u64());
                // Where it is the only one it is tried again.
                let picked = cluster.pick_by_hash(hash, clock::now(), &mut rng, std::slice::from_ref(&only));
                assert_eq!(picked.unwrap().endpoint(), &only, "{policy:?}");
            }
            cluster.set_endpoints(Vec::new());
            assert!(cluster.pick(clock::now(), &mut rng, &[]).is_none(), "{policy:?}");
        }
    }
}

/// Without anything known of them, endpoints of one weight are alike to every policy; so are keys to a table, within what a
/// table of its size can do.
#[test]
fn equals_get_equal_shares_of_every_policy() {
    const PICKS: usize = 24_000;
    let mut rng = SplitMix64(mesh_test::seed());
    for policy in policies() {
        let spread = match &policy {
            LoadBalancer::ConsistentHash(hash) => match hash.table() {
                // A ring of so few places is uneven, and the same for every seed.
                HashTable::Ring { .. } => continue,
                HashTable::Maglev { size } => 1.0 / size as f64,
            },
            _ => 0.0,
        };
        let cluster = Cluster::new(name(), ClusterPolicy::default().with_load_balancer(policy.clone()), endpoints(6));
        let (members, mut counts) = (cluster.members(), [0_usize; 6]);
        for _ in 0..PICKS {
            let hash = Some(rng.next_u64());
            let picked = cluster.pick_by_hash(hash, clock::now(), &mut rng, &[]).unwrap();
            counts[members.iter().position(|member| Arc::ptr_eq(member, &picked)).unwrap()] += 1;
        }
        let (n, share) = (PICKS as f64, 1.0 / 6.0);
        let bound = 5.0 * (n * share * (1.0 - share)).sqrt() + n * spread + 1.0;
        assert!(
            counts.iter().all(|count| (*count as f64 - n * share).abs() <= bound),
            "{policy:?}: {counts:?} +- {bound}"
        );
    }
}

/// Random outcomes of many threads while somebody looks: never more ejected than maxEjectionPercent.
#[test]
fn the_cap_holds_under_random_outcomes_of_many_threads() {
    let seed = mesh_test::seed();
    for (round, percent) in [10, 30, 50, 99].into_iter().enumerate() {
        let cluster = Cluster::new(name(), detecting(percent, 0), endpoints(20));
        let (start, millis, done) = (clock::now(), AtomicU64::new(0), AtomicBool::new(false));
        let most = percent as usize * 20 / 100;
        thread::scope(|scope| {
            let workers: Vec<_> = (0..3)
                .map(|worker| {
                    let (cluster, millis) = (&cluster, &millis);
                    let mut rng = SplitMix64(seed ^ (round as u64) << 8 ^ worker);
                    scope.spawn(move || {
                        for _ in 0..20_000 {
                            let passed = millis.fetch_add(some(&mut rng, 20), Ordering::AcqRel);
                            let (members, at) = (cluster.members(), start + Duration::from_millis(passed));
                            let member = &members[some(&mut rng, 20) as usize];
                            cluster.record(member, OUTCOMES[some(&mut rng, 5) as usize], at);
                        }
                    })
                })
                .collect();
            let (cluster, millis, done) = (&cluster, &millis, &done);
            scope.spawn(move || {
                let (mut looked, mut seen) = (0_u32, 0);
                while !done.load(Ordering::Acquire) {
                    let before = millis.load(Ordering::Acquire);
                    let out = ejected(cluster, start + Duration::from_millis(before));
                    // Those who count on time went on meanwhile: what is out now and what was out then do not add up.
                    if millis.load(Ordering::Acquire) == before {
                        (looked, seen) = (looked + 1, seen.max(out));
                        assert!(out <= most, "{out} of 20 with {percent} %");
                    }
                }
                (looked, seen)
            });
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            done.store(true, Ordering::Release);
        });
        assert!(ejected(&cluster, start + Duration::from_millis(millis.load(Ordering::Acquire))) <= most);
    }
}
