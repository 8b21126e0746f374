//! What a request pays for its endpoint, and a change of endpoints for itself: `cargo bench -p mesh-lb --bench picks`.
//!
//! Every round runs every case once, so that what else the machine does falls on all of them; printed are the least and
//! the median round. A pick is one with its place among the requests in flight, taken and given back.

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock, discover::Update};
use mesh_lb::{Cluster, ClusterPolicy, ConsistentHash, HashTable, InFlight, LoadBalancer};
use rand::{Rng, SeedableRng, rngs::SmallRng};

const ENDPOINTS: [usize; 4] = [10, 100, 1_000, 10_000];

fn endpoint(n: usize, weighted: bool) -> Arc<Endpoint> {
    let address = EndpointAddress::new(&format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250 + 1), 8080);
    Arc::new(Endpoint::new(address).with_weight(if weighted { [1, 2, 5, 3, 7][n % 5] } else { 1 }))
}

fn cluster(count: usize, weighted: bool, load_balancer: LoadBalancer) -> Cluster {
    let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
    let policy = ClusterPolicy::default().with_load_balancer(load_balancer);
    let endpoints = (0..count).map(|n| endpoint(n, weighted)).collect();
    Cluster::new(ClusterName { service, port: 9080, subset: None }, policy, endpoints)
}

/// Figures of each case, in nanoseconds.
#[derive(Debug, Default)]
struct Table(BTreeMap<String, Vec<f64>>);

impl Table {
    /// One round of a case: what it takes each of so many times.
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    fn round(&mut self, case: String, times: u32, mut run: impl FnMut()) {
        // The caches are as a busy client has them.
        (0..times.saturating_sub(64)).for_each(|_| run());
        let start = Instant::now();
        (0..times).for_each(|_| run());
        self.add(case, start.elapsed().as_nanos() as f64 / f64::from(times));
    }

    fn add(&mut self, case: String, nanos: f64) {
        self.0.entry(case).or_default().push(nanos);
    }

    fn print(mut self) {
        println!("{:44} {:>12} {:>12}", "case", "least ns", "median ns");
        for (case, rounds) in &mut self.0 {
            rounds.sort_by(f64::total_cmp);
            println!("{case:44} {:12.1} {:12.1}", rounds[0], rounds[rounds.len() / 2]);
        }
    }
}

fn pick(cluster: &Cluster, now: tokio::time::Instant, rng: &mut SmallRng) {
    let member = cluster.pick(now, rng, &[]).expect("somebody");
    drop(black_box(InFlight::of(cluster, member)));
}

/// Two threads at it, on the same endpoints; as much per pick as each takes.
fn two_threads(cluster: &Cluster, table: &mut Table, case: &str) {
    const PICKS: u32 = 20_000;
    let (ready, done) = (Barrier::new(2), AtomicBool::new(false));
    let now = clock::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = SmallRng::seed_from_u64(2);
            ready.wait();
            while !done.load(Ordering::Relaxed) {
                (0..64).for_each(|_| pick(cluster, now, &mut rng));
            }
        });
        let mut rng = SmallRng::seed_from_u64(1);
        ready.wait();
        for _ in 0..10 {
            table.round(case.into(), PICKS / 10, || pick(cluster, now, &mut rng));
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(30);
    let sets = ENDPOINTS.map(|count| {
        let [equal, weighted] = [false, true].map(|weighted| cluster(count, weighted, LoadBalancer::LeastRequest));
        let [ring, maglev] = [HashTable::DEFAULT_RING, HashTable::DEFAULT_MAGLEV]
            .map(|table| cluster(count, false, ConsistentHash::new(table).into()));
        (count, equal, weighted, ring, maglev)
    });
    let (mut table, mut rng, now) = (Table::default(), SmallRng::seed_from_u64(7), clock::now());
    for _ in 0..rounds {
        table.round("0 a random number".into(), 4096, || {
            black_box(rng.next_u64());
        });
        for (count, equal, weighted, ring, maglev) in &sets {
            table.round(format!("1 pick, equal, {count:6}"), 4096, || pick(equal, now, &mut rng));
            table.round(format!("1 pick alone, equal, {count:6}"), 4096, || {
                drop(black_box(equal.pick(now, &mut rng, &[])));
            });
            table.round(format!("2 pick, weighted, {count:6}"), 4096, || pick(weighted, now, &mut rng));
            two_threads(equal, &mut table, &format!("3 pick, two threads, equal, {count:6}"));
            two_threads(weighted, &mut table, &format!("3 pick, two threads, weighted, {count:6}"));
            for (name, cluster) in [("ring", ring), ("maglev", maglev)] {
                table.round(format!("4 pick by hash, {name}, {count:6}"), 4096, || {
                    let hash = Some(rng.next_u64());
                    drop(black_box(cluster.pick_by_hash(hash, now, &mut rng, &[])));
                });
            }
            for (name, cluster, weighted) in [("equal", equal, false), ("weighted", weighted, true)] {
                let (add, gone) = (endpoint(count / 2, weighted), endpoint(count / 2, weighted).address.clone());
                let mut there = true;
                let mut change = || {
                    there = !there;
                    cluster.apply([if there { Update::Add(Arc::clone(&add)) } else { Update::Remove(gone.clone()) }]);
                };
                table.round(format!("5 change of one, {name}, {count:6}"), 16, &mut change);
                // A change, and then a batch of picks: what each of these costs.
                let mut batch = |case: &str, change: &mut dyn FnMut()| {
                    for _ in 0..16 {
                        change();
                        let case = format!("6 pick, batches of 64, {case}, {name}, {count:6}");
                        table.round(case, 64, || pick(cluster, now, &mut rng));
                    }
                };
                batch("quiet", &mut || ());
                batch("churn", &mut change);
            }
        }
    }
    table.print();
}
