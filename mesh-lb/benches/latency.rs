//! What it costs to choose by latency: `cargo bench -p mesh-lb --bench latency`.
//!
//! A request is a pick, its place in flight, and its end, as the layer has it (least request beside it), over 10 to 10,000
//! endpoints, alone and by two threads over one set; for Prequal with a probe answered for each. And what a server
//! pays for its estimate.

use std::{sync::Arc, time::Duration};

use divan::Bencher;
use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
use mesh_lb::{Cluster, ClusterPolicy, Ended, InFlight, LoadBalancer, LoadEstimator, LoadReport, PeakEwma, Prequal};
use rand::Rng;
use tokio::time::Instant;

const ENDPOINTS: [usize; 4] = [10, 100, 1_000, 10_000];
const THREADS: [usize; 2] = [1, 2];

fn main() {
    divan::main();
}

fn cluster(count: usize, load_balancer: LoadBalancer) -> Cluster {
    let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
    let endpoint = |n: usize| {
        let address = EndpointAddress::new(&format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250 + 1), 8080);
        Arc::new(Endpoint::new(address))
    };
    let policy = ClusterPolicy::default().with_load_balancer(load_balancer);
    let endpoints = (0..count).map(endpoint).collect();
    let cluster = Cluster::new(ClusterName { service, port: 9080, subset: None }, policy, endpoints);
    let now = clock::now();
    for member in cluster.members().iter() {
        let mut request = InFlight::enter(&cluster, member).expect("no limit").sent_at(now);
        request.ended(now + Duration::from_millis(5), Ended::Answered);
    }
    cluster
}

fn request(cluster: &Cluster, now: Instant, rng: &mut impl Rng) {
    let member = cluster.pick(now, rng, &[]).expect("there are endpoints");
    let mut request = InFlight::enter(cluster, &member).expect("no limit").sent_at(now);
    request.ended(now, Ended::Answered);
}

fn requests(bencher: Bencher<'_, '_>, count: usize, load_balancer: LoadBalancer) {
    let (cluster, now) = (cluster(count, load_balancer), clock::now());
    bencher.bench(|| request(&cluster, now, &mut rand::rng()));
}

#[divan::bench(args = ENDPOINTS, threads = THREADS)]
fn request_least_request(bencher: Bencher<'_, '_>, count: usize) {
    requests(bencher, count, LoadBalancer::LeastRequest);
}

#[divan::bench(args = ENDPOINTS, threads = THREADS)]
fn request_peak_ewma(bencher: Bencher<'_, '_>, count: usize) {
    requests(bencher, count, PeakEwma::default().into());
}

#[divan::bench(args = ENDPOINTS, threads = THREADS)]
fn request_prequal_with_probe(bencher: Bencher<'_, '_>, count: usize) {
    let (cluster, now) = (cluster(count, Prequal::default().into()), clock::now());
    bencher.bench(|| {
        let mut rng = rand::rng();
        for member in cluster.probes_due(now, &mut rng) {
            cluster.report(&member, LoadReport::new(2, Duration::from_millis(5)), now);
        }
        request(&cluster, now, &mut rng);
    });
}

#[divan::bench(args = ENDPOINTS)]
fn pick_peak_ewma(bencher: Bencher<'_, '_>, count: usize) {
    let (cluster, now, mut rng) = (cluster(count, PeakEwma::default().into()), clock::now(), rand::rng());
    bencher.bench_local(|| cluster.pick(now, &mut rng, &[]));
}

/// Of a pool of 16 that lasts.
#[divan::bench(args = ENDPOINTS)]
fn pick_prequal(bencher: Bencher<'_, '_>, count: usize) {
    let settings = Prequal::default().with_removals_per_request(0.0).expect("a setting");
    let settings = settings.with_probes_per_request(1e-6).expect("a setting");
    let (cluster, now, mut rng) = (cluster(count, settings.into()), clock::now(), rand::rng());
    for member in cluster.members().iter().take(16) {
        cluster.report(member, LoadReport::new(2, Duration::from_millis(5)), now);
    }
    bencher.bench_local(|| cluster.pick(now, &mut rng, &[]));
}

/// A request that a server begins and answers.
#[divan::bench(threads = THREADS)]
fn server_request(bencher: Bencher<'_, '_>) {
    let now = clock::now();
    let load = Arc::new(LoadEstimator::new(now));
    bencher.bench(|| load.begin(now).answered(now));
}

/// What it tells, from 256 samples.
#[divan::bench(threads = THREADS)]
fn server_report(bencher: Bencher<'_, '_>) {
    let now = clock::now();
    let load = Arc::new(LoadEstimator::new(now));
    for n in 0..300_u64 {
        let others: Vec<_> = (0..n % 13).map(|_| load.begin(now)).collect();
        load.begin(now).answered(now + Duration::from_micros(n * 7 % 1_000));
        drop(others);
    }
    let _some: Vec<_> = (0..6).map(|_| load.begin(now)).collect();
    bencher.bench(|| load.report(now));
}
