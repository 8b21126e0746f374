use std::{collections::HashSet, sync::atomic::AtomicBool, thread};

use mesh_core::{
    Labels, MeshConfig, ServiceName, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use proptest::prelude::*;

use mesh_core::EndpointAddress;

use super::*;
use crate::{DestinationRule, DestinationRules, OutlierDetection, RetryLimit, random::SplitMix64};

fn name() -> ClusterName {
    ClusterName { service: ServiceName::of_host("a.default.svc.cluster.local", "default"), port: 80, subset: None }
}

fn endpoint(n: usize) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointAddress::new(&format!("10.0.{}.{}", n / 250, n % 250 + 1), 80)))
}

fn endpoints(n: usize) -> Vec<Arc<Endpoint>> {
    (0..n).map(endpoint).collect()
}

fn detecting(max_ejection_percent: u32, min_health_percent: u32) -> ClusterPolicy {
    ClusterPolicy::default().with_outlier_detection(OutlierDetection {
        consecutive_5xx: 1,
        max_ejection_percent,
        min_health_percent,
        ..OutlierDetection::default()
    })
}

fn ejected(cluster: &Cluster, now: Instant) -> usize {
    cluster.members().iter().filter(|member| cluster.is_ejected(member, now)).count()
}

/// Configuration as it changes: a document set in, a cluster set out.
struct Config {
    clusters: Clusters,
    issues: Issues,
}

impl Config {
    fn new() -> Self {
        Self { clusters: Clusters::new(), issues: Issues::default() }
    }

    fn build(&mut self, yaml: &str) -> ClusterSet {
        let documents = Document::parse_all("a.yaml", yaml, &mut self.issues);
        let mesh = documents.iter().find(|document| document.kind() == "MeshConfig");
        let mesh = mesh.and_then(|document| MeshConfig::from_document(document, &mut self.issues)).unwrap_or_default();
        let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut self.issues);
        let rules = documents.iter().filter(|document| document.kind() == "DestinationRule");
        let rules: Vec<_> = rules
            .filter_map(|document| DestinationRule::from_document(document, &mut self.issues))
            .map(Arc::new)
            .collect();
        assert!(!self.issues.has_errors(), "{}", self.issues);
        let workload = Workload::new("default", "client");
        self.clusters.build(&registry, &DestinationRules::new(&rules), &workload, &mesh)
    }
}

const ENTRY: &str = "
kind: ServiceEntry
apiVersion: networking.istio.io/v1
metadata: {name: db}
spec:
  hosts: [db.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}}
  - {address: 10.0.0.2, labels: {version: v2}}
";

const RULE: &str = "
---
kind: DestinationRule
metadata: {name: db}
spec:
  host: db.test
  subsets: [{name: v1, labels: {version: v1}}, {name: none, labels: {version: v9}}, {name: all}]
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}
";

fn db(set: &ClusterSet, subset: Option<&str>) -> Cluster {
    let service = ServiceName::of_host("db.test", "default");
    let name = ClusterName { service, port: 80, subset: subset.map(Into::into) };
    set.get(&name).unwrap_or_else(|| panic!("no {name}")).clone()
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect()
}

/// istio getSubSetLabels: endpoint labels include the subset's; a subset without labels has all endpoints.
/// istio.md 1.0: "subset.labels; subset without labels = all endpoints"
#[test]
fn a_cluster_for_each_port_and_subset() {
    let set = Config::new().build(&format!("{ENTRY}{RULE}"));
    assert_eq!(set.iter().count(), 4);
    assert_eq!(addresses(&db(&set, None)), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(addresses(&db(&set, Some("v1"))), ["10.0.0.1:80"]);
    assert_eq!(addresses(&db(&set, Some("all"))), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert!(db(&set, Some("none")).pick(clock::now(), &mut SplitMix64(1), &[]).is_none());
    assert_eq!(db(&set, None).protocol(), Protocol::Http);
    assert!(set.get(&ClusterName { port: 81, ..(**db(&set, None).name()).clone() }).is_none());
}

#[test]
fn the_meshs_defaults_are_the_clusters() {
    let mesh = "---\nmesh: {defaultTrafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}}\n";
    let set = Config::new().build(&format!("{ENTRY}{RULE}{mesh}"));
    assert!(set.iter().all(|cluster| cluster.policy().max_requests == 7));
    assert_eq!(set.iter().count(), 4);
}

#[test]
fn state_survives_a_rebuild() {
    let mut config = Config::new();
    let before = config.build(&format!("{ENTRY}{RULE}"));
    let cluster = db(&before, None);
    let [first, second] = [0, 1].map(|index| Arc::clone(&cluster.members()[index]));
    let pool = first.attachment(|| Arc::new(7_u32));
    first.load().add();
    let now = clock::now();
    cluster.record(&second, Outcome::ServerError, now);

    // Nothing changed: the same cluster.
    let same = config.build(&format!("{ENTRY}{RULE}"));
    assert!(Arc::ptr_eq(&db(&same, None).0, &cluster.0));

    // Another policy, another endpoint: another cluster, the same members.
    let third = "  - {address: 10.0.0.3, labels: {version: v1}}\n";
    let after = config.build(&format!("{ENTRY}{third}{}", RULE.replace("Errors: 1", "Errors: 2")));
    let changed = db(&after, None);
    assert_eq!(addresses(&changed).len(), 3);
    assert!(Arc::ptr_eq(&changed.members()[0], &first));
    assert!(changed.is_ejected(&second, now), "ejections go on");
    assert_eq!(changed.members()[0].in_flight(), 1);
    assert_eq!(db(&after, Some("v1")).members()[0].in_flight(), 1, "subsets share the load of an address");
    assert!((0..100).all(|n| !Arc::ptr_eq(&changed.pick(now, &mut SplitMix64(n), &[]).unwrap(), &second)));

    // New labels keep health and connections, a new tls block keeps health.
    let labelled = ENTRY.replace("{version: v1}", "{version: v1, more: labels}");
    let labelled = db(&config.build(&format!("{labelled}{RULE}")), None);
    assert!(!Arc::ptr_eq(&labelled.members()[0], &first));
    assert!(Arc::ptr_eq(&labelled.members()[0].attachment::<u32>(|| unreachable!()), &pool));
    let tls =
        db(&config.build(&format!("{ENTRY}{}  ", RULE.replace("Policy: {", "Policy: {tls: {mode: SIMPLE}, "))), None);
    assert!(!Arc::ptr_eq(&tls.members()[0].attachment(|| Arc::new(8_u32)), &pool));
    assert!(tls.is_ejected(&tls.members()[1], now));

    // Whom the server must prove to be is asked on every connection: none made before is kept.
    let names = ENTRY.replace("resolution", "subjectAltNames: [spiffe://x/y]\n  resolution");
    let names = db(&config.build(&format!("{names}{RULE}")), None);
    assert_eq!(*names.members()[0].attachment(|| Arc::new(9_u32)), 9);

    // An endpoint that was gone for one configuration is new.
    drop((before, cluster, same, after, changed, labelled, tls, names, first, second));
    config.build("");
    let fresh = db(&config.build(&format!("{ENTRY}{RULE}")), None);
    assert_eq!((fresh.members()[0].in_flight(), ejected(&fresh, now)), (0, 0));
}

#[test]
fn resolved_endpoints_hold_until_the_registry_names_others() {
    let dns = ENTRY.replace("STATIC", "DNS").replace("10.0.0.1", "one.test").replace("10.0.0.2", "two.test");
    let mut config = Config::new();
    let set = config.build(&format!("{dns}{RULE}"));
    assert_eq!(addresses(&db(&set, None)), ["one.test:80", "two.test:80"]);
    let resolved = |ip: &str, version| {
        let endpoint = Endpoint::new(EndpointAddress::new(ip, 80));
        Arc::new(endpoint.with_labels(Labels::from_iter([("version", version)])))
    };
    let named = db(&set, None).endpoints();
    let answer = vec![resolved("10.1.0.1", "v1"), resolved("10.1.0.2", "v2")];
    config.clusters.set_endpoints("db.test", 80, &named, answer.clone());
    assert_eq!(addresses(&db(&set, None)), ["10.1.0.1:80", "10.1.0.2:80"]);
    assert_eq!(addresses(&db(&set, Some("v1"))), ["10.1.0.1:80"]);
    let set = config.build(&format!("{dns}{}", RULE.replace("Errors: 1", "Errors: 2")));
    assert_eq!(addresses(&db(&set, Some("v1"))), ["10.1.0.1:80"], "a new rule asks nobody again");
    let set = config.build(&format!("{}{RULE}", dns.replace("two.test", "three.test")));
    assert_eq!(addresses(&db(&set, None)), ["one.test:80", "three.test:80"]);
    config.clusters.set_endpoints("db.test", 80, &named, answer);
    assert_eq!(addresses(&db(&set, None)), ["one.test:80", "three.test:80"], "a late answer to the old question");
}

#[test]
fn passthrough_dials_what_the_request_names_and_keeps_the_member() {
    let set = Config::new().build("");
    let cluster = set.passthrough();
    assert!(cluster.is_passthrough() && cluster.name().is_passthrough());
    let headers = http::HeaderMap::from_iter([(http::header::HOST, http::HeaderValue::from_static("h.test:81"))]);
    let member = |uri: &str| cluster.member_of(&uri.parse().unwrap(), &headers);
    for (uri, address) in [
        ("http://A.test/x", "a.test:80"),
        ("https://a.test/x", "a.test:443"),
        ("https://a.test:80/", "a.test:80"),
        ("http://10.0.0.1:8080/", "10.0.0.1:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("/only/a/path", "h.test:81"),
    ] {
        let found = member(uri).unwrap();
        assert_eq!(found.endpoint().address.to_string(), address, "{uri}");
        assert!(Arc::ptr_eq(&found, &member(uri).unwrap()), "{uri}");
    }
    assert!(
        !Arc::ptr_eq(&member("http://a.test").unwrap(), &member("https://a.test:80").unwrap()),
        "TLS is not plaintext"
    );
    assert!(cluster.member_of(&"/x".parse().unwrap(), &http::HeaderMap::new()).is_none());
    let used = member("http://used.test").unwrap();
    used.load().add();
    (0..3000).for_each(|n| drop(member(&format!("http://{n}.test"))));
    assert!(Arc::ptr_eq(&used, &member("http://used.test").unwrap()), "in use: kept");
}

/// measured on Envoy 1.40 (t6, t8): all ejected is 503 UH; with minHealthPercent 50 all are used.
#[test]
fn all_ejected_is_nobody_unless_panic_says_so() {
    let now = clock::now();
    for (min_health, usable) in [(0, 0), (50, 4)] {
        let cluster = Cluster::new(name(), detecting(100, min_health), endpoints(4));
        cluster.members().iter().for_each(|member| cluster.record(member, Outcome::ServerError, now));
        let mut picked: Vec<_> = (0..200).filter_map(|seed| cluster.pick(now, &mut SplitMix64(seed), &[])).collect();
        picked.sort_by_key(Arc::as_ptr);
        picked.dedup_by(|a, b| Arc::ptr_eq(a, b));
        assert_eq!(picked.len(), usable, "minHealthPercent {min_health}");
    }
    // Half are healthy: 50 % is not below 50 %.
    let cluster = Cluster::new(name(), detecting(50, 50), endpoints(4));
    cluster.members().iter().for_each(|member| cluster.record(member, Outcome::ServerError, now));
    assert!((0..200).all(|n| !cluster.is_ejected(&cluster.pick(now, &mut SplitMix64(n), &[]).unwrap(), now)));
    let back = now + Duration::from_secs(41);
    assert_eq!((ejected(&cluster, now), ejected(&cluster, back)), (2, 0));
}

#[test]
fn without_outlier_detection_nobody_is_ejected() {
    let cluster = Cluster::new(name(), ClusterPolicy::default(), endpoints(1));
    (0..100).for_each(|_| cluster.record(&cluster.members()[0], Outcome::GatewayError, clock::now()));
    assert!(cluster.pick(clock::now(), &mut SplitMix64(1), &[]).is_some());
}

proptest! {
    #[test]
    fn never_more_ejected_than_max_ejection_percent(
        members in 1_usize..40,
        percent in 0_u32..=100,
        failures in proptest::collection::vec((0_usize..40, 0_u64..20), 0..200),
    ) {
        let cluster = Cluster::new(name(), detecting(percent, 0), endpoints(members));
        let mut now = clock::now();
        for (index, seconds) in failures {
            now += Duration::from_secs(seconds);
            cluster.record(&cluster.members()[index % members], Outcome::ServerError, now);
            prop_assert!(ejected(&cluster, now) * 100 <= percent as usize * members);
        }
    }
}

#[test]
fn the_cap_holds_when_all_threads_eject_at_once() {
    for _ in 0..50 {
        let (cluster, now) = (Cluster::new(name(), detecting(30, 0), endpoints(10)), clock::now());
        thread::scope(|scope| {
            for thread in 0..4 {
                let cluster = &cluster;
                scope.spawn(move || {
                    (0..10).for_each(|n| {
                        cluster.record(&cluster.members()[(n + thread) % 10], Outcome::GatewayError, now)
                    });
                });
            }
        });
        assert_eq!(ejected(&cluster, now), 3);
    }
}

/// 100,000 changes while others pick: nobody is lost, nobody who is gone is found.
#[test]
fn endpoints_come_and_go_under_concurrent_picks() {
    const CHANGES: usize = 100_000;
    let seed: u64 = rand::random();
    println!("seed {seed:#x}");
    for policy in [LoadBalancer::LeastRequest, LoadBalancer::RoundRobin] {
        let all = endpoints(8);
        let cluster = Cluster::new(name(), ClusterPolicy::default().with_load_balancer(policy), all.clone());
        let (kept, done) = (Arc::clone(&cluster.members()[0]), AtomicBool::new(false));
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
            let (mut rng, now) = (SplitMix64(seed), clock::now());
            for _ in 0..CHANGES / 2 {
                // The first always, and some of the others.
                let chosen = rng.next_u64() | 1;
                let some: Vec<_> = (0..8).filter(|n| chosen >> n & 1 == 1).map(|n| Arc::clone(&all[n])).collect();
                cluster.set_endpoints(some.clone());
                let picked = cluster.pick(now, &mut rng, &[]).unwrap();
                assert!(some.contains(picked.endpoint()), "a removed endpoint was picked");
            }
            cluster.set_endpoints(all.clone());
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(cluster.endpoints(), all);
        assert!(Arc::ptr_eq(&cluster.members()[0], &kept), "it never left");
        let mut rng = SplitMix64(seed);
        let picked: HashSet<_> = (0..2000)
            .map(|_| cluster.pick(clock::now(), &mut rng, &[]).unwrap().endpoint().address.to_string())
            .collect();
        assert_eq!(picked.len(), 8, "nobody is lost");
    }
}

/// Of this many requests in flight, how many may go on with a retry when all of them fail for this reason?
fn retries_of(requests: u32, retries: RetryLimit, failed: Option<Reason>) -> usize {
    let cluster = Cluster::new(name(), ClusterPolicy { retries, ..ClusterPolicy::default() }, Vec::new());
    (0..requests).for_each(|_| assert!(cluster.admit()));
    let fail = |_| {
        cluster.leave();
        cluster.retry_permit(failed)
    };
    // Kept until all have asked: those that may are between two attempts.
    let permits: Vec<_> = (0..requests).filter_map(fail).collect();
    permits.len()
}

/// envoy retry_budget: 20 % of active requests, at least 3; maxRetries is a number instead.
#[test]
fn retries_have_a_budget() {
    let reset = Some(Reason::Reset { request_sent: true });
    for failed in [None, reset] {
        assert_eq!(retries_of(10, RetryLimit::Unset, failed), 3);
        assert_eq!(retries_of(50, RetryLimit::Unset, failed), 10, "those between two attempts are active");
        assert_eq!(retries_of(50, RetryLimit::Max(1), failed), 1);
    }
    let cluster = Cluster::new(name(), ClusterPolicy::default(), Vec::new());
    (0..50).for_each(|_| assert!(cluster.admit()));
    let take = || std::iter::repeat_with(|| cluster.retry_permit(None)).map_while(|permit| permit).take(100);
    let permits: Vec<_> = take().map(|mut permit| permit.sent()).collect();
    assert_eq!(permits.len(), 100, "each was given back");
    let mut permits: Vec<_> = take().collect();
    assert_eq!(permits.len(), 12, "20 % of 50 in flight, 12 that wait and the one that asks");
    permits.iter_mut().for_each(RetryPermit::sent);
    assert!(cluster.retry_permit(None).is_none(), "in flight they still have their places");
    drop(permits);
    assert!(cluster.retry_permit(None).is_some());
}

/// istio TrafficPolicy.RetryBudget.percent: at 100 % each request that is active may be one that is tried again.
#[test]
fn a_budget_of_a_hundred_percent_refuses_nobody() {
    let all = RetryLimit::Budget { percent: 100.0, min: 0 };
    assert_eq!(retries_of(100, all, Some(Reason::Reset { request_sent: true })), 100);
    assert_eq!(retries_of(100, all, Some(Reason::ConnectFailure)), 100);
}

/// An endpoint that died stays in discovery for a while: what it never got may go to another, however many these are.
/// Where the rule sets a limit, that counts them too, as Envoy does.
#[test]
fn what_no_endpoint_got_is_repeated_for_free() {
    for unsent in [Reason::ConnectFailure, Reason::RefusedStream, Reason::Reset { request_sent: false }] {
        assert_eq!(retries_of(100, RetryLimit::Unset, Some(unsent)), 100);
        assert_eq!(retries_of(100, RetryLimit::Max(5), Some(unsent)), 5);
    }
}
