//! What levels, ejections, places and warmup cost a pick: `cargo bench -p mesh-lb --bench health`.
//!
//! Least request over 10 to 10,000 endpoints, in a hot loop: alone; with levels and nobody ejected; with one ejected of the
//! first level; with shares of places; while an endpoint warms up.

use std::{sync::Arc, time::Duration};

use divan::Bencher;
use mesh_core::{
    ClusterName, Endpoint, EndpointAddress, LocalitySetting, LocalitySpec, MeshConfig, ServiceName, Workload, clock,
    registry::TrafficDistribution,
};
use mesh_lb::{Cluster, ClusterPolicy, LocalityPolicy, Outcome, OutlierDetection, Warmup};

const ENDPOINTS: [usize; 4] = [10, 100, 1_000, 10_000];

fn main() {
    divan::main();
}

fn endpoints(count: usize) -> Vec<Arc<Endpoint>> {
    let endpoint = |n: usize| {
        let address = EndpointAddress::new(&format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250 + 1), 8080);
        let place = ["eu/1", "eu/2", "us/1", "us/2"][n % 4].parse().expect("a place");
        Arc::new(Endpoint::new(address).with_locality(&place))
    };
    (0..count).map(endpoint).collect()
}

fn cluster(count: usize, policy: ClusterPolicy) -> Cluster {
    let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
    Cluster::new(ClusterName { service, port: 9080, subset: None }, policy, endpoints(count))
}

fn near(setting: &LocalitySetting) -> ClusterPolicy {
    let client = Arc::new(Workload::new("default", "client").with_locality("eu/1".parse().expect("a place")));
    let (rule, mesh) = (Arc::new(setting.clone()), MeshConfig::default());
    let locality = LocalityPolicy::effective(&client, Some(&rule), TrafficDistribution::Any, &mesh.locality, true);
    let mut detection = OutlierDetection::default();
    detection.consecutive_5xx = 1;
    ClusterPolicy::default().with_outlier_detection(detection).with_locality(locality.expect("it is on"))
}

fn pick(bencher: Bencher<'_, '_>, cluster: &Cluster) {
    let (now, mut rng) = (clock::now(), rand::rng());
    bencher.bench_local(|| cluster.pick(now, &mut rng, &[]));
}

#[divan::bench(args = ENDPOINTS)]
fn alone(bencher: Bencher<'_, '_>, count: usize) {
    pick(bencher, &cluster(count, ClusterPolicy::default()));
}

#[divan::bench(args = ENDPOINTS)]
fn levels(bencher: Bencher<'_, '_>, count: usize) {
    pick(bencher, &cluster(count, near(&LocalitySetting::mesh_default())));
}

#[divan::bench(args = ENDPOINTS)]
fn levels_one_ejected(bencher: Bencher<'_, '_>, count: usize) {
    let cluster = cluster(count, near(&LocalitySetting::mesh_default()));
    cluster.record(&cluster.members()[0], Outcome::ServerError, clock::now());
    pick(bencher, &cluster);
}

#[divan::bench(args = ENDPOINTS)]
fn places(bencher: Bencher<'_, '_>, count: usize) {
    let spec = r#"{"distribute": [{"from": "eu/*", "to": {"eu/1": 70, "eu/2": 20, "us": 10}}]}"#;
    let spec: LocalitySpec = serde_json::from_str(spec).expect("a setting");
    pick(bencher, &cluster(count, near(&spec.read(&mut |_, _| ()))));
}

#[divan::bench(args = ENDPOINTS)]
fn one_warms_up(bencher: Bencher<'_, '_>, count: usize) {
    let warmup = Warmup::new(Duration::from_secs(3600));
    let cluster = cluster(count - 1, ClusterPolicy::default().with_warmup(warmup));
    cluster.set_endpoints(endpoints(count));
    pick(bencher, &cluster);
}

/// One endpoint comes, then it goes, where places matter.
#[divan::bench(args = ENDPOINTS, sample_count = 40)]
fn change_with_levels(bencher: Bencher<'_, '_>, count: usize) {
    let (cluster, all) = (cluster(count, near(&LocalitySetting::mesh_default())), endpoints(count));
    let mut more = false;
    bencher.bench_local(|| {
        more = !more;
        cluster.set_endpoints(all[..count - usize::from(more)].to_vec());
    });
}
