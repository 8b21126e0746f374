//! Whose rules a host gets.

use super::*;

// istio.md 1.0: "FQDN, FQDN+`.`, alt names (`svc`, `svc.ns`, `svc.ns.svc`"
#[test]
fn hosts_are_found_by_every_name() {
    let table = compile("");
    let a = "outbound|80||a.default.svc.cluster.local";
    let far = "outbound|80||far.other.svc.cluster.local";
    let out = "PassthroughCluster";
    for (uri, expected) in [
        ("http://a/", a),
        ("http://A/", a),
        ("http://a:80/", a),
        ("http://a.default/", a),
        ("http://a.default.svc/", a),
        ("http://a.default.svc.cluster.local/", a),
        ("http://A.default.svc.Cluster.local./", a),
        // m:t1: "`x.` (trailing dot) != `x`": only the FQDN has a dotted form
        ("http://a.default./", out),
        ("http://b:9080/", "outbound|9080||b.default.svc.cluster.local"),
        // the port dialled selects the service's port
        ("http://b/", out),
        ("http://two:81/", "outbound|81||two.default.svc.cluster.local"),
        // "short form only from same ns"
        ("http://far/", out),
        ("http://far.other/", far),
        ("http://x.wide.com/", "outbound|80||*.wide.com"),
        ("http://wide.com/", out),
        ("http://example.com/", out),
    ] {
        assert_eq!(route(&table, &request(uri, &[])).unwrap(), expected, "{uri}");
    }
    assert_eq!(
        route(&table, &request("http://10.0.0.1:9080/", &[("host", "b")])).unwrap(),
        "outbound|9080||b.default.svc.cluster.local"
    );
}

// istio.md 1.0: "REGISTRY_ONLY: direct 502, empty body"
#[test]
fn unknown_hosts_are_blocked_where_configured() {
    // "REGISTRY_ONLY: direct 502, empty body"
    let mut mesh = MeshConfig::default();
    mesh.outbound_traffic_policy = OutboundTrafficPolicy::RegistryOnly;
    let (table, _) = compile_with("", &mesh);
    assert_eq!(route(&table, &request("http://example.com/", &[])), Err(Reason::Blackhole));
    assert!(route(&table, &request("http://a/", &[])).is_ok());
}

// istio.md 1.0: "the first in order owns the host, later one is dropped"
// istio.md 1.0: "applies to every known service matched, unless a more specific VS host exists"
#[test]
fn virtual_services_own_hosts() {
    let to = |subset: &str| format!("http: [{{route: [{{destination: {{host: a, subset: {subset}}}}}]}}]");
    // "applies to every known service matched, unless a more specific VS host exists"
    let yaml = format!(
        "{}{}{}",
        vs("wild", &format!("hosts: ['*.default.svc.cluster.local'], {}", to("wild"))),
        vs("exact", &format!("hosts: [a], {}", to("exact"))),
        vs("later", &format!("hosts: [a], {}", to("later"))),
    );
    let (table, issues) = compile_with(&yaml, &MeshConfig::default());
    let taken = |uri| route(&table, &request(uri, &[])).unwrap();
    assert_eq!(taken("http://a/"), "outbound|80|exact|a.default.svc.cluster.local");
    assert_eq!(taken("http://b:9080/"), "outbound|80|wild|a.default.svc.cluster.local");
    // "the first in order owns the host, later one is dropped": the later's place
    let warning = issues
        .iter()
        .find(|issue| issue.message.contains("is routed by VirtualService default/exact already"))
        .unwrap();
    assert_eq!(warning.object.as_ref().unwrap().to_string(), "VirtualService default/later");
    assert_eq!(warning.path, "hosts[0]");
    // a host outside the registry, any port
    let table = compile(&vs("out", &format!("hosts: [shop.example.com], {}", to("x"))));
    for uri in ["http://shop.example.com/", "http://shop.example.com:8080/"] {
        assert_eq!(route(&table, &request(uri, &[])).unwrap(), "outbound|80|x|a.default.svc.cluster.local");
    }
    // a name inside the cluster that no service has: a slip of the pen
    let (_, issues) = compile_with(&vs("typo", &format!("hosts: [aa], {}", to("x"))), &MeshConfig::default());
    let typo =
        issues.iter().find(|issue| issue.message.contains("aa.default.svc.cluster.local is no service")).unwrap();
    assert_eq!((typo.path.as_str(), typo.severity), ("hosts[0]", mesh_core::config::Severity::Warning));
    // a wildcard that matches no known service is a virtual host as it is
    let table = compile(&vs("out", &format!("hosts: ['*.example.com'], {}", to("x"))));
    assert!(route(&table, &request("http://any.example.com/", &[])).unwrap().contains("|x|"));
}

#[test]
fn a_virtual_service_without_a_rule_for_the_client_leaves_its_host() {
    // "If every entry is filtered out statically the VS counts as absent"
    for none in ["http: [{match: [{sourceLabels: {app: other}}], route: [{destination: {host: b}}]}]", "tcp: []"] {
        let (table, issues) = compile_with(
            &format!(
                "{}{}",
                vs("first", &format!("hosts: [a], {none}")),
                vs("second", "hosts: [a], http: [{route: [{destination: {host: a, subset: x}}]}]"),
            ),
            &MeshConfig::default(),
        );
        assert!(route(&table, &request("http://a/", &[])).unwrap().contains("|x|"), "{none}");
        assert!(!issues.to_string().contains("already"), "{issues}");
    }
}

/// Two VirtualServices for a client, one after the other; who gets a request: `first`, `second`, `default` (the service
/// itself), `out` (passed through), or nobody.
#[track_caller]
fn contest(first: &str, second: &str, cases: &[(&str, &str)]) {
    let rule = |subset: &str, spec: &str| {
        let route = format!("route: [{{destination: {{host: a, subset: {subset}}}}}]");
        vs(subset, &spec.replace("RULE", &route))
    };
    let table = compile(&format!("{}{}", rule("first", first), rule("second", second)));
    for (uri, expected) in cases {
        let taken = match route(&table, &request(uri, &[])) {
            Ok(name) if name == "PassthroughCluster" => "out".to_owned(),
            Ok(name) => match name.split('|').nth(2).unwrap() {
                "" => "default".to_owned(),
                subset => subset.to_owned(),
            },
            Err(reason) => format!("{reason:?}"),
        };
        assert_eq!(taken, *expected, "{uri} with {first} then {second}");
    }
}

#[test]
fn a_port_without_rules_is_left_to_the_next_that_names_the_host() {
    // istio BuildHTTPRoutesForVirtualService, "This is called for each port": "Error indicates the given virtualService
    // can't be used on the port"
    contest(
        "hosts: [two], http: [{match: [{port: 81}], RULE}]",
        "hosts: [two], http: [{RULE}]",
        &[("http://two/", "second"), ("http://two:81/", "first")],
    );
    // istio computeWildcardHostVirtualServiceIndex: a wildcard is for a service only where nobody names it, with rules
    // for the port or without
    contest(
        "hosts: [two], http: [{match: [{port: 81}], RULE}]",
        "hosts: ['*.default.svc.cluster.local'], http: [{RULE}]",
        &[("http://two/", "default"), ("http://two:81/", "first"), ("http://b:9080/", "second")],
    );
    // and of two wildcards the longer is, likewise
    contest(
        "hosts: ['*.svc.cluster.local'], http: [{RULE}]",
        "hosts: ['*.default.svc.cluster.local'], http: [{match: [{port: 81}], RULE}]",
        &[("http://two/", "default"), ("http://two:81/", "second"), ("http://far.other/", "first")],
    );
}

#[test]
fn a_host_that_is_no_service_of_the_port_is_routed_on_port_80() {
    // istio BuildSidecarOutboundVirtualHosts takes the services of a port for the registry: on another port their names
    // are hosts like any other, which have virtual hosts on port 80 ("hack to keep consistent with previous behavior")
    // and on those on which the same VirtualService has a service. Only the name itself: the others are the service's.
    let rules = "hosts: [b], http: [{RULE}]";
    contest(
        rules,
        "hosts: [x.test], http: [{RULE}]",
        &[
            ("http://b:9080/", "first"),
            ("http://b.default.svc.cluster.local/", "first"),
            ("http://b/", "out"),
            ("http://b:81/", "out"),
        ],
    );
    contest(
        "hosts: [b, two], http: [{RULE}]",
        "hosts: ['*.wide.com'], http: [{RULE}]",
        &[
            ("http://b.default.svc.cluster.local:81/", "first"),
            ("http://b.default.svc.cluster.local:82/", "out"),
            // a wildcard that stands for a service on port 80 is none on others
            ("http://x.wide.com/", "second"),
            ("http://x.wide.com:81/", "out"),
        ],
    );
}

#[test]
fn a_host_outside_the_registry_whose_rules_are_for_other_ports_is_passed_through() {
    // istio BuildHTTPRoutesForVirtualService: without a route there is no virtual host, and so no 404
    contest(
        "hosts: ['*.example.com'], http: [{match: [{port: 8080}], RULE}]",
        "hosts: [x.test], http: [{match: [{port: 8080}], RULE}, {match: [{uri: {prefix: /a}}], RULE}]",
        &[
            ("http://any.example.com/", "out"),
            ("http://any.example.com:8080/", "first"),
            ("http://any.example.com:8081/", "out"),
            ("http://x.test/", "NoRoute"),
            ("http://x.test/a", "second"),
            ("http://x.test:8080/", "second"),
            ("http://x.test:8081/", "NoRoute"),
        ],
    );
}

#[test]
fn whoever_comes_first_has_another_name_of_a_service() {
    // istio dedupeDomains: virtual hosts take their names in the order of the VirtualServices, those without one last
    let spelled = "hosts: [far.other], http: [{RULE}]";
    let owner = "hosts: [far.other.svc.cluster.local], http: [{RULE}]";
    contest(spelled, owner, &[("http://far.other/", "first"), ("http://far.other.svc/", "second")]);
    contest(owner, spelled, &[("http://far.other/", "first"), ("http://far.other.svc/", "first")]);
    contest(
        spelled,
        "hosts: [x.test], http: [{RULE}]",
        &[("http://far.other/", "first"), ("http://far.other.svc/", "default")],
    );
}

// istio.md 1.0: "exportTo `.`/own ns = private; list = exported; `*` or empty = public; `~` = nobody"
#[test]
fn visibility() {
    let spec = |to: &str| {
        format!("hosts: [a], exportTo: [{to}], http: [{{route: [{{destination: {{host: a, subset: x}}}}]}}]")
    };
    for (export_to, applies) in [("'.'", true), ("'*'", true), ("other", false), ("default", true), ("'~'", false)] {
        let table = compile(&vs("a", &spec(export_to)));
        let taken = route(&table, &request("http://a/", &[])).unwrap();
        assert_eq!(taken.contains("|x|"), applies, "{export_to}");
    }
}
