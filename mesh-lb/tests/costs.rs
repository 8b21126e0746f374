//! What a choice may cost in memory: nothing.

use std::sync::Arc;

use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock, discover::Update};
use mesh_lb::{
    BoundedLoad, Cluster, ClusterPolicy, ConsistentHash, HashTable, InFlight, LoadBalancer, Outcome, OutlierDetection,
    hash,
};

fn cluster(endpoints: usize, load_balancer: LoadBalancer) -> Cluster {
    let detection = {
        let mut detection = OutlierDetection::default();
        detection.consecutive_5xx = 1;
        detection.max_ejection_percent = 50;
        detection
    };
    let policy = ClusterPolicy::default().with_load_balancer(load_balancer).with_outlier_detection(detection);
    let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
    let address = |n: usize| EndpointAddress::new(&format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250 + 1), 80);
    let endpoints = (0..endpoints).map(|n| Arc::new(Endpoint::new(address(n)))).collect();
    Cluster::new(ClusterName { service, port: 80, subset: None }, policy, endpoints)
}

/// Least request with its place among the requests in flight, taken and given back.
#[test]
fn a_pick_and_its_count_allocate_nothing() {
    for endpoints in [1, 10, 100, 1_000, 10_000] {
        for weighted in [false, true] {
            let cluster = cluster(endpoints, LoadBalancer::LeastRequest);
            if weighted {
                let weigh = |(n, endpoint): (usize, Arc<Endpoint>)| {
                    Arc::new(Endpoint::clone(&endpoint).with_weight([1, 2, 5, 3, 7][n % 5]))
                };
                cluster.set_endpoints(cluster.endpoints().into_iter().enumerate().map(weigh).collect());
            }
            let (now, mut rng) = (clock::now(), rand::rng());
            let mut pick = || InFlight::of(&cluster, cluster.pick(now, &mut rng, &[]).expect("somebody"));
            // What a thread needs once for all its picks.
            assert!(pick().is_some());
            let counted = allocation_counter::measure(|| (0..2_000).for_each(|_| drop(pick())));
            assert_eq!(counted.count_total, 0, "{endpoints} endpoints, weighted: {weighted}");
        }
    }
}

/// One endpoint of many: a piece of the list and the list of pieces, however many members there are in the others.
#[test]
fn a_change_of_one_allocates_as_much_as_one_takes() {
    let counts = [1_000, 10_000].map(|endpoints| {
        let cluster = cluster(endpoints, LoadBalancer::LeastRequest);
        let gone = Arc::clone(&cluster.endpoints()[endpoints / 2]);
        cluster.apply([Update::Remove(gone.address.clone()), Update::Add(Arc::clone(&gone))]);
        let remove = allocation_counter::measure(|| cluster.apply([Update::Remove(gone.address.clone())]));
        let add = allocation_counter::measure(|| cluster.apply([Update::Add(Arc::clone(&gone))]));
        assert!(remove.bytes_total.max(add.bytes_total) < 50_000, "{remove:?} {add:?}");
        (remove.count_total, add.count_total)
    });
    assert_eq!(counts[0], counts[1], "whatever their number");
    assert!(counts[0].0.max(counts[0].1) <= 24, "{counts:?}");
}

/// What a cluster keeps of an endpoint, beyond the endpoint's own description, which whoever names it has made, and what its
/// connections take.
#[test]
fn an_endpoint_takes_at_most_250_bytes() {
    const ENDPOINTS: usize = 10_000;
    let given = cluster(ENDPOINTS, LoadBalancer::LeastRequest).endpoints();
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let empty = cluster(0, LoadBalancer::LeastRequest);
        empty.set_endpoints(given);
        let first = Arc::clone(&empty.endpoints()[0]);
        empty.apply([Update::Remove(first.address.clone()), Update::Add(first)]);
        kept = Some(empty);
    });
    let list = (ENDPOINTS * size_of::<Arc<Endpoint>>()) as i64;
    let each = (counted.bytes_current + list) as f64 / ENDPOINTS as f64;
    println!("{each:.0} bytes an endpoint");
    assert!(each <= 250.0, "{each}");
    assert!(kept.is_some());
}

/// 2,000 picks by hash, and whether each found somebody.
fn picks(cluster: &Cluster) -> (bool, u64) {
    let (now, mut rng) = (clock::now(), rand::rng());
    // What a thread needs once for all its picks.
    let mut found = cluster.pick(now, &mut rng, &[]).is_some();
    let counted = allocation_counter::measure(|| {
        for n in 0..2_000_u64 {
            let hash = (n % 10 > 0).then(|| hash(&n.to_le_bytes()));
            found &= cluster.pick_by_hash(hash, now, &mut rng, &[]).is_some();
        }
    });
    (found, counted.count_total)
}

#[test]
fn a_pick_by_hash_allocates_nothing() {
    let bound = BoundedLoad::percent(125).unwrap();
    for table in [HashTable::DEFAULT_RING, HashTable::DEFAULT_MAGLEV] {
        for policy in [ConsistentHash::new(table), ConsistentHash::new(table).with_bounded_load(bound)] {
            for endpoints in [1, 10, 10_000] {
                let cluster = cluster(endpoints, policy.clone().into());
                assert_eq!(picks(&cluster), (true, 0), "{policy:?} of {endpoints}");
                // Here, where there is no tokio, the first pick after an ejection makes a table; the others look.
                for member in cluster.members().iter().take(endpoints / 4) {
                    cluster.record(member, Outcome::ServerError, clock::now());
                }
                assert!(picks(&cluster).0);
                assert_eq!(picks(&cluster), (true, 0), "{policy:?} of {endpoints}, some of them ejected");
            }
        }
    }
}
