//! What a choice may cost in memory: nothing.

use std::sync::Arc;

use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
use mesh_lb::{
    BoundedLoad, Cluster, ClusterPolicy, ConsistentHash, HashTable, LoadBalancer, Outcome, OutlierDetection, hash,
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
