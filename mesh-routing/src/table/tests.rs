mod clauses;
mod delegates;
mod hosts;

use std::sync::Arc;

use http::Request;
use mesh_core::{
    ClusterName, Labels, MeshConfig, OutboundTrafficPolicy, Reason, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{CompileInput, Decision, RouteTable};
use crate::{RequestHead, RetryPolicy, VirtualService};

type Table = RouteTable<Arc<ClusterName>>;
/// URI, headers, and whether the rule matches.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, name: http}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {ports: [{port: 9080, name: http}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: two}, spec: {ports: [{port: 80, name: http}, {port: 81, name: http-x}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: far, namespace: other}, spec: {ports: [{port: 80, name: http}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wide}
spec: {hosts: ['*.wide.com'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}
---
";

fn workload() -> Workload {
    Workload::new("default", "me").with_labels(Labels::from_iter([("app", "me"), ("version", "v1")]))
}

/// Compile; a subset named `missing` is not defined, and neither is a host that the registry does not know.
fn compile_with(yaml: &str, mesh: &MeshConfig) -> (Table, Issues) {
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &format!("{SERVICES}{yaml}"), &mut issues);
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    let of_kind = documents.iter().filter(|document| document.kind() == "VirtualService");
    let virtual_services: Vec<_> =
        of_kind.filter_map(|document| VirtualService::from_document(document, &mut issues)).map(Arc::new).collect();
    assert!(!issues.has_errors(), "{issues}");
    let input = CompileInput {
        workload: &workload(),
        mesh,
        registry: &registry,
        virtual_services: &virtual_services,
        default_retry: Some(RetryPolicy::istio_default()),
    };
    let mut clusters = |name: &ClusterName| {
        let known = registry.service_for(&name.service.host).is_some_and(|service| service.port(name.port).is_some());
        let defined = name.is_passthrough() || (known && name.subset.as_deref() != Some("missing"));
        defined.then(|| Arc::new(name.clone()))
    };
    let table = RouteTable::compile(&input, &mut clusters, &mut issues);
    (table, issues)
}

fn compile(yaml: &str) -> Table {
    compile_with(yaml, &MeshConfig::default()).0
}

fn vs(name: &str, spec: &str) -> String {
    format!("{{kind: VirtualService, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n---\n")
}

/// One rule that matches, to subset `hit` of `a`; what it leaves goes to subset `miss`.
fn matching(matcher: &str) -> Table {
    compile(&vs(
        "a",
        &format!(
            "hosts: [a], http: [{{match: [{matcher}], route: [{{destination: {{host: a, subset: hit}}}}]}}, \
             {{route: [{{destination: {{host: a, subset: miss}}}}]}}]"
        ),
    ))
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let (method, uri) = uri.split_once(' ').unwrap_or(("GET", uri));
    let builder = Request::builder().method(method).uri(uri);
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
}

fn forward<C>(decision: Decision<'_, C>) -> &super::Destination<C> {
    match decision {
        Decision::Forward(destination) => destination,
        Decision::Redirect(..) | Decision::DirectResponse(..) => panic!("answered by the route"),
    }
}

fn route(table: &Table, request: &Request<()>) -> Result<String, Reason> {
    let head = RequestHead::new(request, table.path_normalization()).unwrap();
    let decision = table.route(&head, || 0).map_err(|error| error.reason())?;
    Ok(forward(decision).name().to_string())
}

#[track_caller]
fn check(matcher: &str, cases: &[Case<'_>]) {
    let table = matching(matcher);
    for (uri, headers, expected) in cases {
        let taken = route(&table, &request(uri, headers)).unwrap();
        let subset = if *expected { "hit" } else { "miss" };
        assert_eq!(taken, format!("outbound|80|{subset}|a.default.svc.cluster.local"), "{matcher}: {uri} {headers:?}");
    }
}

// istio.md 1.1: "whole path, **query excluded**, `/a` != `/a/`"
// istio.md 1.1: "*string* prefix: `/pre` matches `/prefix`"
// istio.md 1.1: "**full match** on path without query"
// istio.md 1.1: "only exact & prefix (regex unaffected, use `(?i)`)"
#[test]
fn uri() {
    // measured on Envoy 1.40 (t1): exact is the "whole path, query excluded, `/a` != `/a/`"
    check(
        "{uri: {exact: /a}}",
        &[
            ("http://a/a", &[], true),
            ("http://a/a?q", &[], true),
            ("http://a/a/", &[], false),
            ("http://a/A", &[], false),
        ],
    );
    // t1: prefix is a string prefix: "`/pre` matches `/prefix`"
    check("{uri: {prefix: /pre}}", &[("http://a/prefix", &[], true), ("http://a/p", &[], false)]);
    // t1: regex is a full match on the path without the query
    check(
        "{uri: {regex: '/a.'}}",
        &[("http://a/ab?c", &[], true), ("http://a/abc", &[], false), ("http://a/x/ab", &[], false)],
    );
    // t1: "only exact & prefix (regex unaffected)"
    check("{uri: {exact: /a}, ignoreUriCase: true}", &[("http://a/A", &[], true)]);
    check("{uri: {prefix: /a}, ignoreUriCase: true}", &[("http://a/Ab", &[], true), ("http://a/b", &[], false)]);
    check("{uri: {regex: /a}, ignoreUriCase: true}", &[("http://a/A", &[], false), ("http://a/a", &[], true)]);
    // t1, pathNormalization BASE
    check(
        "{uri: {exact: /a/b}}",
        &[
            ("http://a/a/./b", &[], true),
            ("http://a/x/%2e%2e/a/b", &[], true),
            ("http://a/a//b", &[], false),
            ("http://a/a%2Fb", &[], false),
        ],
    );
    check("{uri: {exact: /admin}}", &[("http://a/%61dmin", &[], true), ("http://a//admin", &[], false)]);
}

// istio.md 1.1: "`authority` sees the port as sent (`hdr.test:8080`) even though vhost matching ignores it"
// istio.md 1.1: "static: destination (listener) port"
#[test]
fn method_scheme_authority_port() {
    check("{method: {exact: PUT}}", &[("PUT http://a/", &[], true), ("http://a/", &[], false)]);
    check("{scheme: {exact: http}}", &[("http://a/", &[], true)]);
    // t2: "`authority` sees the port as sent even though vhost matching ignores it"
    check("{authority: {exact: 'a:80'}}", &[("http://a:80/", &[], true), ("http://a/", &[], false)]);
    check("{authority: {prefix: 'A'}}", &[("http://a/", &[], false)]);
    check("{port: 80}", &[("http://a/", &[], true)]);
    check("{port: 81}", &[("http://a/", &[], false)]);
}

// istio.md 1.1: "name case-insensitive (lower-cased); value exact/prefix/regex(full), case-sensitive, OWS trimmed"
// istio.md 1.1: "matches if ANY single value matches; `a,b` in one line is one value"
#[test]
fn headers() {
    // "value exact/prefix/regex(full), case-sensitive, OWS trimmed"; the name has no case
    check(
        "{headers: {End-User: {exact: jason}}}",
        &[
            ("http://a/", &[("end-user", "jason")], true),
            ("http://a/", &[("end-user", "Jason")], false),
            ("http://a/", &[("end-user", " jason ")], true),
            ("http://a/", &[], false),
        ],
    );
    check(
        "{headers: {x: {regex: 'a+'}}}",
        &[("http://a/", &[("x", "aa")], true), ("http://a/", &[("x", "ab")], false)],
    );
    // "`{}` or regex `*` => presence (empty value counts as present)"
    for any in ["{}", "{regex: '*'}"] {
        check(&format!("{{headers: {{x: {any}}}}}"), &[("http://a/", &[("x", "")], true), ("http://a/", &[], false)]);
    }
    // "`exact: \"\"` needs header present and empty"
    check(
        "{headers: {x: {exact: ''}}}",
        &[("http://a/", &[("x", "")], true), ("http://a/", &[], false), ("http://a/", &[("x", "y")], false)],
    );
    // t3: "Repeated header: matches if ANY single value matches; `a,b` in one line is one value"
    check(
        "{headers: {x: {exact: b}}}",
        &[("http://a/", &[("x", "a"), ("x", "b")], true), ("http://a/", &[("x", "a,b")], false)],
    );
}

// istio.md 1.1: "missing header treated as empty string => normally matches"
#[test]
fn without_headers() {
    check(
        "{withoutHeaders: {x: {exact: a}}}",
        &[("http://a/", &[], true), ("http://a/", &[("x", "b")], true), ("http://a/", &[("x", "a")], false)],
    );
    // t2, t3: "with repeats, any matching value rejects"
    check("{withoutHeaders: {x: {exact: a}}}", &[("http://a/", &[("x", "b"), ("x", "a")], false)]);
    // t10: "`regex: \".*\"` on a missing header does NOT match the route"
    check("{withoutHeaders: {x: {regex: '.*'}}}", &[("http://a/", &[], false), ("http://a/", &[("x", "b")], false)]);
    // "`{}`/`*` => must be absent"
    check("{withoutHeaders: {x: {}}}", &[("http://a/", &[], true), ("http://a/", &[("x", "")], false)]);
}

// istio.md 1.1: "**no percent/plus decoding of key or value**, first occurrence only"
#[test]
fn query_params() {
    // t2: "no percent/plus decoding of key or value, first occurrence only, `;` is not a separator"
    check(
        "{queryParams: {q: {exact: 'a'}}}",
        &[
            ("http://a/?q=a", &[], true),
            ("http://a/?q=%61", &[], false),
            ("http://a/?Q=a", &[], false),
            ("http://a/?q=a&q=b", &[], true),
            ("http://a/?q=b&q=a", &[], false),
            ("http://a/?x=1;q=a", &[], false),
            ("http://a/", &[], false),
        ],
    );
    // t2: "`?e` and `?e=` both equal \"\""
    check(
        "{queryParams: {e: {exact: ''}}}",
        &[("http://a/?e", &[], true), ("http://a/?e=", &[], true), ("http://a/?e=1", &[], false)],
    );
    check("{queryParams: {e: {}}}", &[("http://a/?e=1", &[], true), ("http://a/?f", &[], false)]);
}

// istio.md 1.1: "**ignored when the match lists `gateways`**"
// istio.md 1.1: "entry kept iff contains `mesh` for us"
#[test]
fn the_client_decides_statically() {
    check("{sourceLabels: {app: me}}", &[("http://a/", &[], true)]);
    check("{sourceLabels: {app: other}}", &[("http://a/", &[], false)]);
    check("{sourceNamespace: default}", &[("http://a/", &[], true)]);
    check("{sourceNamespace: other}", &[("http://a/", &[], false)]);
    // "ignored when the match lists `gateways`"; the entry is kept iff it contains `mesh`
    check("{sourceLabels: {app: other}, gateways: [mesh]}", &[("http://a/", &[], true)]);
    check("{gateways: [gw]}", &[("http://a/", &[], false)]);
    // OR over entries
    check("{uri: {exact: /a}}, {uri: {exact: /b}}", &[("http://a/b", &[], true), ("http://a/c", &[], false)]);
}

// istio.md 1.1: "Routes exist but none matches at runtime => 404, empty body (NR)"
// istio.md 1.1: "If every entry is filtered out statically the VS counts as absent (default route)"
#[test]
fn the_first_match_wins_and_no_match_is_no_route() {
    let rule = |uri: &str, subset: &str| {
        format!("{{match: [{{uri: {{prefix: {uri}}}}}], route: [{{destination: {{host: a, subset: {subset}}}}}]}}")
    };
    let table = compile(&vs("a", &format!("hosts: [a], http: [{}, {}]", rule("/a", "one"), rule("/ab", "two"))));
    assert_eq!(route(&table, &request("http://a/ab", &[])).unwrap(), "outbound|80|one|a.default.svc.cluster.local");
    // t1: "Routes exist but none matches at runtime => 404, empty body (NR)"
    assert_eq!(route(&table, &request("http://a/c", &[])), Err(Reason::NoRoute));
    // "If every entry is filtered out statically the VS counts as absent (default route)"
    let elsewhere = compile(&vs("a", "hosts: [a], http: [{match: [{port: 81}], route: [{destination: {host: b}}]}]"));
    assert_eq!(route(&elsewhere, &request("http://a/c", &[])).unwrap(), "outbound|80||a.default.svc.cluster.local");
}

#[test]
fn a_route_is_named_after_rule_and_entry() {
    // istio translateRoute: `http.name[.match.name]`
    for (rule, matcher, expected) in [
        ("name: r, ", "name: m, ", Some("r.m")),
        ("name: r, ", "", Some("r")),
        ("", "name: m, ", Some(".m")),
        ("", "", None),
    ] {
        let rule = format!("{rule}match: [{{{matcher}uri: {{prefix: /}}}}], route: [{{destination: {{host: a}}}}]");
        let table = compile(&vs("a", &format!("hosts: [a], http: [{{{rule}}}]")));
        let request = request("http://a/", &[]);
        let head = RequestHead::new(&request, table.path_normalization()).unwrap();
        let name = forward(table.route(&head, || 0).unwrap()).policy().name().cloned();
        assert_eq!(name.as_deref(), expected);
    }
}

// istio.md 1.0: "port = destination.port, else the single service port, else the port dialled"
#[test]
fn destinations_find_their_port() {
    for (destination, dialled, expected) in [
        // destination.port, else the single service port, else the port dialled
        ("{host: b}", "http://two:81/", "outbound|9080||b.default.svc.cluster.local"),
        ("{host: two}", "http://two:81/", "outbound|81||two.default.svc.cluster.local"),
        ("{host: two, port: {number: 80}}", "http://two:81/", "outbound|80||two.default.svc.cluster.local"),
    ] {
        let table = compile(&vs("two", &format!("hosts: [two], http: [{{route: [{{destination: {destination}}}]}}]")));
        assert_eq!(route(&table, &request(dialled, &[])).unwrap(), expected);
    }
}

#[test]
fn what_nobody_defines_is_reported_once_and_stays() {
    let (table, issues) = compile_with(
        &vs(
            "two",
            "hosts: [two], http: [{route: [{destination: {host: two, subset: missing}, weight: 1}, {destination: {host: gone}, weight: 1}]}]",
        ),
        &MeshConfig::default(),
    );
    let text = issues.to_string();
    assert_eq!(issues.len(), 2, "{text}");
    assert!(text.contains("http[0].route[0].destination.subset: no DestinationRule defines the subset missing of two.default.svc.cluster.local"), "{text}");
    assert!(
        text.contains("http[0].route[1].destination.host: host gone.default.svc.cluster.local is not in the registry"),
        "{text}"
    );
    let request = request("http://two/", &[]);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    assert!(forward(table.route(&head, || 0).unwrap()).cluster().is_none());
}

// istio.md 1.2: "proportion weight/Σ; **Σ need not be 100**"
#[test]
fn weights() {
    // t2: 1:2:4 => 13.0/29.9/57.1 %; "any int >= 0, sum > 0"
    let table = compile(&vs(
        "a",
        "hosts: [a], http: [{route: [{destination: {host: a, subset: one}, weight: 1}, {destination: {host: a, subset: none}}, \
         {destination: {host: a, subset: two}, weight: 2}, {destination: {host: a, subset: four}, weight: 4}]}]",
    ));
    let request = request("http://a/", &[]);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    let mut rng = StdRng::seed_from_u64(mesh_test::seed());
    let mut counts = std::collections::HashMap::new();
    const N: u32 = 70_000;
    for _ in 0..N {
        let subset = forward(table.route(&head, || rng.next_u64()).unwrap()).name().subset.clone().unwrap();
        *counts.entry(subset.to_string()).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), 3, "0-weight dest dropped when others exist");
    for (subset, weight) in [("one", 1.0), ("two", 2.0), ("four", 4.0)] {
        let (n, p) = (f64::from(N), weight / 7.0);
        let off = (f64::from(counts[subset]) - n * p).abs();
        assert!(off < 6.0 * (n * p * (1.0_f64 - p)).sqrt(), "{counts:?}");
    }
}

// istio.md 1.2: "115->c1, 445->c2, 560->c3 for 30/30/40"
#[test]
fn the_draw_is_cumulative() {
    // Envoy router_check Weighted: 115 -> c1, 445 -> c2, 560 -> c3 for 30/30/40
    let table = compile(&vs(
        "a",
        "hosts: [a], http: [{route: [{destination: {host: a, subset: c1}, weight: 30}, {destination: {host: a, subset: c2}, weight: 30}, \
         {destination: {host: a, subset: c3}, weight: 40}]}]",
    ));
    let request = request("http://a/", &[]);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    for (roll, subset) in
        [(115, "c1"), (445, "c2"), (560, "c3"), (29, "c1"), (30, "c2"), (59, "c2"), (60, "c3"), (99, "c3")]
    {
        assert_eq!(forward(table.route(&head, || roll).unwrap()).name().subset.as_deref(), Some(subset), "{roll}");
    }
}

// istio.md 1.0: "prefix `/`, default retry policy, timeout 0"
// istio.md 1.0: "ALLOW_ANY (mesh default): PassthroughCluster, timeout 0"
// istio.md 1.1: "route name = `http.name[.match.name]`"
// istio.md 1.2: "extra tries; `0` disables"
#[test]
fn policies() {
    let table = compile(&vs(
        "a",
        "hosts: [a, b], http: [{name: r, match: [{name: m, uri: {exact: /1}}], timeout: 3s, retries: {attempts: 5, perTryTimeout: 2s, retryOn: 'gateway-error'}, \
         route: [{destination: {host: a}}]}, {retries: {attempts: 0}, timeout: 0s, route: [{destination: {host: a}}]}]",
    ));
    let policy = |uri: &str| {
        let request = request(uri, &[]);
        let head = RequestHead::new(&request, table.path_normalization()).unwrap();
        Arc::clone(forward(table.route(&head, || 0).unwrap()).policy())
    };
    let one = policy("http://a/1");
    assert_eq!(one.name().map(|name| &**name), Some("r.m"));
    assert_eq!(one.virtual_service().map(|name| &**name), Some("default/a"));
    assert_eq!(one.timeout(), Some(std::time::Duration::from_secs(3)));
    assert_eq!(one.retry().unwrap().retries(), 5);
    assert_eq!(one.retry().unwrap().per_try_timeout(), Some(std::time::Duration::from_secs(2)));
    // "`0` disables"
    let two = policy("http://a/2");
    assert!(two.retry().is_none() && two.timeout().is_none() && two.name().is_none());
    // "default route, no VS: prefix `/`, default retry policy, timeout 0"
    let default = policy("http://two/");
    assert_eq!(default.retry(), Some(&RetryPolicy::istio_default()));
    assert_eq!(default.name().map(|name| &**name), Some("default"));
    // "PassthroughCluster, timeout 0"
    let out = policy("http://example.com/");
    assert!(out.retry().is_none() && out.timeout().is_none());
}
