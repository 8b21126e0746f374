//! What consistent hashing costs: `cargo bench -p mesh-lb`.
//!
//! The look into a table, the hash of a key with it, a whole pick of a cluster, and a table built anew.

use std::{cell::Cell, sync::Arc};

use divan::{Bencher, black_box};
use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
use mesh_lb::{Cluster, ClusterPolicy, ConsistentHash, HashTable, Maglev, Ring, hash};

const ENDPOINTS: [usize; 4] = [10, 100, 1_000, 10_000];

fn main() {
    divan::main();
}

fn address(n: usize) -> String {
    format!("10.{}.{}.{}:8080", n / 62_500, n / 250 % 250, n % 250 + 1)
}

fn hosts(count: usize, weighted: bool) -> Vec<(String, u32)> {
    (0..count).map(|n| (address(n), if weighted { [1, 2, 5, 3, 7][n % 5] } else { 1 })).collect()
}

fn cluster(count: usize, table: HashTable) -> Cluster {
    let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
    let endpoint = |(address, _): (String, u32)| {
        let address: std::net::SocketAddr = address.parse().expect("an address");
        Arc::new(Endpoint::new(EndpointAddress::from(address)))
    };
    let policy = ClusterPolicy::default().with_load_balancer(ConsistentHash::new(table).into());
    let endpoints = hosts(count, false).into_iter().map(endpoint).collect();
    Cluster::new(ClusterName { service, port: 9080, subset: None }, policy, endpoints)
}

/// Hashes as they come: every one somewhere else.
fn hashes() -> impl Fn() -> u64 {
    let state = Cell::new(0x9e37_79b9_7f4a_7c15_u64);
    move || {
        state.set(state.get().wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1));
        state.get() ^ state.get() >> 32
    }
}

#[divan::bench(args = ENDPOINTS, sample_size = 256, sample_count = 500)]
fn hashes_alone(bencher: Bencher<'_, '_>, _count: usize) {
    let next = hashes();
    bencher.bench_local(|| black_box(next()));
}

#[divan::bench(args = ENDPOINTS, sample_size = 256, sample_count = 500)]
fn ring_pick(bencher: Bencher<'_, '_>, count: usize) {
    let (ring, next) = (Ring::new(&hosts(count, false), Ring::DEFAULT_MINIMUM_SIZE), hashes());
    bencher.bench_local(|| ring.pick(black_box(next()), 0));
}

#[divan::bench(args = ENDPOINTS, sample_size = 256, sample_count = 500)]
fn maglev_pick(bencher: Bencher<'_, '_>, count: usize) {
    let (table, next) = (Maglev::new(&hosts(count, false), Maglev::DEFAULT_SIZE), hashes());
    bencher.bench_local(|| table.pick(black_box(next()), 0));
}

#[divan::bench]
fn hash_of_a_key(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| hash(black_box(b"user-1234567")));
}

#[divan::bench(args = ENDPOINTS, sample_size = 256, sample_count = 500)]
fn cluster_pick_ring(bencher: Bencher<'_, '_>, count: usize) {
    pick(bencher, &cluster(count, HashTable::DEFAULT_RING));
}

#[divan::bench(args = ENDPOINTS, sample_size = 256, sample_count = 500)]
fn cluster_pick_maglev(bencher: Bencher<'_, '_>, count: usize) {
    pick(bencher, &cluster(count, HashTable::DEFAULT_MAGLEV));
}

fn pick(bencher: Bencher<'_, '_>, cluster: &Cluster) {
    let (now, mut rng, next) = (clock::now(), rand::rng(), hashes());
    bencher.bench_local(|| cluster.pick_by_hash(Some(next()), now, &mut rng, &[]));
}

/// One endpoint comes, then it goes: with members joined and the table made.
fn change(bencher: Bencher<'_, '_>, cluster: &Cluster) {
    let (all, more) = (cluster.endpoints(), Cell::new(false));
    bencher.bench_local(|| {
        more.set(!more.get());
        let count = all.len() - usize::from(more.get());
        cluster.set_endpoints(all[..count].to_vec());
    });
}

#[divan::bench(args = ENDPOINTS, sample_count = 40)]
fn cluster_change_ring(bencher: Bencher<'_, '_>, count: usize) {
    change(bencher, &cluster(count, HashTable::DEFAULT_RING));
}

#[divan::bench(args = ENDPOINTS, sample_count = 40)]
fn cluster_change_maglev(bencher: Bencher<'_, '_>, count: usize) {
    change(bencher, &cluster(count, HashTable::DEFAULT_MAGLEV));
}

#[divan::bench(args = ENDPOINTS, sample_count = 20)]
fn ring_build(bencher: Bencher<'_, '_>, count: usize) {
    let hosts = hosts(count, false);
    bencher.bench_local(|| Ring::new(&hosts, Ring::DEFAULT_MINIMUM_SIZE));
}

#[divan::bench(args = ENDPOINTS, sample_count = 20)]
fn ring_build_weighted(bencher: Bencher<'_, '_>, count: usize) {
    let hosts = hosts(count, true);
    bencher.bench_local(|| Ring::new(&hosts, Ring::DEFAULT_MINIMUM_SIZE));
}

#[divan::bench(args = ENDPOINTS, sample_count = 20)]
fn maglev_build(bencher: Bencher<'_, '_>, count: usize) {
    let hosts = hosts(count, false);
    bencher.bench_local(|| Maglev::new(&hosts, Maglev::DEFAULT_SIZE));
}

#[divan::bench(args = ENDPOINTS, sample_count = 20)]
fn maglev_build_weighted(bencher: Bencher<'_, '_>, count: usize) {
    let hosts = hosts(count, true);
    bencher.bench_local(|| Maglev::new(&hosts, Maglev::DEFAULT_SIZE));
}
