use std::sync::Arc;

use mesh_core::{
    ClusterName, EndpointAddress, MeshConfig, Workload, clock,
    config::{Document, Issues},
    registry::Registry,
};
use tokio::time::Instant;

use super::*;
use crate::{Cluster, ClusterSet, Clusters, DestinationRule, HealthCheckKind, Member};

/// The section of a policy in namespace default, and what was said of it.
fn section(yaml: &str) -> (Option<LoadBalancing>, String) {
    let mut issues = Issues::default();
    let yaml =
        format!("apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: p}}\nspec:\n  loadBalancing:\n{yaml}");
    let documents = Document::parse_all("p.yaml", &yaml, &mut issues);
    let section = LoadBalancing::from_document(&documents[0], &mut issues);
    (section, issues.to_string())
}

fn good(yaml: &str) -> LoadBalancing {
    let (section, said) = section(yaml);
    assert!(said.is_empty(), "{said}");
    section.unwrap()
}

struct World {
    clusters: Clusters,
    registry: Registry,
    workload: Workload,
    mesh: MeshConfig,
}

impl World {
    fn new() -> Self {
        let service = |name: &str| {
            format!(
                "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {{name: {name}}}\nspec:\n  hosts: \
                 [{name}.test]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
                 endpoints: [{{address: 10.0.0.1, labels: {{v: a}}}}, {{address: 10.0.0.2}}]\n"
            )
        };
        let yaml = format!("{}---\n{}", service("a"), service("b"));
        let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
        let documents = Document::parse_all("w.yaml", &yaml, &mut issues);
        let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
        assert!(issues.is_empty(), "{issues}");
        Self { clusters: Clusters::new(), registry, workload: Workload::new("default", "client"), mesh }
    }

    fn rules(&self, policy: &str) -> DestinationRules {
        if policy.is_empty() {
            return DestinationRules::default();
        }
        let yaml = format!(
            "kind: DestinationRule\nmetadata: {{name: a}}\nspec:\n  host: a.test\n  trafficPolicy: {policy}\n  subsets: \
             [{{name: a, labels: {{v: a}}}}]\n"
        );
        let mut issues = Issues::default();
        let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
        let rule = DestinationRule::from_document(&documents[0], &mut issues);
        assert!(!issues.has_errors(), "{issues}");
        DestinationRules::new(&[Arc::new(rule.unwrap())])
    }

    fn build(&self, rule: &str, section: LoadBalancing) -> ClusterSet {
        let rules = self.rules(rule).with_load_balancing(section);
        self.clusters.build(&self.registry, &rules, &self.workload, &self.mesh)
    }

    fn conflicts(&self, rule: &str, section: &LoadBalancing) -> Vec<String> {
        let found = section.conflicts(&self.registry, &self.rules(rule), &self.workload, &self.mesh);
        found.into_iter().map(|(path, message)| format!("{path}: {message}")).collect()
    }
}

fn cluster(set: &ClusterSet, host: &str, subset: Option<&str>) -> Cluster {
    let cluster = set.iter().find(|cluster| {
        let name: &ClusterName = cluster.name();
        *name.service.host == *host && name.subset.as_deref() == subset
    });
    cluster.unwrap().clone()
}

#[test]
fn the_first_entry_that_names_a_host_holds() {
    let section = good("  - {hosts: [a.test], healthCheck: {tcp: {}}}\n  - {healthCheck: {grpc: {serviceName: x}}}\n");
    let set = World::new().build("{loadBalancer: {simple: RANDOM}}", section);
    let kind =
        |host, subset| cluster(&set, host, subset).policy().health_check.as_ref().map(|check| check.kind.clone());
    assert_eq!(kind("a.test", None), Some(HealthCheckKind::Tcp));
    assert_eq!(kind("a.test", Some("a")), Some(HealthCheckKind::Tcp), "subsets too");
    assert!(matches!(kind("b.test", None), Some(HealthCheckKind::Grpc(grpc)) if &*grpc.service == "x"));
}

/// As in a DestinationRule: short names are of the policy's namespace, `*.` stands for a name before it.
#[test]
fn hosts_as_in_a_destination_rule() {
    let section = good("  - {hosts: [a, 'b.other.svc.cluster.local', '*.test'], healthCheck: {tcp: {}}}\n");
    for (host, named) in [
        ("a.default.svc.cluster.local", true),
        ("a.other.svc.cluster.local", false),
        ("b.other.svc.cluster.local", true),
        ("x.test", true),
        ("test", false),
    ] {
        let mut policy = ClusterPolicy::default();
        section.apply(host, &mut policy);
        assert_eq!(policy.health_check.is_some(), named, "{host}");
    }
}

#[test]
fn every_field_is_read() {
    let section = good(
        "  - healthCheck:
      http:
        path: /health?deep=1
        host: a.test:80
        method: HEAD
        expectedStatuses: [{start: 200, end: 300}]
        retriableStatuses: [{start: 503, end: 504}]
      interval: 5s
      timeout: 250ms
      unhealthyThreshold: 4
      healthyThreshold: 2
      intervalJitter: 1s
      initialJitter: 2s
    outlierDetection:
      successRate: {minimumHosts: 3, requestVolume: 10, stdevFactor: 1000}
      failurePercentage: {threshold: 50, minimumHosts: 2, requestVolume: 20}
",
    );
    let mut policy = ClusterPolicy::default();
    section.apply("a", &mut policy);
    let check = policy.health_check.as_deref().unwrap();
    let HealthCheckKind::Http(http) = &check.kind else { panic!("{check:?}") };
    assert_eq!((http.path.as_str(), http.method.as_str()), ("/health?deep=1", "HEAD"));
    assert_eq!(http.host.as_ref().unwrap(), "a.test:80");
    assert_eq!(http.result(http::StatusCode::NO_CONTENT), crate::CheckResult::Passed);
    assert_eq!(http.result(http::StatusCode::SERVICE_UNAVAILABLE), crate::CheckResult::Unanswered);
    assert_eq!((check.interval.as_secs(), check.timeout.as_millis()), (5, 250));
    assert_eq!((check.unhealthy_threshold.get(), check.healthy_threshold.get()), (4, 2));
    assert_eq!((check.interval_jitter.as_secs(), check.initial_jitter.as_secs()), (1, 2));
    let detection = policy.outlier_detection.unwrap();
    let (success, failure) = (detection.success_rate.unwrap(), detection.failure_percentage.unwrap());
    assert_eq!((success.minimum_hosts, success.request_volume, success.stdev_factor), (3, 10, 1000));
    assert_eq!((failure.threshold, failure.minimum_hosts, failure.request_volume), (50, 2, 20));
    assert_eq!(detection.consecutive_5xx, 5, "the rest is Istio's default");
}

#[test]
fn what_a_rule_says_stays_where_the_section_says_nothing() {
    let world = World::new();
    let rule = "{outlierDetection: {consecutive5xxErrors: 2}, loadBalancer: {consistentHash: {httpHeaderName: x}}}";
    let yaml = "  - boundedLoad: {percent: 150}\n    outlierDetection: {failurePercentage: {threshold: 10}}\n";
    let set = world.build(rule, good(yaml));
    let policy = cluster(&set, "a.test", Some("a")).policy().clone();
    let detection = policy.outlier_detection.as_ref().unwrap();
    assert_eq!((detection.consecutive_5xx, detection.failure_percentage.unwrap().threshold), (2, 10));
    assert_eq!(detection.success_rate, None);
    let hash = policy.load_balancer.consistent_hash().unwrap();
    assert_eq!(hash.bounded_load(), BoundedLoad::percent(150));
    assert!(hash.key().is_some());
}

/// One consistency domain with the clusters: the section comes and goes with them, and what does not change goes on.
#[test]
fn the_section_changes_with_the_clusters() {
    let world = World::new();
    let before = cluster(&world.build("", LoadBalancing::default()), "a.test", None);
    let yaml = "  - {hosts: [a.test], healthCheck: {tcp: {}}}\n";
    let checked = cluster(&world.build("", good(yaml)), "a.test", None);
    assert!(before.policy().health_check.is_none() && checked.policy().health_check.is_some());
    assert!(Arc::ptr_eq(&before.members()[0], &checked.members()[0]));
    checked.set_health(&checked.members()[0], false);
    let again = cluster(&world.build("", good(yaml)), "a.test", None);
    assert_eq!(again.health(&again.members()[0]), Some(false), "a check that stays as it is goes on");
    // Without it nobody would ever say that the endpoint is back.
    let without = cluster(&world.build("", LoadBalancing::default()), "a.test", None);
    let first = &without.members()[0];
    assert!((0..100).any(|_| Arc::ptr_eq(&without.pick(clock::now(), &mut rand::rng(), &[]).unwrap(), first)));
    let anew = cluster(&world.build("", good(yaml)), "a.test", None);
    assert_eq!(anew.health(&anew.members()[0]), None, "forgotten meanwhile");
}

#[test]
fn what_lies_over_a_rule_or_has_no_effect_is_said() {
    let world = World::new();
    let bounded =
        good("  - {hosts: [b.test], healthCheck: {tcp: {}}}\n  - {hosts: [a.test], boundedLoad: {percent: 125}}\n");
    assert_eq!(
        world.conflicts("{loadBalancer: {simple: RANDOM}}", &bounded),
        ["loadBalancing[1].boundedLoad: has no effect: no DestinationRule has consistentHash (DestinationRule \
             default/a)"]
    );
    assert_eq!(
        world.conflicts("", &bounded),
        ["loadBalancing[1].boundedLoad: has no effect: no DestinationRule has consistentHash (a.test)"]
    );
    assert!(world.conflicts("{loadBalancer: {consistentHash: {useSourceIp: true}}}", &bounded).is_empty());
    for (yaml, expected) in [
        ("  - {hosts: [a]}\n", "p.yaml:6:5: warning: MeshPolicy default/p loadBalancing[0]: has no effect"),
        ("  - {outlierDetection: {}}\n", "loadBalancing[0].outlierDetection: has no effect: it has neither"),
        (
            "  - healthCheck: {tcp: {}}\n  - {hosts: [a], healthCheck: {tcp: {}}}\n",
            "p.yaml:7:5: warning: MeshPolicy default/p loadBalancing[1]: never in force",
        ),
        (
            "  - {hosts: ['*.test'], healthCheck: {tcp: {}}}\n  - {hosts: [a.test], healthCheck: {tcp: {}}}\n",
            "[1]: never",
        ),
    ] {
        let (read, said) = section(yaml);
        assert!(read.is_some() && said.contains(expected), "{yaml}{said}");
    }
}

#[test]
fn bad_input_is_an_error_with_its_place() {
    for (yaml, expected) in [
        (
            "  - {hosts: [''], healthCheck: {tcp: {}}}\n",
            "p.yaml:6:14: error: MeshPolicy default/p loadBalancing[0].hosts[0]: a host must not be empty",
        ),
        ("  - {hosts: ['a*'], healthCheck: {tcp: {}}}\n", "loadBalancing[0].hosts[0]: partial wildcard"),
        ("  - {peekEwma: {}}\n", "p.yaml:6:6: error: MeshPolicy default/p loadBalancing[0]: unknown field `peekEwma`"),
        ("  - {boundedLoad: {}}\n", "loadBalancing[0].boundedLoad.percent: percent is required"),
        ("  - {boundedLoad: {percent: 99}}\n", "99 is not a number of at least 100"),
        (
            "  - {boundedLoad: {percent: -125}}\n",
            "p.yaml:6:29: error: MeshPolicy default/p loadBalancing[0].boundedLoad.percent: -125 is not",
        ),
        ("  - {healthCheck: {}}\n", "loadBalancing[0].healthCheck: one of http, grpc and tcp must be set"),
        ("  - {healthCheck: {tcp: {}, grpc: {}}}\n", "healthCheck: only one of http, grpc and tcp can be set"),
        ("  - {healthCheck: {http: {}}}\n", "healthCheck.http.path: \"\" is not a path"),
        ("  - {healthCheck: {http: {path: 'a b'}}}\n", "\"a b\" is not a path"),
        ("  - {healthCheck: {http: {path: /, method: 'G T'}}}\n", "http.method: \"G T\" is not a method"),
        ("  - {healthCheck: {http: {path: /, host: 'a b'}}}\n", "http.host: \"a b\" is not a host"),
        (
            "  - {healthCheck: {http: {path: /, expectedStatuses: []}}}\n",
            "expectedStatuses: no status would be expected",
        ),
        (
            "  - {healthCheck: {http: {path: /, expectedStatuses: [{start: 300, end: 200}]}}}\n",
            "expectedStatuses[0]: 300..200 is not a range",
        ),
        (
            "  - {healthCheck: {http: {path: /, retriableStatuses: [{start: -1, end: 200}]}}}\n",
            "retriableStatuses[0]: -1..200 is not",
        ),
        ("  - {healthCheck: {tcp: {port: 1}}}\n", "loadBalancing[0].healthCheck.tcp: unknown field `port`"),
        ("  - {healthCheck: {tcp: {}, interval: 0s}}\n", "healthCheck.interval: must be at least 1ms"),
        ("  - {healthCheck: {tcp: {}, interval: 5}}\n", "loadBalancing[0].healthCheck.interval: "),
        ("  - {healthCheck: {tcp: {}, timeout: -1s}}\n", "healthCheck.timeout: invalid duration"),
        (
            "  - {healthCheck: {tcp: {}, unhealthyThreshold: 0}}\n",
            "unhealthyThreshold: 0 is not a number of at least 1",
        ),
        ("  - {healthCheck: {tcp: {}, healthyThreshold: -1}}\n", "healthyThreshold: -1 is not a number of at least 1"),
        ("  - {outlierDetection: {failurePercentage: {threshold: 101}}}\n", "threshold: 101 is not in range 0..100"),
        ("  - {outlierDetection: {successRate: {minimumHosts: -1}}}\n", "successRate.minimumHosts: -1 is not a number"),
        ("    a: b\n", "p.yaml:6:5: error: MeshPolicy default/p loadBalancing: "),
    ] {
        let (read, said) = section(yaml);
        assert!(read.is_none() && said.contains(expected), "{yaml}{said}");
    }
}

fn chosen(cluster: &Cluster, times: usize) -> Vec<EndpointAddress> {
    let now: Instant = clock::now();
    let mut chosen: Vec<_> = (0..times)
        .filter_map(|_| cluster.pick(now, &mut rand::rng(), &[]))
        .map(|member: Arc<Member>| member.endpoint().address.clone())
        .collect();
    chosen.sort_by_key(ToString::to_string);
    chosen.dedup();
    chosen
}

/// The extra rates eject as they do from code: what the section adds is in force, not only read.
#[test]
fn failure_percentage_of_a_section_ejects() {
    let world = World::new();
    let yaml = "  - outlierDetection: {failurePercentage: {threshold: 50, minimumHosts: 2, requestVolume: 2}}\n";
    let rule = "{outlierDetection: {maxEjectionPercent: 100, consecutive5xxErrors: 0, interval: 1s}}";
    let cluster = cluster(&world.build(rule, good(yaml)), "a.test", None);
    let members = cluster.members();
    let now = clock::now();
    for _ in 0..2 {
        cluster.record(&members[0], crate::Outcome::ServerError, now);
        cluster.record(&members[1], crate::Outcome::Success, now);
    }
    let later = now + std::time::Duration::from_millis(1100);
    cluster.record(&members[1], crate::Outcome::Success, later);
    assert!(cluster.is_ejected(&members[0], later));
    assert_eq!(chosen(&cluster, 50).len(), 1);
}
