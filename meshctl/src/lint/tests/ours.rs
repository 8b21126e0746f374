//! What Istio has no case for.

use super::{found, lines};

fn rule(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\nspec:\n  host: a.com\n  \
         trafficPolicy: {{outlierDetection: {policy}}}\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: e}}\nspec:\n  hosts: [a.com]\n  resolution: STATIC\n  ports: [{{number: 80, name: http, \
         protocol: HTTP}}]\n  endpoints: [{{address: 10.0.0.1}}, {{address: 10.0.0.2, labels: {{v: '1'}}}}]\n"
    )
}

/// measured on Envoy 1.40 (t6): N < 10 with the default ejects nothing; 50 % of 2 ejects one.
/// istio.md 1.4: "M (follow measured; warn the user)"
#[test]
fn outlier_detection_that_can_never_eject() {
    for (policy, expected) in [
        ("{interval: 5s}", Some("the default maxEjectionPercent of 10 % of 2 endpoints is less than one; 50 or more")),
        ("{maxEjectionPercent: 49}", Some("maxEjectionPercent of 49 % of 2 endpoints is less than one; 50 or more")),
        ("{maxEjectionPercent: 0}", Some("the default maxEjectionPercent of 10 % of 2 endpoints")),
        ("{maxEjectionPercent: 50}", None),
        ("{maxEjectionPercent: 100, consecutive5xxErrors: 0}", Some("consecutive5xxErrors is 0, which is off")),
        ("{maxEjectionPercent: 100, consecutive5xxErrors: 0, consecutiveGatewayErrors: 3}", None),
    ] {
        let lines = lines(&rule(policy), "MESH0004");
        match expected {
            Some(words) => {
                assert_eq!(lines.len(), 1, "{policy}: {lines:?}");
                assert!(lines[0].starts_with("t.yaml:6:") && lines[0].contains(words), "{policy}: {lines:?}");
            }
            None => assert_eq!(lines, [""; 0], "{policy}"),
        }
    }
}

#[test]
fn endpoints_that_no_file_names_may_be_enough() {
    let text = rule("{interval: 5s}");
    let alone = text.split("---").next().unwrap();
    assert_eq!(lines(alone, "MESH0004"), [""; 0]);
    assert!(lines(alone, "MESH0005")[0].contains("ejects nothing from fewer than 10 endpoints"));
    assert_eq!(lines(rule("{maxEjectionPercent: 10}").split("---").next().unwrap(), "MESH0005"), [""; 0]);
}

#[test]
fn replicas_count_as_endpoints() {
    let text = |replicas: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{selector: {{app: a}}, ports: [{{name: http, port: \
             80}}]}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec: {{{replicas}template: {{metadata: \
             {{labels: {{app: a, v: '1'}}}}}}}}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: \
             {{name: a}}\nspec:\n  host: a\n  subsets: [{{name: one, labels: {{v: '1'}}, trafficPolicy: {{outlierDetection: \
             {{}}}}}}, {{name: two, labels: {{v: '2'}}}}]\n"
        )
    };
    assert!(lines(&text(""), "MESH0004")[0].contains("10 % of 1 endpoint is less than one; 100 or more"));
    assert!(lines(&text("replicas: 5, "), "MESH0004")[0].contains("of 5 endpoints is less than one; 20 or more"));
    assert_eq!(lines(&text("replicas: 10, "), "MESH0004"), [""; 0]);
    // A Deployment's pods are what subsets select, before there are any.
    let subsets = lines(&text(""), "IST0173");
    assert_eq!(subsets.len(), 1);
    assert!(subsets[0].contains("subsets[1].labels: The Subset two "), "{subsets:?}");
}

#[test]
fn an_endpoint_in_an_entry_is_selected_by_its_labels() {
    let subsets = "subsets: [{name: one, labels: {v: '1'}}, {name: two, labels: {v: '2'}}]";
    let text = rule("{maxEjectionPercent: 50}").replace("host: a.com", &format!("host: a.com\n  {subsets}"));
    let found = lines(&text, "IST0173");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("The Subset two"), "{found:?}");
}

fn route(route: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: [a]\n  http:\n  - \
         route: {route}\n"
    )
}

#[test]
fn weights() {
    let alone = lines(&route("[{destination: {host: a}, weight: 20}]"), "MESH0006");
    assert_eq!(alone.len(), 1);
    assert!(alone[0].starts_with("t.yaml:7:") && alone[0].contains("weight 20 has no effect"), "{alone:?}");
    assert_eq!(lines(&route("[{destination: {host: a}, weight: 100}]"), "MESH0006"), [""; 0]);
    let two = |a: u8, b: u8| {
        route(&format!("[{{destination: {{host: a}}, weight: {a}}}, {{destination: {{host: b}}, weight: {b}}}]"))
    };
    assert!(lines(&two(80, 15), "MESH0007")[0].contains("weights add up to 95"));
    assert_eq!(lines(&two(80, 20), "MESH0007"), [""; 0]);
}

/// An object is one, wherever it stands: a mesh does not start with two.
#[test]
fn an_object_is_defined_once() {
    let text = route("[{destination: {host: a}}]");
    let twice = lines(&format!("{text}---\n{text}"), "MESH0003");
    assert_eq!(twice.len(), 1);
    assert!(
        twice[0].starts_with("t.yaml:11:18:") && twice[0].contains("defined twice, first at t.yaml:3:18"),
        "{twice:?}"
    );
    // Others' kinds are others' business.
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
    assert_eq!(found(&format!("{map}---\n{map}")).len(), 0);
}

#[test]
fn what_is_no_object_has_a_place() {
    assert!(lines("a: [", "MESH0002")[0].starts_with("t.yaml:"));
    assert!(lines("a: 1\n", "MESH0002")[0].contains("`kind` is missing"));
}

/// Istio "Suppressing analysis messages": a code, or all; what a mesh refuses is told all the same.
#[test]
fn an_object_may_ask_not_to_be_told() {
    let text = route("[{destination: {host: nowhere}, weight: 1, typo: 2}]");
    let silent = |codes: &str| {
        let metadata = format!("metadata: {{name: v, annotations: {{galley.istio.io/analyze-suppress: '{codes}'}}}}");
        let findings = found(&text.replace("metadata: {name: v}", &metadata));
        findings.iter().map(|finding| finding.code.id).collect::<Vec<_>>()
    };
    assert_eq!(silent("IST9999"), ["IST0101", "MESH0006", "IST0106"]);
    assert_eq!(silent("IST0101, MESH0006"), ["IST0106"]);
    assert_eq!(silent("*"), ["IST0106"]);
}

/// Hosts that are known by a wildcard, from both ends.
#[test]
fn wildcards_are_known_hosts() {
    let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec: {hosts: ['*.foo.com'], ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: above}
spec: {host: '*.com', trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: below}
spec: {host: a.foo.com, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: elsewhere}
spec: {host: '*.org', trafficPolicy: {loadBalancer: {simple: RANDOM}}}
";
    let unknown = lines(text, "IST0174");
    assert_eq!(unknown.len(), 1);
    assert!(unknown[0].contains("DestinationRule default/elsewhere host:"), "{unknown:?}");
}

/// istio MostSpecificHostMatch: within a namespace the rule of the closest host is the one in force; a subset that only
/// a wildcard's has leads to 503 there.
#[test]
fn a_closer_rule_hides_the_subsets_of_a_wildcards() {
    let of = |name: &str, namespace: &str, host: &str, subset: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}, namespace: {namespace}}}, \
             spec: {{host: '{host}', subsets: [{{name: {subset}, labels: {{v: x}}}}]}}}}\n---\n"
        )
    };
    let route = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v}, \
                 spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: v1}}]}]}}";
    let found = |rules: &[String]| {
        let of_subset = |line: &String| line.contains("Referenced host+subset");
        lines(&(rules.concat() + route), "IST0101").into_iter().filter(of_subset).count()
    };
    let wide = of("wide", "default", "*.default.svc.cluster.local", "v1");
    let wider = of("wider", "default", "*.cluster.local", "v1");
    let close = |namespace| of("close", namespace, "a.default.svc.cluster.local", "v2");
    assert_eq!(found(std::slice::from_ref(&wide)), 0);
    assert_eq!(found(&[wide.clone(), close("other")]), 0);
    assert_eq!(found(&[wide.clone(), close("default")]), 1);
    assert_eq!(found(&[wide, wider.clone()]), 0);
    assert_eq!(found(&[wider, of("wide", "default", "*.svc.cluster.local", "v2")]), 1);
}

#[test]
fn only_kinds_of_a_mesh_are_reported() {
    let text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {}\n---\napiVersion: v1\nkind: \
                ConfigMap\nmetadata: {name: c}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n";
    let lines: Vec<String> = found(text).iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("warning: [MESH0001] Gateway default/g: Gateway is not enforced in-process"));
}

/// istio mergeVirtualServices: a delegate that is missing or not visible is skipped.
#[test]
fn delegates_are_there() {
    let root = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: root}\nspec:\n  hosts: [a]\n  \
                http: [{delegate: {name: part, namespace: other}}]\n";
    let part = |more: &str| {
        format!(
            "{root}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: part, namespace: \
             other}}\nspec:\n  {more}http: [{{directResponse: {{status: 200}}}}]\n"
        )
    };
    let missing = lines(root, "IST0101");
    assert_eq!(missing.len(), 1);
    assert!(missing[0].starts_with("t.yaml:6:28:"), "{missing:?}");
    assert!(missing[0].contains("Referenced delegate virtual service not found: \"other/part\""), "{missing:?}");
    assert_eq!(lines(&part(""), "IST0101"), [""; 0]);
    // It has to be one without hosts, and one that the root's namespace sees.
    assert_eq!(lines(&part("hosts: [b]\n  "), "IST0101").len(), 1);
    assert_eq!(lines(&part("exportTo: ['.']\n  "), "IST0101").len(), 1);
    assert_eq!(lines(&part("exportTo: [default]\n  "), "IST0101"), [""; 0]);
}

/// Gateway API: a reference to a Service that is not there is `ResolvedRefs: False`, and its share gets 500.
#[test]
fn routes_of_the_gateway_api_lead_somewhere() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{name: http, port: 9080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}, {group: '', kind: Service, name: gone}, {name: some-gateway}]
  rules:
  - backendRefs: [{name: reviews, port: 9080}, {name: reviews, port: 80}, {name: reviews, namespace: other, port: 9080}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: nowhere, port: 1}}}]
";
    let gateways =
        text.replace("{group: '', kind: Service, name: reviews}, {group: '', kind: Service, name: gone}, ", "");
    assert!(lines(&gateways, "MESH0001")[0].contains("parentRefs: applies to gateways only, not to the mesh"));
    let missing: Vec<String> =
        lines(text, "IST0101").iter().filter_map(|line| Some(line.split("default/r ").nth(1)?.to_owned())).collect();
    assert_eq!(
        missing,
        [
            "parentRefs[1].name: Referenced parentRef not found: \"gone.default.svc.cluster.local\"",
            "rules[0].backendRefs[1].port: Referenced host:port not found: \"reviews.default.svc.cluster.local:80\"",
            "rules[0].backendRefs[2].name: Referenced backendRef not found: \"reviews.other.svc.cluster.local\"",
            "rules[0].filters[0].requestMirror.backendRef.name: Referenced backendRef not found: \
             \"nowhere.default.svc.cluster.local\"",
        ]
    );
}

/// Each direction's limits are those of the oldest policy of a scope that has them.
#[test]
fn mesh_policies_without_effect() {
    let policy = |name: &str, namespace: &str, spec: &str| {
        format!(
            "apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
             {{{spec}}}\n---\n"
        )
    };
    let limit = "[{tokenBucket: {maxTokens: 1, fillInterval: 1s}}]";
    let inbound = format!("localRateLimit: {{inbound: {limit}}}");
    let both = format!("localRateLimit: {{inbound: {limit}, outbound: {limit}}}");
    let of_a = format!("selector: {{matchLabels: {{app: a}}}}, {inbound}");
    let text =
        policy("a", "x", &inbound) + &policy("b", "x", &both) + &policy("c", "y", &both) + &policy("d", "x", &of_a);
    let without = lines(&text, "MESH0009");
    assert_eq!(without.len(), 1, "{without:?}");
    assert!(without[0].starts_with("t.yaml:9:"), "{without:?}");
    let words =
        "MeshPolicy x/b localRateLimit.inbound: not in force: MeshPolicy x/a comes first, for the same workloads";
    assert!(without[0].contains(words), "{without:?}");
    let balancing = "loadBalancing: [{healthCheck: {tcp: {}}}]";
    let text = policy("a", "x", balancing) + &policy("b", "x", &inbound) + &policy("c", "x", balancing);
    let without = lines(&text, "MESH0009");
    assert_eq!(without.len(), 1, "{without:?}");
    assert!(without[0].contains("MeshPolicy x/c loadBalancing: not in force: MeshPolicy x/a"), "{without:?}");
    let text = policy("a", "x", &of_a) + &policy("b", "x", &of_a) + &policy("c", "istio-system", &of_a);
    let without = lines(&text, "MESH0009");
    assert_eq!(without.len(), 2, "{without:?}");
    assert!(without[1].contains("selector: a selector has no effect in the root namespace"), "{without:?}");
}

/// istio PeerAuthentication: in each scope the oldest counts alone; in the root namespace a selector selects nothing.
#[test]
fn peer_authentications_without_effect() {
    let policy = |name: &str, namespace: &str, spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {spec}\n---\n"
        )
    };
    let strict = "{mtls: {mode: STRICT}}";
    let selecting = "{selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}}";
    let text = policy("a", "x", strict) + &policy("b", "x", strict) + &policy("c", "y", strict);
    let without = lines(&text, "MESH0009");
    assert_eq!(without.len(), 1);
    assert!(without[0].contains("PeerAuthentication x/b ") && without[0].contains("x/a"), "{without:?}");
    let text = policy("a", "x", selecting) + &policy("b", "x", selecting) + &policy("c", "istio-system", selecting);
    let without = lines(&text, "MESH0009");
    assert_eq!(without.len(), 2, "{without:?}");
    assert!(without[1].contains("selector: a selector has no effect in the root namespace"), "{without:?}");
}

/// What Istio has and a mesh refuses, because leaving it out would change who gets in, is not a schema error.
#[test]
fn what_is_not_supported_has_its_own_code() {
    for (group, kind, spec) in [
        ("security.istio.io", "AuthorizationPolicy", "{action: CUSTOM, provider: {name: p}, rules: [{}]}"),
        (
            "networking.istio.io",
            "DestinationRule",
            "{host: a, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}",
        ),
    ] {
        let text = format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: n}}\nspec: {spec}\n");
        assert!(!lines(&text, "MESH0008").is_empty(), "{kind}: {:?}", found(&text));
        assert_eq!(lines(&text, "IST0106"), [""; 0]);
    }
}

/// istio reference, section 2, Sidecar; nothing in-process enforces one.
#[test]
fn sidecars_are_checked() {
    for (spec, message) in [
        ("{}", "sidecar: empty configuration provided"),
        ("{egress: [{}]}", "sidecar: egress listener must contain at least one host"),
        ("{egress: [{hosts: [a]}]}", "host must be of form namespace/dnsName"),
        ("{egress: [{hosts: ['./a']}]}", "short names (non FQDN) are not allowed"),
        ("{egress: [{hosts: ['A_/a.b']}]}", "invalid namespace value \"A_\" in sidecar"),
        (
            "{egress: [{hosts: ['./*']}, {hosts: ['./*']}]}",
            "sidecar: egress can have only one listener with empty port",
        ),
    ] {
        let text = format!("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\nspec: {spec}\n");
        let errors = lines(&text, "IST0106");
        assert!(errors.iter().any(|line| line.contains(message)), "{spec}: {errors:?}");
    }
    let text = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {egress: [{hosts: ['~a/b.c', \
                '*/*', '*/*']}]}\n";
    assert_eq!(lines(text, "IST0106"), [""; 0]);
    assert!(lines(text, "IST0133")[0].contains("duplicated egress host: */*"));
}

/// istio reference, section 2, VS tls/tcp.
#[test]
fn layer_four_routes_are_checked() {
    for (spec, message) in [
        (
            "tls: [{route: [{destination: {host: a}}]}]",
            "tls[0]: Schema validation error: TLS route must have at least one match",
        ),
        ("tls: [{match: [{port: 1}], route: [{}]}]", "TLS match must have at least one SNI host"),
        (
            "tls: [{match: [{sniHosts: [b.c]}], route: [{}]}]",
            "SNI host \"b.c\" is not a compatible subset of any of the virtual service hosts: [a.com]",
        ),
        ("tls: [{match: [{sniHosts: [a.com]}]}]", "TLS route is required"),
        ("tcp: [{}]", "TCP route is required"),
        ("tcp: [{match: [{destinationSubnets: [1.2.3.4/33]}], route: [{}]}]", "1.2.3.4/33 is not a valid CIDR block"),
    ] {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: [a.com]\n  {spec}\n"
        );
        let errors = lines(&text, "IST0106");
        assert!(errors.iter().any(|line| line.contains(message)), "{spec}: {errors:?}");
    }
}

/// gateway API BackendObjectReference.namespace: "a ReferenceGrant object is required in the referent namespace".
#[test]
fn backends_of_other_namespaces_need_a_grant() {
    let text = |grant: &str, parent: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: cart, namespace: shop}}, spec: {{ports: [{{name: http, port: \
             80}}]}}}}\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: db, namespace: data}}, spec: {{ports: [{{name: \
             http, port: 80}}]}}}}\n---\n{grant}apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: \
             cart, namespace: shop}}\nspec:\n  parentRefs: [{{group: '', kind: Service, {parent}}}]\n  rules: [{{backendRefs: \
             [{{name: db, namespace: data, port: 80}}, {{name: cart, port: 80}}]}}]\n"
        )
    };
    let grant = |namespace: &str, from: &str, to: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {{name: g, namespace: \
             {namespace}}}, spec: {{from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {from}}}], to: \
             [{{group: '', kind: Service{to}}}]}}}}\n---\n"
        )
    };
    for (grant, parent, good) in [
        (String::new(), "name: cart", false),
        (grant("data", "shop", ""), "name: cart", true),
        (grant("data", "shop", ", name: db"), "name: cart", true),
        (grant("data", "shop", ", name: other"), "name: cart", false),
        (grant("data", "other", ""), "name: cart", false),
        (grant("shop", "shop", ""), "name: cart", false),
        // Who calls a service may say how.
        (String::new(), "name: db, namespace: data", true),
    ] {
        let lines = lines(&text(&grant, parent), "MESH0010");
        assert_eq!(lines.is_empty(), good, "{grant} {parent}: {lines:?}");
        let missing =
            "rules[0].backendRefs[0].namespace: no ReferenceGrant in data lets HTTPRoute shop/cart refer to Service db";
        assert!(lines.iter().all(|line| line.contains(missing)), "{lines:?}");
    }
}
