use mesh_core::{
    Labels,
    config::{Document, Issues},
    identity::TrustDomain,
};
use proptest::prelude::*;

use super::*;

fn place(text: &str) -> Locality {
    text.parse().unwrap()
}

fn callers(places: &[(&str, u64)]) -> Callers {
    Callers::new(places.iter().map(|(text, count)| (place(text), *count)))
}

fn zones(callers: &Callers, here: &str, endpoints: &[&str], min: u32) -> Option<Zones> {
    let endpoints: Vec<Locality> = endpoints.iter().map(|text| place(text)).collect();
    let mut setting = ZoneAwareSetting::default();
    setting.min_cluster_size = min;
    Zones::new(&setting, callers, &place(here), &endpoints.iter().collect::<Vec<_>>())
}

/// Parts of all requests, in 10,000ths and rounded.
fn shares(weights: &[u64]) -> Vec<u64> {
    let all: u64 = weights.iter().sum();
    weights.iter().map(|weight| (weight * 10_000 + all / 2) / all.max(1)).collect()
}

const ABC: [&str; 3] = ["r/a", "r/b", "r/c"];

/// envoy load_balancer_impl.cc, the comments' own numbers: "local_percentage: 40000 40000 20000, upstream_percentage: 25000
/// 50000 25000. Residual capacity would look like: 0 10000 5000."
#[test]
fn the_example_of_envoys_source() {
    let callers = callers(&[("r/a", 4), ("r/b", 4), ("r/c", 2)]);
    let zones = zones(&callers, "r/a", &ABC, 6).unwrap();
    // 25/40 stay; of the rest two thirds go to b and one to c.
    assert_eq!(shares(&zones.weights(&[2, 4, 2])), [6250, 2500, 1250]);
}

/// envoy docs, zone aware routing: as many endpoints as callers, or more: all stay. Fewer: what is fair.
#[test]
fn shares_are_exact() {
    let even = [("r/a", 2), ("r/b", 2), ("r/c", 2)];
    let crowded = [("r/a", 6), ("r/b", 2), ("r/c", 2)];
    for (of, here, healthy, expected) in [
        (&even[..], "r/a", [2, 2, 2], [10_000, 0, 0]),
        (&even, "r/b", [2, 2, 2], [0, 10_000, 0]),
        (&even, "r/a", [4, 1, 1], [10_000, 0, 0]),
        // 1/6 of the endpoints (1,666 ten-thousandths) for 1/3 of the callers (3,333): 4,998 stay.
        (&even, "r/a", [1, 4, 1], [4998, 5002, 0]),
        (&even, "r/a", [2, 5, 3], [6000, 4000, 0]),
        (&crowded, "r/a", [4, 4, 4], [5555, 2223, 2223]),
        (&crowded, "r/b", [4, 4, 4], [0, 10_000, 0]),
        // Nobody healthy at home.
        (&even, "r/a", [0, 4, 4], [0, 5000, 5000]),
        (&even, "r/a", [0, 0, 8], [0, 0, 10_000]),
        (&crowded, "r/a", [0, 6, 2], [0, 9167, 833]),
    ] {
        let zones = zones(&callers(of), here, &ABC, 6).unwrap();
        assert_eq!(shares(&zones.weights(&healthy)), expected, "{of:?} {here} {healthy:?}");
    }
    // No endpoint where the caller is, nor anywhere near it.
    let without = zones(&callers(&even), "r/a", &["r/b", "r/x"], 6).unwrap();
    assert_eq!(shares(&without.weights(&[4, 4])), [2500, 7500], "5,000 less 3,333, and 5,000");
    assert_eq!(shares(&without.weights(&[4, 0])), [10_000, 0]);
}

/// Everybody by these shares: no endpoint of any zone has more than its part, but for the rounding.
#[test]
fn what_all_callers_do_together_is_even() {
    let of = [("r/a", 5), ("r/b", 3), ("r/c", 12)];
    let (counts, healthy) = ([5, 3, 12], [7_u64, 2, 4]);
    let mut load = [0.0; 3];
    for ((here, callers_here), _) in ABC.iter().zip(counts).zip(0..) {
        let weights = zones(&callers(&of), here, &ABC, 6).unwrap().weights(&healthy);
        let all: u64 = weights.iter().sum();
        for (load, weight) in load.iter_mut().zip(&weights) {
            *load += f64::from(callers_here) * *weight as f64 / all as f64;
        }
    }
    for (load, healthy) in load.iter().zip(healthy) {
        let each = load / healthy as f64;
        assert!((each - 20.0 / 13.0).abs() < 0.002, "{each}");
    }
}

/// envoy earlyExitNonLocalityRouting, condition by condition.
#[test]
fn when_zones_do_not_count() {
    let two = callers(&[("r/a", 3), ("r/b", 3)]);
    assert!(zones(&two, "r/a", &["r/a"], 6).is_none(), "one zone of endpoints");
    assert!(zones(&callers(&[("r/a", 6)]), "r/a", &ABC, 6).is_none(), "one zone of callers");
    assert!(zones(&two, "r/c", &ABC, 6).is_none(), "no caller where this one is");
    assert!(zones(&Callers::default(), "r/a", &ABC, 6).is_none(), "nothing known of callers");
    assert!(zones(&two, "r/a/1", &ABC, 6).is_none(), "a subzone is another place");
    let small = zones(&two, "r/a", &ABC, 6).unwrap();
    assert_eq!(*small.weights(&[2, 2, 1]), [0, 0, 0], "fewer than minClusterSize in service");
    assert_ne!(*small.weights(&[2, 2, 2]), [0, 0, 0]);
    assert_eq!(*zones(&two, "r/a", &ABC, 0).unwrap().weights(&[0, 0, 0]), [0, 0, 0]);
}

#[test]
fn callers_are_the_endpoints_of_the_workloads_own_services() {
    let mut yaml = String::from(
        "{kind: Service, apiVersion: v1, metadata: {name: cart}, spec: {selector: {app: cart}, ports: [{port: 80, name: \
         http}]}}\n---\n{kind: ServiceEntry, apiVersion: networking.istio.io/v1, metadata: {name: carts}, spec: {hosts: \
         [carts.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, workloadSelector: {labels: \
         {app: cart}}}}\n",
    );
    for (index, (app, locality)) in
        [("cart", "r/a"), ("cart", "r/a"), ("cart", "r/b"), ("other", "r/c")].into_iter().enumerate()
    {
        yaml.push_str(&format!(
            "---\n{{kind: WorkloadEntry, apiVersion: networking.istio.io/v1, metadata: {{name: w{index}}}, spec: \
             {{address: 10.0.0.{index}, labels: {{app: {app}}}, locality: {locality}}}}}\n"
        ));
    }
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
    let registry = Registry::from_documents(&documents, &TrustDomain::cluster_local(), &mut issues);
    assert!(!issues.has_errors(), "{issues}");
    let of = |labels: &[(&str, &str)]| {
        let workload = Workload::new("default", "me").with_labels(labels.iter().copied().collect::<Labels>());
        Callers::of(&workload, &registry)
    };
    assert_eq!(of(&[("app", "cart"), ("version", "v1")]), callers(&[("r/a", 2), ("r/b", 1)]));
    assert_eq!(of(&[("app", "nobody")]), Callers::default());
}

proptest! {
    /// Whoever is healthy somewhere gets requests; no zone without anybody in service ever does.
    #[test]
    fn never_an_empty_zone(
        counts in proptest::collection::vec((0_u64..9, 0_u64..9), 2..6),
        own in 0_usize..6,
    ) {
        let names: Vec<String> = (0..counts.len()).map(|n| format!("r/{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let of: Vec<(&str, u64)> = names.iter().zip(&counts).map(|(name, (callers, _))| (*name, *callers)).collect();
        let healthy: Vec<u64> = counts.iter().map(|(_, healthy)| *healthy).collect();
        if let Some(zones) = zones(&callers(&of), names[own % names.len()], &names, 1) {
            let weights = zones.weights(&healthy);
            prop_assert_eq!(weights.iter().sum::<u64>() > 0, healthy.iter().sum::<u64>() > 0);
            for (weight, healthy) in weights.iter().zip(&healthy) {
                prop_assert!(*healthy > 0 || *weight == 0);
            }
        }
    }
}
