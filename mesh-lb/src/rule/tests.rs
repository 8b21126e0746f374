use std::{num::NonZeroU32, sync::Arc, time::Duration};

use mesh_core::{
    ClientTlsMode,
    config::{Document, Issues, Severity},
};

use super::{DefaultPolicy, DestinationRule};
use crate::{
    ClusterPolicy, ConsistentHash, HashCookie, HashKey, HashTable, Http2KeepAlive, HttpVersion, LoadBalancer,
    OutlierDetection, ProxyProtocol, RetryLimit, TcpKeepalive, TrafficPolicy, Transport,
};

fn read(spec: &str) -> (Option<DestinationRule>, Issues) {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let yaml = format!("kind: DestinationRule\nmetadata: {{name: r}}\nspec:\n{indented}");
    let mut issues = Issues::default();
    let documents = Document::parse_all("r.yaml", &yaml, &mut issues);
    assert_eq!(documents.len(), 1, "{issues}");
    let rule = DestinationRule::from_document(&documents[0], &mut issues);
    (rule, issues)
}

fn layered(spec: &str, subset: Option<&str>, port: u16) -> ClusterPolicy {
    let (rule, issues) = read(spec);
    let rule = rule.unwrap_or_else(|| panic!("{issues}"));
    let subset = subset.map(|name| rule.subsets.iter().find(|s| s.name() == name).unwrap());
    TrafficPolicy::layer(rule.traffic_policy.as_deref(), subset.and_then(|s| s.traffic_policy.as_ref()), port)
}

/// istio.md 1.4: "prime <5000011, default 65537"
/// istio.md 1.4: "name DNS-1123 label; labels; own trafficPolicy"
/// istio.md 1.4: "selector => exportTo forced `.`"
#[test]
fn says_what_is_wrong_and_where() {
    let hash = |hash: &str| format!("host: a\ntrafficPolicy: {{loadBalancer: {{consistentHash: {hash}}}}}");
    for (spec, expected) in [
        ("{}", "r.yaml:4:3: error: DestinationRule default/r host: a host must not be empty"),
        (
            "host: a b",
            "r.yaml:4:9: error: DestinationRule default/r host: domain name \"a b\" invalid (label \"a b\" invalid): \
             letters, digits and '-' only, at most 63",
        ),
        ("host: a\ntrafficPolicies: {}", "unknown field `trafficPolicies`"),
        (
            "host: a\ntrafficPolicy: {}",
            "r.yaml:5:18: error: DestinationRule default/r trafficPolicy: traffic policy must have at least one field",
        ),
        ("host: a\ntrafficPolicy: {connectionPool: {}}", "connection pool must have at least one field"),
        (
            "host: a\ntrafficPolicy: {tunnel: {}, proxyProtocol: {}}",
            "tunnel and proxyProtocol must not be set together",
        ),
        ("host: a\ntrafficPolicy: {loadBalancer: {simple: FASTEST}}", "unknown variant `FASTEST`"),
        (
            "host: a\ntrafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: x, to: {x: 90}}]}}}",
            "r.yaml:5:81: error: DestinationRule default/r trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: \
             total locality weight 90 != 100",
        ),
        ("host: a\ntrafficPolicy: {loadBalancer: {warmup: {}}}", "loadBalancer.warmup.duration: duration is required"),
        (
            "host: a\ntrafficPolicy: {loadBalancer: {warmup: {duration: 1s, aggression: 0}}}",
            "aggression should be greater than 0",
        ),
        (
            "host: a\ntrafficPolicy: {loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}}",
            "minimumPercent must be in range [0, 100]",
        ),
        (
            "host: a\ntrafficPolicy: {loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}}",
            "only one of localityLbSetting and zoneAwareLbSetting can be set",
        ),
        (
            "host: a\ntrafficPolicy:\n  connectionPool:\n    http: {http2MaxRequests: -1}",
            "r.yaml:7:32: error: DestinationRule default/r trafficPolicy.connectionPool.http.http2MaxRequests: http2 \
             max requests must be non-negative",
        ),
        (
            "host: a\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}",
            "max connections must be non-negative",
        ),
        ("host: a\ntrafficPolicy: {connectionPool: {tcp: {connectTimeout: '5'}}}", "a number with a unit is needed"),
        (
            "host: a\ntrafficPolicy: {connectionPool: {tcp: {connectTimeout: 10us}}}",
            "duration must be greater than 1ms",
        ),
        (
            "host: a\ntrafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
            "use client protocol must not be true when H2UpgradePolicy is UPGRADE",
        ),
        (
            "host: a\ntrafficPolicy: {connectionPool: {http: {http2KeepAlive: {interval: 15s}}}}",
            "http2KeepAlive.timeout: http2 keepalive timeout is required",
        ),
        (
            "host: a\ntrafficPolicy: {connectionPool: {http: {http2KeepAlive: {timeout: 5s}}}}",
            "http2KeepAlive.interval: http2 keepalive interval is required",
        ),
        (
            "host: a\ntrafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}",
            "percentage 101 is not in range 0..100",
        ),
        (
            "host: a\ntrafficPolicy: {outlierDetection: {consecutive5xxErrors: -1}}",
            "invalid value: integer `-1`, expected an integer, 0 or more",
        ),
        (
            "host: a\ntrafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 2}}",
            "split external local origin errors is set to false",
        ),
        (
            "host: a\ntrafficPolicy: {outlierDetection: {outlierDetectionHttpErrorCodes: [500, 99]}}",
            "outlierDetectionHttpErrorCodes[1]: HTTP status 99 is not in range 100..599",
        ),
        ("host: a\ntrafficPolicy: {retryBudget: {percent: 120}}", "percentage 120 is not in range 0..100"),
        (
            "host: a\ntrafficPolicy: {portLevelSettings: [{tls: {mode: SIMPLE}}]}",
            "portTrafficPolicy must have valid port",
        ),
        (
            "host: a\ntrafficPolicy: {portLevelSettings: [{port: {number: 80}}]}",
            "port traffic policy must have at least one field",
        ),
        ("host: a\ntrafficPolicy: {tls: {mode: MUTUAL, privateKey: k}}", "client certificate required for mutual tls"),
        ("host: a\ntrafficPolicy: {tls: {mode: MUTUAL, clientCertificate: c}}", "private key required for mutual tls"),
        ("host: a\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}", "credentialName is not supported yet"),
        (
            "host: a\ntrafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}",
            "insecureSkipVerify is not supported yet",
        ),
        (
            "host: a\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: c, caCertificates: f}}",
            "cannot specify client certificates or CA certificate or CA CRL If credentialName is set",
        ),
        (
            "host: a\ntrafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {}}}",
            "only one of simple or consistentHash can be set",
        ),
        (
            "host: a\ntrafficPolicy:\n  loadBalancer:\n    consistentHash: {httpCookie: {ttl: 0s}}",
            "r.yaml:7:36: error: DestinationRule default/r trafficPolicy.loadBalancer.consistentHash.httpCookie.name: \
             name required for HttpCookie",
        ),
        (&hash("{httpCookie: {name: 'a b;'}}"), "httpCookie: not a cookie that a client can have"),
        (&hash("{httpCookie: {name: a, ttl: soon}}"), "httpCookie.ttl: "),
        (&hash("{httpCookie: {name: a, attributes: [{value: b}]}}"), "attributes[0].name: an attribute has a name"),
        (&hash("{httpHeaderName: 'a b'}"), "httpHeaderName: not the name of a header"),
        (&hash("{httpQueryParameterName: ''}"), "httpQueryParameterName: a query parameter has a name"),
        (
            &hash("{httpHeaderName: a, useSourceIp: true}"),
            "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName can be set",
        ),
        (&hash("{maglev: {}}"), "maglev.tableSize: tableSize must be set for maglev"),
        (&hash("{maglev: {tableSize: 5000011}}"), "tableSize must be less than 5000011 for maglev"),
        (&hash("{maglev: {tableSize: 65536}}"), "tableSize must be a prime number for maglev"),
        (&hash("{maglev: {tableSize: 1}}"), "tableSize must be a prime number for maglev"),
        (&hash("{maglev: {tableSize: -7}}"), "integer `-7`, expected an integer, 0 or more"),
        (
            &hash("{minimumRingSize: 5, maglev: {tableSize: 7}}"),
            "only one of MinimumRingSize or Maglev/Ringhash can be",
        ),
        (
            &hash("{minimumRingSize: 5, ringHash: {}}"),
            "only one of MinimumRingSize or Maglev/Ringhash can be specified",
        ),
        (&hash("{ringHash: {}, maglev: {tableSize: 7}}"), "only one of ringHash and maglev can be set"),
        (&hash("{ringHash: {minimumRingSize: 8388609}}"), "minimumRingSize must be at most 8388608"),
        (&hash("{httpHeader: a}"), "unknown field `httpHeader`"),
        ("host: a\nsubsets: [{name: v1}, {name: v1}]", "subsets[1].name: duplicate subset names: v1"),
        ("host: a\nsubsets: [{name: V_1}]", "subset name \"V_1\" is invalid"),
        ("host: a\nsubsets: [{name: v1, labels: {version: 'v 1'}}]", "invalid label value \"v 1\""),
        ("host: a\nexportTo: ['*', '.']", "cannot have both public (*) and non-public exportTo values"),
        (
            "host: a\nexportTo: [other]\nworkloadSelector: {matchLabels: {app: x}}",
            "destination rule with workload selector cannot have exportTo beyond current namespace",
        ),
    ] {
        let (rule, issues) = read(spec);
        assert!(rule.is_none(), "{spec}");
        assert!(issues.to_string().contains(expected), "{spec}\n  expected {expected}\n  found {issues}");
    }
}

#[test]
fn warns_of_what_it_does_not_enforce() {
    for (spec, path) in [
        (
            "host: a\ntrafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 9}}}",
            "trafficPolicy.loadBalancer.consistentHash.minimumRingSize",
        ),
        (
            "host: a\ntrafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}",
            "trafficPolicy.loadBalancer.localityLbSetting",
        ),
        (
            "host: a\ntrafficPolicy: {loadBalancer: {simple: RANDOM, warmup: {duration: 3s}}}",
            "trafficPolicy.loadBalancer.warmup",
        ),
        ("host: a\ntrafficPolicy: {tunnel: {targetHost: b, targetPort: 1}}", "trafficPolicy.tunnel"),
        (
            "host: a\ntrafficPolicy: {loadBalancer: {zoneAwareLbSetting: {}, consistentHash: {useSourceIp: true}}}",
            "trafficPolicy.loadBalancer.zoneAwareLbSetting",
        ),
    ] {
        let (rule, issues) = read(spec);
        assert!(rule.is_some(), "{spec}\n{issues}");
        let issue = issues.iter().next().unwrap();
        assert_eq!((issue.severity, issue.path.as_str()), (Severity::Warning, path), "{spec}");
        assert_eq!(issues.len(), 1, "{issues}");
    }
}

#[test]
fn reads_every_block() {
    let policy = layered(
        "host: a
trafficPolicy:
  loadBalancer: {simple: ROUND_ROBIN}
  connectionPool: {tcp: {connectTimeout: 250ms}, http: {http2MaxRequests: 7}}
  outlierDetection: {consecutive5xxErrors: 3, consecutiveGatewayErrors: 2, interval: 1s, baseEjectionTime: 2s, maxEjectionPercent: 50, minHealthPercent: 20,
    splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4, outlierDetectionHttpErrorCodes: [429, 503]}
  tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca, sni: s, subjectAltNames: [x, y]}
  retryBudget: {percent: 25, minRetryConcurrency: 5}",
        None,
        80,
    );
    assert_eq!(policy.load_balancer, LoadBalancer::RoundRobin);
    assert_eq!((policy.connect_timeout, policy.max_requests), (Duration::from_millis(250), 7));
    assert_eq!(policy.retries, RetryLimit::Budget { percent: 25.0, min: 5 });
    let outlier = policy.outlier_detection.unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway), (3, 2));
    assert_eq!((outlier.interval, outlier.base_ejection_time), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!((outlier.max_ejection_percent, outlier.min_health_percent), (50, 20));
    assert_eq!((outlier.split_local_origin, outlier.consecutive_local_origin), (true, 4));
    assert_eq!(outlier.error_codes.as_deref(), Some(&[429, 503][..]));
    let tls = policy.tls.unwrap();
    assert_eq!((tls.mode, tls.sni.as_deref()), (ClientTlsMode::Mutual, Some("s")));
    assert_eq!(tls.subject_alt_names, [Arc::from("x"), Arc::from("y")]);
    assert_eq!(tls.ca_certificates.as_deref(), Some("/ca".as_ref()));
}

/// istio.md 1.4: "UNSPECIFIED/LEAST_REQUEST/LEAST_CONN(deprecated) => **LEAST_REQUEST is Istio's default**"
/// istio.md 1.4: "tcp.connectTimeout | 10 s (mesh)"
/// istio.md 1.4: "http1MaxPendingRequests, http2MaxRequests, maxRetries | 2^32-1 each (0 = default)"
#[test]
fn defaults_are_istios() {
    let policy = layered("host: a\ntrafficPolicy: {outlierDetection: {}}", None, 80);
    assert_eq!(policy.load_balancer, LoadBalancer::LeastRequest);
    assert_eq!((policy.connect_timeout, policy.max_requests), (Duration::from_secs(10), u32::MAX));
    assert_eq!(policy.outlier_detection, Some(OutlierDetection::default()));
    assert_eq!(policy.retries, RetryLimit::Unset);
    for simple in ["UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST"] {
        let policy = layered(&format!("host: a\ntrafficPolicy: {{loadBalancer: {{simple: {simple}}}}}"), None, 80);
        assert_eq!(policy.load_balancer, LoadBalancer::LeastRequest, "{simple}");
    }
    let policy = layered("host: a\ntrafficPolicy: {connectionPool: {http: {maxRetries: 4}}}", None, 80);
    assert_eq!(policy.retries, RetryLimit::Max(4));
}

/// istio applyConnectionPool: 0 is the default; http.idleTimeout beats tcp.idleTimeout, of which 0s is never.
/// istio.md 1.4: "http.idleTimeout | 1 h; wins over tcp.idleTimeout"
#[test]
fn reads_limits_of_connections() {
    let limits =
        |pool: &str| layered(&format!("host: a\ntrafficPolicy: {{connectionPool: {pool}}}"), None, 80).connections;
    let read = limits(
        "{tcp: {maxConnections: 3, maxConnectionDuration: 9s, idleTimeout: 8s}, http: {http1MaxPendingRequests: 2, \
         maxRequestsPerConnection: 1, idleTimeout: 7s}}",
    );
    assert_eq!((read.max_connections, read.max_pending, read.max_requests.map(u32::from)), (3, 2, Some(1)));
    let seconds = Duration::from_secs;
    assert_eq!((read.max_duration, read.idle_timeout), (Some(seconds(9)), Some(seconds(7))));
    let unlimited = "{tcp: {maxConnections: 0}, http: {http1MaxPendingRequests: 0, maxRequestsPerConnection: 0}}";
    assert_eq!(limits(unlimited), crate::ConnectionLimits::default());
    assert_eq!(limits("{tcp: {idleTimeout: 8s}}").idle_timeout, Some(seconds(8)));
    assert_eq!(limits("{tcp: {idleTimeout: 0s}}").idle_timeout, None);
    assert_eq!(limits("{tcp: {idleTimeout: 0s}, http: {idleTimeout: 1s}}").idle_timeout, Some(seconds(1)));
}

/// istio setWarmup.
#[test]
fn warmup_has_an_old_name_too() {
    for (spec, expected) in [
        ("warmup: {duration: 3s, minimumPercent: 20, aggression: 1.5}", Some((3, 20.0, 1.5))),
        ("warmup: {duration: 3s}, warmupDurationSecs: 9s", Some((3, 10.0, 1.0))),
        ("simple: ROUND_ROBIN, warmupDurationSecs: 9s", Some((9, 10.0, 1.0))),
        ("simple: ROUND_ROBIN", None),
    ] {
        let policy = layered(&format!("host: a\ntrafficPolicy: {{loadBalancer: {{{spec}}}}}"), None, 80);
        let found = policy.warmup.map(|w| (w.duration.as_secs(), w.minimum_percent, w.aggression));
        assert_eq!(found, expected, "{spec}");
    }
    // It comes and goes with its block.
    let spec = "host: a\ntrafficPolicy: {loadBalancer: {warmup: {duration: 3s}, localityLbSetting: {}}}\nsubsets:\n- {name: v1, \
                trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\n- {name: v2, trafficPolicy: {outlierDetection: {}}}";
    let has = |subset| {
        let policy = layered(spec, Some(subset), 80);
        (policy.warmup.is_some(), policy.locality_setting.is_some())
    };
    assert_eq!((has("v1"), has("v2")), ((false, false), (true, true)));
}

fn hashed(settings: &str) -> LoadBalancer {
    layered(&format!("host: a\ntrafficPolicy: {{loadBalancer: {{consistentHash: {settings}}}}}"), None, 80)
        .load_balancer
}

/// istio ApplyRingHashLoadBalancer, ConsistentHashToHashPolicy.
/// istio.md 1.4: "httpHeaderName, httpCookie{name,path,ttl,attributes}, useSourceIp, httpQueryParameterName"
/// istio.md 1.4: "deprecated top-level minimumRingSize"
#[test]
fn reads_consistent_hashing() {
    let ring = |minimum_size| ConsistentHash::new(HashTable::Ring { minimum_size });
    let header = HashKey::header("x-user").unwrap();
    for (settings, expected) in [
        ("{httpHeaderName: X-User}", ring(1024).with_key(header.clone())),
        ("{useSourceIp: true, ringHash: {}}", ring(1024).with_key(HashKey::source_ip())),
        ("{useSourceIp: false, ringHash: {minimumRingSize: 0}}", ring(1024)),
        (
            "{httpQueryParameterName: u, ringHash: {minimumRingSize: 7}}",
            ring(7).with_key(HashKey::query_parameter("u")),
        ),
        ("{httpHeaderName: x-user, minimumRingSize: 9}", ring(9).with_key(header.clone())),
        ("{}", ring(1024)),
        (
            "{httpHeaderName: x-user, maglev: {tableSize: 4999999}}",
            ConsistentHash::new(HashTable::Maglev { size: 4_999_999 }).with_key(header),
        ),
        (
            "{httpCookie: {name: user, ttl: 0s}}",
            ring(1024).with_key(HashKey::cookie(HashCookie::new("user").with_ttl(Duration::ZERO)).unwrap()),
        ),
        (
            "{httpCookie: {name: u, path: /p, ttl: 1h, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}",
            ring(1024).with_key(
                HashKey::cookie(
                    HashCookie::new("u")
                        .with_path("/p")
                        .with_ttl(Duration::from_secs(3600))
                        .with_attribute("SameSite", "Lax")
                        .with_attribute("Secure", ""),
                )
                .unwrap(),
            ),
        ),
    ] {
        assert_eq!(hashed(settings), expected.into(), "{settings}");
    }
    assert_ne!(hashed("{httpCookie: {name: u}}"), hashed("{httpCookie: {name: u, ttl: 0s}}"), "no ttl: none is made");
}

/// istio HashForHTTPDestination: a subset's port, the subset, the rule's port, the rule.
/// istio.md 1.4: "subset port > subset > DR port > DR; per destination"
#[test]
fn the_nearest_hash_key_holds() {
    let of = |name: &str| format!("loadBalancer: {{consistentHash: {{httpHeaderName: {name}}}}}");
    let port = |name: &str| format!("portLevelSettings: [{{port: {{number: 81}}, {}}}]", of(name));
    let spec = format!(
        "host: a
trafficPolicy: {{{}, {}}}
subsets:
- {{name: plain}}
- {{name: own, trafficPolicy: {{{}}}}}
- {{name: port, trafficPolicy: {{{}, {}}}}}",
        of("rule"),
        port("rule-port"),
        of("subset"),
        of("subset"),
        port("subset-port"),
    );
    for (subset, port, expected) in [
        (None, 80, "rule"),
        (None, 81, "rule-port"),
        (Some("plain"), 80, "rule"),
        (Some("plain"), 81, "rule-port"),
        (Some("own"), 80, "subset"),
        (Some("own"), 81, "subset"),
        (Some("port"), 80, "subset"),
        (Some("port"), 81, "subset-port"),
    ] {
        let policy = layered(&spec, subset, port).load_balancer;
        let key = policy.consistent_hash().and_then(ConsistentHash::key);
        assert_eq!(key, HashKey::header(expected).ok().as_ref(), "{subset:?} {port}");
    }
}

/// istio util.GetPortLevelTrafficPolicy, MergeSubsetTrafficPolicy: see `TrafficPolicy::layer`.
/// istio.md 1.0: "**replaces** connectionPool/LB/outlier/tls wholesale"
/// istio.md 1.0: "subset overrides DR per block; subset port-level replaces all four blocks"
/// istio.md 1.4: "portLevelSettings` | layering row in 1.0"
#[test]
fn levels_lie_over_each_other_as_istio_has_it() {
    let spec = "host: a
trafficPolicy:
  loadBalancer: {simple: RANDOM}
  outlierDetection: {consecutive5xxErrors: 1}
  retryBudget: {percent: 50}
  portLevelSettings:
  - {port: {number: 81}, tls: {mode: SIMPLE}}
subsets:
- {name: plain}
- name: own
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
- name: port
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - {port: {number: 80}, outlierDetection: {consecutive5xxErrors: 9}}";
    let half = RetryLimit::Budget { percent: 50.0, min: 3 };
    let default = RetryLimit::default();
    use LoadBalancer::{LeastRequest, Random, RoundRobin};
    for (subset, port, lb, five, tls, retries) in [
        (None, 80, Random, Some(1), false, half),
        // The port replaces all four blocks, and the retry budget is not part of a port's settings.
        (None, 81, LeastRequest, None, true, default),
        (Some("plain"), 80, Random, Some(1), false, half),
        (Some("own"), 80, RoundRobin, Some(1), false, half),
        (Some("own"), 81, RoundRobin, None, true, default),
        // The subset's port replaces everything below it.
        (Some("port"), 80, LeastRequest, Some(9), false, half),
        (Some("port"), 81, RoundRobin, None, true, default),
    ] {
        let policy = layered(spec, subset, port);
        let found = (
            policy.load_balancer,
            policy.outlier_detection.map(|o| o.consecutive_5xx),
            policy.tls.is_some(),
            policy.retries,
        );
        assert_eq!(found, (lb, five, tls, retries), "{subset:?} {port}");
    }
}

#[test]
fn istios_crd_tests_have_their_verdicts() {
    for (file, valid) in [("destinationrule-valid.yaml", true), ("destinationrule-invalid.yaml", false)] {
        let Some(path) = mesh_test::shared(&format!("istio/crd-tests/{file}")) else { return };
        // `_err` is the test suite's own key: what the API server says.
        let text = std::fs::read_to_string(path).unwrap();
        let text: String = text.lines().filter(|l| !l.starts_with("_err")).map(|l| format!("{l}\n")).collect();
        let mut issues = Issues::default();
        let documents = Document::parse_all(file, &text, &mut issues);
        assert!(documents.len() >= 3, "{issues}");
        for document in documents {
            let mut issues = Issues::default();
            let rule = DestinationRule::from_document(&document, &mut issues);
            assert_eq!(rule.is_some(), valid, "{}: {issues}", document.object());
        }
    }
}

#[test]
fn bookinfo_is_read_without_a_word() {
    let Some(folder) = mesh_test::shared("istio/bookinfo/networking") else { return };
    let mut rules = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let mut issues = Issues::default();
        let text = std::fs::read_to_string(&path).unwrap();
        let documents = Document::parse_all(&path.to_string_lossy(), &text, &mut issues);
        for document in documents.iter().filter(|document| document.kind() == "DestinationRule") {
            let rule = DestinationRule::from_document(document, &mut issues);
            assert!(rule.is_some() && issues.is_empty(), "{issues}");
            rules += 1;
        }
    }
    assert!(rules >= 10, "{rules}");
}

#[test]
fn a_mesh_fills_in_what_nobody_says() {
    // istio.md 1.0: "then mesh `defaultTrafficPolicy` fills connectionPool/outlier if still nil"
    let mut issues = Issues::default();
    let yaml = "mesh: {defaultTrafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}, outlierDetection: \
                {consecutive5xxErrors: 3}}}";
    let documents = Document::parse_all("mesh.yaml", yaml, &mut issues);
    let defaults = DefaultPolicy::from_mesh_document(&documents[0], &mut issues).unwrap();
    assert!(issues.is_empty(), "{issues}");
    let (rule, _) = read(
        "host: a
trafficPolicy:
  outlierDetection: {consecutive5xxErrors: 1}
  portLevelSettings: [{port: {number: 81}, connectionPool: {http: {http2MaxRequests: 9}}}]
subsets:
- {name: v1, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 8}}}}",
    );
    let rule = rule.unwrap();
    let policy = rule.traffic_policy.as_deref();
    let v1 = rule.subsets[0].traffic_policy.as_ref();
    for (policy, subset, port, requests, five) in [
        (None, None, 80, 7, 3),
        (policy, None, 80, 7, 1),
        // Whole blocks: what the port leaves out of all others is the mesh's again.
        (policy, None, 81, 9, 3),
        (policy, v1, 80, 8, 1),
    ] {
        let layered = TrafficPolicy::layer_over(&defaults, policy, subset, port);
        assert_eq!(
            (layered.max_requests, layered.outlier_detection.map(|o| o.consecutive_5xx)),
            (requests, Some(five))
        );
        assert_eq!(layered.load_balancer, LoadBalancer::LeastRequest);
    }
    assert_eq!(TrafficPolicy::layer(None, None, 80), ClusterPolicy::default());
}

#[test]
fn a_meshs_defaults_are_checked_and_the_rest_of_them_reported() {
    for (policy, expected) in [
        (
            "{outlierDetection: {maxEjectionPercent: 101}}",
            "mesh.yaml:1:70: error: MeshConfig /mesh defaultTrafficPolicy.outlierDetection.maxEjectionPercent: percentage 101",
        ),
        ("{outliers: {}}", "mesh.yaml:1:31: error: MeshConfig /mesh defaultTrafficPolicy: unknown field `outliers`"),
        (
            "{tls: {mode: SIMPLE}}",
            "mesh.yaml:1:36: warning: MeshConfig /mesh defaultTrafficPolicy.tls: read but not enforced",
        ),
        ("null", ""),
    ] {
        let mut issues = Issues::default();
        let documents =
            Document::parse_all("mesh.yaml", &format!("mesh: {{defaultTrafficPolicy: {policy}}}"), &mut issues);
        let read = DefaultPolicy::from_mesh_document(&documents[0], &mut issues);
        assert!(issues.to_string().starts_with(expected), "{issues}");
        assert_eq!(read.is_none(), issues.has_errors());
    }
}

/// istio ConnectionPoolSettings, TrafficPolicy.ProxyProtocol: where each level's say ends, and the defaults.
#[test]
fn how_connections_are_made() {
    let layer = |spec: &str, port: u16| {
        let (rule, issues) = read(spec);
        let rule = rule.unwrap_or_else(|| panic!("{issues}"));
        assert!(issues.is_empty(), "{issues}");
        TrafficPolicy::layer(
            rule.traffic_policy.as_deref(),
            rule.subsets.first().and_then(|s| s.traffic_policy.as_ref()),
            port,
        )
        .transport
    };
    assert_eq!(layer("host: a", 80), Transport::default());
    let made = layer(
        "host: a\ntrafficPolicy: {proxyProtocol: {}, connectionPool: {tcp: {tcpKeepalive: {time: 90s, interval: 1500ms, \
         probes: 4}}, http: {maxConcurrentStreams: 7, h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 3s, timeout: \
         500ms}}}}",
        80,
    );
    let second = Duration::from_secs;
    let keepalive = TcpKeepalive { time: Some(second(90)), interval: Some(second(2)), probes: Some(4) };
    assert_eq!(made.tcp_keepalive, Some(keepalive), "in whole seconds");
    let pings = Http2KeepAlive { interval: second(3), timeout: Duration::from_millis(500) };
    assert_eq!((made.http2_keep_alive, made.max_concurrent_streams), (Some(pings), NonZeroU32::new(7)));
    assert_eq!((made.http_version, made.proxy_protocol), (HttpVersion::Http2, Some(ProxyProtocol::V1)));
    let own = layer("host: a\ntrafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}", 80);
    assert_eq!(own.http_version, HttpVersion::Requests);
    // A subset's goes before the rule's; a port's settings have none.
    let levels = "host: a\ntrafficPolicy: {proxyProtocol: {}, portLevelSettings: [{port: {number: 81}, tls: {mode: DISABLE}}]}\n\
                  subsets: [{name: v, labels: {v: a}, trafficPolicy: {proxyProtocol: {version: V2}}}]";
    assert_eq!(layer(levels, 80).proxy_protocol, Some(ProxyProtocol::V2));
    let rule_only =
        "host: a\ntrafficPolicy: {proxyProtocol: {}, portLevelSettings: [{port: {number: 81}, tls: {mode: DISABLE}}]}";
    assert_eq!(layer(rule_only, 80).proxy_protocol, Some(ProxyProtocol::V1));
    assert_eq!(layer(rule_only, 81).proxy_protocol, None);
}
