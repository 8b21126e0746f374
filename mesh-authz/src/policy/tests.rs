use mesh_core::Workload;

use super::*;

/// Read one policy from the text of its `spec`.
fn read(spec: &str) -> (Option<AuthorizationPolicy>, Issues) {
    read_document(&format!("kind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n{spec}"))
}

fn read_document(text: &str) -> (Option<AuthorizationPolicy>, Issues) {
    let mut issues = Issues::default();
    let documents = Document::parse_all("p.yaml", text, &mut issues);
    let policy = AuthorizationPolicy::from_document(&documents[0], &mut issues);
    (policy, issues)
}

#[test]
fn accepts_what_istio_accepts() {
    for spec in [
        "  {}",
        "  rules: []",
        "  action: ALLOW\n  rules: [{}]",
        "  action: DENY\n  rules: [{}]",
        "  selector: {matchLabels: {app: reviews, version: v1}}",
        "  selector: null\n  rules: [{from: null, to: null}]",
        r#"  rules: [{from: [{source: {principals: ["*", "td/*", "*/sa/x"], notPrincipals: [a]}}]}]"#,
        r#"  rules: [{from: [{source: {namespaces: ["a*b", "*"], notNamespaces: ["prod-*"]}}]}]"#,
        "  rules: [{from: [{source: {serviceAccounts: [a, ns/b], notServiceAccounts: [c]}}]}]",
        r#"  rules: [{from: [{source: {ipBlocks: ["10.0.0.0/8", "::1"], notIpBlocks: [10.1.2.3]}}]}]"#,
        r#"  rules: [{to: [{operation: {hosts: ["*.com"], ports: ["9080"], methods: ["*"], paths: ["/{*}/{**}", "*"]}}]}]"#,
        r#"  rules: [{from: [{source: {requestPrincipals: ["*", "a/b"], trustDomains: ["td", "*.eu"], remoteIpBlocks: [10.0.0.1]}}]}]"#,
        r#"  action: AUDIT
  rules: [{when: [{key: source.ip, values: ["10.0.0.0/8"]}, {key: "request.headers[x-a]", values: ["a*", ""]},
    {key: "request.auth.claims[a][b]", notValues: [c]}, {key: connection.sni, values: ["*.b"]}]}]"#,
        r#"  rules: [{to: [{operation: {notHosts: [a], notPorts: ["0"], notMethods: [GET], notPaths: ["/a*"]}}]}]"#,
    ] {
        let (policy, issues) = read(spec);
        assert!(policy.is_some() && issues.is_empty(), "{spec}: {issues}");
    }
}

#[test]
fn errors_say_where_and_what() {
    for (spec, message) in [
        ("  rule: []", "4:3: error: AuthorizationPolicy shop/p: unknown field `rule`, expected one of"),
        (
            "  action: BLOCK",
            "4:11: error: AuthorizationPolicy shop/p action: unknown variant `BLOCK`, expected one of `ALLOW`, `DENY`",
        ),
        (
            "  action: CUSTOM\n  provider: {name: x}",
            "4:11: error: AuthorizationPolicy shop/p action: CUSTOM is not supported",
        ),
        (
            "  provider: {name: x}",
            "4:13: error: AuthorizationPolicy shop/p provider: `provider` must not be with non CUSTOM",
        ),
        ("  action: DENY", "DENY action without `rules` is meaningless as it will never be triggered"),
        (
            "  rules:\n  - from: []",
            "5:11: error: AuthorizationPolicy shop/p rules[0].from: `from` must not be empty, found at rule 0",
        ),
        (
            "  rules:\n  - {}\n  - to: []",
            "6:9: error: AuthorizationPolicy shop/p rules[1].to: `to` must not be empty, found at rule 1",
        ),
        ("  rules:\n  - from: [{}]", "rules[0].from[0]: `from.source` must not be nil, found at rule 0"),
        (
            "  rules:\n  - from: [{source: {}}]",
            "rules[0].from[0].source: `from.source` must not be empty, found at rule 0",
        ),
        ("  rules:\n  - to: [{operation: null}]", "rules[0].to[0]: `to.operation` must not be nil, found at rule 0"),
        ("  rules:\n  - to: [{operation: {paths: []}}]", "`to.operation` must not be empty, found at rule 0"),
        ("  rules: [null]", "rules[0]: wrong type: found null, expected an object"),
        (
            "  rules:\n  - from:\n    - source:\n        principals: [a, \"\"]",
            "7:25: error: AuthorizationPolicy shop/p rules[0].from[0].source.principals[1]: empty value not allowed, found in principals",
        ),
        (
            "  rules: [{from: [{source: {notPrincipals: [\"\"]}}]}]",
            "source.notPrincipals[0]: empty value not allowed, found in notPrincipals",
        ),
        (
            "  rules: [{from: [{source: {principals: a}}]}]",
            "source.principals: wrong type: found string \"a\", expected a list",
        ),
        ("  rules: [{from: [{source: {principal: [a]}}]}]", "unknown field `principal`"),
        (
            "  rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]",
            "cannot set serviceAccounts with namespaces or principals, found at rule 0",
        ),
        (
            "  rules: [{from: [{source: {notServiceAccounts: [a], notPrincipals: [b]}}]}]",
            "cannot set serviceAccounts with namespaces or principals, found at rule 0",
        ),
        (
            "  rules: [{from: [{source: {serviceAccounts: [\"ns/*\"]}}]}]",
            "serviceAccounts[0]: bad service account (ns/*)",
        ),
        ("  rules: [{from: [{source: {serviceAccounts: [a/b/c]}}]}]", "bad service account (a/b/c)"),
        ("  rules: [{from: [{source: {ipBlocks: [10.0.0]}}]}]", "ipBlocks[0]: bad IP address (10.0.0)"),
        ("  rules: [{from: [{source: {ipBlocks: [10.0.0.0/99]}}]}]", "ipBlocks[0]: bad CIDR range (10.0.0.0/99)"),
        ("  rules: [{to: [{operation: {ports: [\"91234\"]}}]}]", "ports[0]: bad port (91234)"),
        ("  rules: [{to: [{operation: {ports: [\"-80\"]}}]}]", "ports[0]: bad port (-80)"),
        (
            "  rules: [{to: [{operation: {ports: [9080]}}]}]",
            "ports[0]: wrong type: found integer `9080`, expected a string (quote it)",
        ),
        (
            "  rules: [{to: [{operation: {paths: [\"/{**}/{*}\"]}}]}]",
            "paths[0]: invalid or unsupported path /{**}/{*}, found in paths. {**} is not the last operator",
        ),
        (
            "  rules: [{to: [{operation: {notPaths: [\"/a{*}\"]}}]}]",
            "notPaths[0]: invalid or unsupported path /a{*}, found in notPaths. Contains '{' or '}' beyond a supported path template",
        ),
        ("  rules: [{when: [{values: [a]}]}]", "rules[0].when[0].key: `key` must not be empty"),
        (
            "  rules: [{when: [{key: source.ip}]}]",
            "when[0]: at least one of `values` or `notValues` must be set for key source.ip",
        ),
        ("  rules: [{when: [{key: source.ips, values: [a]}]}]", "when[0].key: unknown attribute: source.ips"),
        ("  rules: [{when: [{key: source.ip, values: [10.0.0.1, a]}]}]", "when[0].values[1]: bad IP address (a)"),
        ("  rules: [{when: [{key: remote.ip, notValues: [a/8]}]}]", "when[0].notValues[0]: bad CIDR range (a/8)"),
        ("  rules: [{when: [{key: destination.port, values: [\"65616\"]}]}]", "values[0]: bad port (65616)"),
        ("  rules: [{when: [{key: \"request.headers[a b]\", values: [a]}]}]", "bad key in \"request.headers[a b]\""),
        ("  rules: [{when: [{key: request.headers, values: [a]}]}]", "bad key in \"request.headers\""),
        ("  rules: [{when: [{key: \"request.headers[a][b]\", values: [a]}]}]", "must be request.headers[<header>]"),
        ("  rules: [{when: [{key: \"request.auth.claims\", values: [a]}]}]", "must be request.auth.claims[<claim>]"),
        ("  rules: [{when: [{key: source.serviceAccount, values: [\"a*\"]}]}]", "bad service account (a*)"),
        ("  rules: [{when: [{key: source.trustDomain, values: [a/b]}]}]", "bad trust domain (a/b)"),
        ("  rules: [{when: [{key: source.ip, value: [a]}]}]", "unknown field `value`"),
        ("  rules: [{from: [{source: {remoteIpBlocks: [a]}}]}]", "remoteIpBlocks[0]: bad IP address (a)"),
        ("  rules: [{from: [{source: {trustDomains: [\"\"]}}]}]", "empty value not allowed, found in trustDomains"),
        ("  selector: {matchLabels: {\"\": a}}", "empty key is not supported in selector: \":a\""),
        ("  selector: {matchLabels: {app: \"a*\"}}", "wildcard is not supported in selector: \"app:a*\""),
        ("  selector: {matchLabels: {version: 1}}", "selector.matchLabels.version: wrong type: found integer `1`"),
        ("  selector: {matchExpressions: []}", "unknown field `matchExpressions`"),
        (
            "  selector: {matchLabels: {a: b}}\n  targetRefs: [{kind: Gateway, name: g}]",
            "only one of targetRefs or workloadSelector can be set",
        ),
    ] {
        let (policy, issues) = read(spec);
        assert!(policy.is_none(), "{spec}");
        assert!(issues.to_string().contains(message), "{spec}\n found: {issues}\n wanted: {message}");
    }
}

#[test]
fn what_is_not_enforced_is_refused() {
    let (policy, issues) = read("  rules: [{when: [{key: \"experimental.envoy.filters.http.x[a]\", values: [b]}]}]");
    let message = "rules[0].when[0].key: metadata of Envoy's filters: there are none in-process";
    assert!(policy.is_none() && issues.len() == 1 && issues.to_string().contains(message), "{issues}");
}

#[test]
fn dry_run_is_a_boolean() {
    let read = |value: &str| {
        read_document(&format!(
            "kind: AuthorizationPolicy\nmetadata: {{name: p, annotations: {{istio.io/dry-run: {value:?}}}}}\nspec: {{}}"
        ))
    };
    for (value, dry) in [("false", Some(false)), ("true", Some(true)), ("1", Some(true)), ("yes", None)] {
        let (policy, issues) = read(value);
        assert_eq!(policy.as_ref().map(AuthorizationPolicy::is_dry_run), dry, "{value}");
        assert_eq!(issues.to_string().contains("istio.io/dry-run"), dry.is_none(), "{issues}");
    }
}

#[test]
fn warns_of_rules_that_do_not_do_what_they_seem_to() {
    for (spec, message) in [
        (
            "  rules: [{to: [{operation: {paths: [\"/%61dmin\"]}}]}]",
            "4:38: warning: AuthorizationPolicy shop/p rules[0].to[0].operation.paths[0]: never matches: requests are brought",
        ),
        ("  rules: [{to: [{operation: {paths: [\"/a/../b*\"]}}]}]", "paths[0]: never matches: requests are brought"),
        ("  rules: [{to: [{operation: {paths: [\"*%2Fb\"]}}]}]", "paths[0]: never matches: requests are brought"),
        ("  rules: [{to: [{operation: {paths: [admin]}}]}]", "paths[0]: never matches: a path starts with '/'"),
        ("  rules: [{to: [{operation: {paths: [\"/a?b=c\"]}}]}]", "paths[0]: never matches: a path starts with '/'"),
        ("  rules: [{to: [{operation: {paths: [\"/a*b\"]}}]}]", "the `*` inside \"/a*b\" is a plain character"),
        ("  rules: [{to: [{operation: {methods: [get]}}]}]", "methods[0]: never matches: requests with a lower-case"),
        (
            "  rules: [{from: [{source: {principals: [\"spiffe://td/ns/a/sa/b\"]}}]}]",
            "principals[0]: never matches: principals are written without spiffe://",
        ),
        (
            "  rules: [{from: [{source: {notPrincipals: [td/ns/a/sa/b]}}]}]",
            "rules[0].from[0].source: allows callers without any identity too",
        ),
        (
            "  rules: [{from: [{source: {requestPrincipals: [somebody]}}]}]",
            "requestPrincipals[0]: never matches: a request principal is written <issuer>/<subject>",
        ),
        ("  selector: {}", "workload selector specified without labels"),
        (
            "  targetRefs: [{kind: Gateway, name: g}]",
            "p targetRefs: targetRefs name gateways and waypoints: not in force in-process",
        ),
        (
            "  targetRef: {kind: Gateway, name: g}",
            "p targetRef: targetRefs name gateways and waypoints: not in force in-process",
        ),
    ] {
        let (policy, issues) = read(spec);
        assert!(policy.is_some() && issues.len() == 1, "{spec}: {issues}");
        assert!(issues.to_string().contains(message), "{spec}\n found: {issues}\n wanted: {message}");
    }
    for paths in ["/.*", "/.well-known/*", "/a%20b", "*.json", "/..x"] {
        let (_, issues) = read(&format!("  rules: [{{to: [{{operation: {{paths: [{paths:?}]}}}}]}}]"));
        assert!(issues.is_empty(), "{issues}");
    }
}

#[test]
fn selects_by_namespace_and_labels() {
    let workload = |namespace: &str| {
        Workload::new(namespace, "reviews").with_labels(Labels::from_iter([("app", "reviews"), ("version", "v1")]))
    };
    let (policy, _) = read("  selector: {matchLabels: {app: reviews}}");
    let policy = policy.unwrap();
    assert!(policy.selects(&workload("shop"), "istio-system"));
    assert!(!policy.selects(&workload("other"), "istio-system"));
    // istio type/v1beta1: "If the authorization policy is in the root namespace, the selector will additionally
    // match with workloads in all namespaces."
    assert!(policy.selects(&workload("other"), "shop"));
    let (policy, _) = read("  selector: {matchLabels: {app: reviews, version: v2}}");
    assert!(!policy.unwrap().selects(&workload("shop"), "istio-system"));
    // istio model/policyattachment.go: targetRefs never attach to a sidecar.
    let (policy, _) = read("  targetRefs: [{kind: Service, name: reviews}]");
    assert!(!policy.unwrap().selects(&workload("shop"), "istio-system"));
}

#[test]
fn istios_own_policies_are_read() {
    let Some(file) = mesh_test::shared("istio/analyzers/testdata/authorizationpolicies.yaml") else { return };
    let mut issues = Issues::default();
    let documents =
        Document::parse_all("authorizationpolicies.yaml", &std::fs::read_to_string(file).unwrap(), &mut issues);
    assert!(issues.is_empty(), "{issues}");
    let mut seen = 0;
    for document in documents.iter().filter(|document| document.kind() == "AuthorizationPolicy") {
        let mut issues = Issues::default();
        let policy = AuthorizationPolicy::from_document(document, &mut issues);
        seen += 1;
        assert!(policy.is_some(), "{issues}");
    }
    assert!(seen > 5, "{seen}");
}
