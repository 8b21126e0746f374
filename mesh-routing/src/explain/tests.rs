use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderMap, Request, Response};
use mesh_core::{
    BoxError, ClusterName, Error, Labels, LocalReply, MeshConfig, OutboundTrafficPolicy, Reason, Routed, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use super::{Explanation, Outcome};
use crate::{
    CompileInput, CorsLayer, FaultLayer, RetryPolicy, RouteLayer, RoutePolicy, RouteTable, VirtualService,
    table::index::tests::{Rule, request, setting, table},
};

type Name = Arc<ClusterName>;
type Table = RouteTable<Name>;

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, name: http}, {port: 81, name: http-b}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: bytes}, spec: {ports: [{port: 9000, name: tcp}]}}
---
";

fn compile_for(workload: &Workload, mesh: &MeshConfig, yaml: &str) -> Table {
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &format!("{SERVICES}{yaml}"), &mut issues);
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    let of_kind = documents.iter().filter(|document| document.kind() == "VirtualService");
    let virtual_services: Vec<_> =
        of_kind.filter_map(|document| VirtualService::from_document(document, &mut issues)).map(Arc::new).collect();
    assert!(!issues.has_errors(), "{issues}");
    let default_retry = Some(RetryPolicy::istio_default());
    let input =
        CompileInput { workload, mesh, registry: &registry, virtual_services: &virtual_services, default_retry };
    let mut clusters = |name: &ClusterName| (name.subset.as_deref() != Some("gone")).then(|| Arc::new(name.clone()));
    RouteTable::compile(&input, &mut clusters, &mut issues)
}

fn compile(yaml: &str) -> Table {
    let labels = Labels::from_iter([("app", "me")]);
    compile_for(&Workload::new("default", "me").with_labels(labels), &MeshConfig::default(), yaml)
}

/// The rules of host `a`.
fn rules(http: &str) -> Table {
    compile(&format!("{{kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a], http: [{http}]}}}}"))
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn because(explanation: &Explanation) -> Vec<&str> {
    explanation.rejected.iter().map(|rejection| &*rejection.because).collect()
}

const TO: &str = "route: [{destination: {host: a}}]";

#[test]
fn names_the_first_condition_that_does_not_hold() {
    let request = || {
        let request = Request::put("http://a:80/x/y?q=1&e");
        request.header("n", "1").header("n", "2").header("host", "A:80").header("byte", [0xc3, 0xa9, 0xff].as_slice())
    };
    for (matcher, because) in [
        ("uri: {prefix: /api}", r#"uri prefix "/api" does not match path "/x/y""#),
        ("uri: {exact: /X}", r#"uri exact "/X" does not match path "/x/y""#),
        ("uri: {exact: /X}, ignoreUriCase: true", r#"uri exact "/X" (in any case) does not match path "/x/y""#),
        (r"uri: {regex: '/\d+'}", r#"uri regex "/\\d+" does not match path "/x/y""#),
        ("method: {exact: GET}", r#"method: exact "GET", found "PUT""#),
        ("scheme: {exact: https}", r#"scheme: exact "https", found "http""#),
        ("authority: {prefix: b}", r#"authority: prefix "b", found "A:80""#),
        ("port: 81", "port: 81, found 80"),
        ("headers: {end-user: {exact: jason}}", r#"header end-user: exact "jason", absent"#),
        ("headers: {end-user: {}}", "header end-user: must be present, absent"),
        ("headers: {n: {exact: '3'}}", r#"header n: exact "3", found "1" and "2""#),
        ("headers: {byte: {exact: e}}", "header byte: exact \"e\", found \"é\u{fffd}\""),
        ("headers: {n: {exact: '1'}, z: {regex: a+}}", r#"header z: regex "a+", absent"#),
        ("withoutHeaders: {n: {}}", r#"withoutHeaders n: must be absent, found "1" and "2""#),
        ("withoutHeaders: {n: {exact: '2'}}", r#"withoutHeaders n: exact "2", found "1" and "2""#),
        ("withoutHeaders: {z: {regex: '.*'}}", r#"withoutHeaders z: regex ".*", absent, which counts as empty"#),
        ("queryParams: {q: {exact: '2'}}", r#"query parameter q: exact "2", found "1""#),
        ("queryParams: {e: {exact: '2'}}", r#"query parameter e: exact "2", found """#),
        ("queryParams: {f: {}}", "query parameter f: must be present, absent"),
        // what this client's table leaves out
        ("sourceLabels: {app: you}", r#"sourceLabels app: "you", found "me""#),
        ("sourceLabels: {tier: x}", r#"sourceLabels tier: "x", the client has none"#),
        ("sourceNamespace: far", r#"sourceNamespace: "far", found "default""#),
        ("gateways: [edge]", r#"gateways: edge, and "mesh" is not among them"#),
    ] {
        let table = rules(&format!("{{name: r, match: [{{name: m, {matcher}}}], {TO}}}, {{{TO}}}"));
        let explanation = table.explain(&request().body(()).unwrap(), None);
        assert_eq!(explanation.rejected.len(), 1, "{matcher}: {explanation}");
        let rejection = &explanation.rejected[0];
        assert_eq!(rejection.because, because, "{matcher}");
        assert_eq!((rejection.rule_index, rejection.match_index), (Some(0), Some(0)));
        assert_eq!(
            (rejection.route.as_deref(), rejection.virtual_service.as_deref()),
            (Some("r.m"), Some("default/a"))
        );
        assert_eq!(rejection.source.as_deref(), Some("a.yaml:6"));
        assert_eq!((explanation.rule_index, explanation.match_index), (Some(1), None), "{matcher}");
    }
}

#[test]
fn every_entry_before_is_told_and_none_after() {
    let table = rules(&format!(
        "{{name: r, match: [{{uri: {{exact: /a}}}}, {{port: 81}}, {{uri: {{exact: /b}}}}, {{uri: {{exact: /c}}}}], {TO}}}, \
         {{name: s, match: [{{uri: {{prefix: /c}}}}], {TO}}}"
    ));
    let taken = table.explain(&get("http://a/b"), None);
    assert_eq!((taken.rule_index, taken.match_index), (Some(0), Some(2)));
    let uri = |kind: &str, found: &str| format!("uri {kind} does not match path \"{found}\"");
    assert_eq!(because(&taken), [&*uri("exact \"/a\"", "/b"), "port: 81, found 80"]);
    let none = table.explain(&get("http://a/x"), None);
    assert_eq!((none.outcome, none.status, none.cluster.as_ref()), (Outcome::NoRoute, Some(404), None));
    assert_eq!(none.response_flags.as_deref(), Some("NR"));
    let entries = none.rejected.iter().map(|rejection| (rejection.rule_index, rejection.match_index));
    let expected = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)].map(|(rule, entry)| (Some(rule), Some(entry)));
    assert_eq!(entries.collect::<Vec<_>>(), expected);
}

#[test]
fn rules_behind_a_catch_all_are_never_reached() {
    // istio BuildHTTPRoutesForVirtualService: every rule after a catch-all is dropped.
    let table = rules(&format!(
        "{{match: [{{uri: {{exact: /a}}}}, {{uri: {{prefix: /}}}}, {{method: {{exact: PUT}}}}], {TO}}}, \
         {{name: late, match: [{{port: 81}}, {{uri: {{exact: /b}}}}], {TO}}}, {{{TO}}}"
    ));
    let explanation = table.explain(&get("http://a/b"), None);
    assert_eq!((explanation.rule_index, explanation.match_index), (Some(0), Some(1)));
    assert_eq!(explanation.rejected.len(), 1);
    let behind = "http[0] before it takes every request";
    let unreachable = explanation.unreachable.iter().map(|rule| (rule.rule_index, rule.match_index, &*rule.because));
    assert_eq!(
        unreachable.collect::<Vec<_>>(),
        [
            (Some(0), Some(2), behind),
            (Some(1), Some(0), "port: 81, found 80"),
            (Some(1), Some(1), behind),
            (Some(2), None, behind)
        ]
    );
}

#[test]
fn virtual_services_that_are_not_in_force_say_why() {
    let vs = |name: &str, rest: &str| {
        format!("{{kind: VirtualService, metadata: {{name: {name}}}, spec: {{{rest}, http: [{{{TO}}}]}}}}\n---\n")
    };
    let yaml = vs("edge", "hosts: [a], gateways: [edge]")
        + &vs("hidden", "hosts: [a], exportTo: [far]")
        + "{kind: VirtualService, metadata: {name: others}, spec: {hosts: [a], http: [{match: [{sourceLabels: {app: you}}], "
        + &format!("{TO}}}]}}}}\n---\n")
        + &vs("first", "hosts: [a]")
        + &vs("second", "hosts: [a]")
        + &vs("wide", "hosts: ['*.default.svc.cluster.local']")
        + &vs("elsewhere", "hosts: [b.com], exportTo: [far]")
        + "{kind: VirtualService, metadata: {name: edges}, spec: {hosts: [b.com], http: [{match: [{gateways: [edge]}], "
        + &format!("{TO}}}]}}}}\n---\n");
    let table = compile(&yaml);
    let explanation = table.explain(&get("http://a/"), None);
    assert_eq!(explanation.virtual_service.as_deref(), Some("default/first"));
    let told: BTreeMap<_, _> = explanation
        .rejected
        .iter()
        .map(|rejection| (rejection.virtual_service.as_deref().unwrap(), &*rejection.because))
        .collect();
    assert_eq!(
        told,
        BTreeMap::from([
            ("default/edge", "it is for gateways: `gateways` lists others than \"mesh\""),
            ("default/hidden", "exportTo of namespace default leaves namespace default out"),
            // one that has rules for others only leaves the host to the next
            ("default/others", r#"sourceLabels app: "you", found "me""#),
            (
                "default/second",
                "host a.default.svc.cluster.local is routed by VirtualService default/first, which comes first"
            ),
            ("default/wide", "host *.default.svc.cluster.local is less specific than a.default.svc.cluster.local"),
        ])
    );
    let outside = table.explain(&get("http://b.com/"), None);
    assert_eq!(outside.outcome, Outcome::Passthrough);
    assert_eq!(
        because(&outside),
        [
            "exportTo of namespace default leaves namespace default out",
            "none of its rules is for this client (gateways, sourceLabels, sourceNamespace)"
        ]
    );
    let port = table.explain(&get("http://a:8080/"), None);
    assert_eq!(port.outcome, Outcome::Passthrough);
    assert_eq!(port.rejected[0].because, "the service has no port 8080: it has 80, 81");
    let uncovered = table.explain(&get("http://x.default.svc.cluster.local/"), None);
    assert_eq!(
        because(&uncovered),
        ["x.default.svc.cluster.local is none of the services that host *.default.svc.cluster.local covers"]
    );
}

#[test]
fn rules_of_a_port_that_is_not_http_are_not_in_force() {
    let table = compile(&format!(
        "{{kind: VirtualService, metadata: {{name: b}}, spec: {{hosts: [bytes], http: [{{{TO}}}]}}}}"
    ));
    let explanation = table.explain(&get("http://bytes:9000/"), None);
    assert_eq!((explanation.route.as_deref(), explanation.virtual_service.as_deref()), (Some("default"), None));
    let tcp = "port 9000 carries TCP or TLS, and rules under `http` are for HTTP";
    assert_eq!(because(&explanation), [tcp]);
    // Of two for one host both are told.
    let of = |name: &str| {
        format!("{{kind: VirtualService, metadata: {{name: {name}}}, spec: {{hosts: [bytes], http: [{{{TO}}}]}}}}")
    };
    let explanation = compile(&[of("b"), of("c")].join("\n---\n")).explain(&get("http://bytes:9000/"), None);
    let told = explanation.rejected.iter().map(|told| (told.virtual_service.as_deref().unwrap(), &*told.because));
    assert_eq!(told.collect::<Vec<_>>(), [("default/b", tcp), ("default/c", tcp)]);
}

/// issue "Ask it": "why each earlier rule did not match", the last too.
#[test]
fn a_rule_that_is_left_out_is_told_where_none_follows() {
    let gone = |name: &str| format!("{{name: {name}, match: [{{uri: {{prefix: /y}}}}], delegate: {{name: nobody}}}}");
    let table = rules(&format!("{{match: [{{uri: {{prefix: /x}}}}], {TO}}}, {}", gone("last")));
    let told =
        |explanation: &Explanation| explanation.rejected.last().map(|told| (told.rule_index, told.route.clone()));
    let explanation = table.explain(&get("http://a/y"), None);
    assert_eq!((explanation.outcome, told(&explanation)), (Outcome::NoRoute, Some((Some(1), Some("last".into())))));
    let explanation = rules(&gone("only")).explain(&get("http://a/y"), None);
    assert_eq!(explanation.route.as_deref(), Some("default"));
    assert_eq!(told(&explanation), Some((Some(0), Some("only".into()))));
    assert!(because(&explanation)[0].starts_with("delegate virtual service default/nobody not found"));
}

#[test]
fn a_delegates_rules_name_both() {
    let table = compile(&format!(
        "{{kind: VirtualService, metadata: {{name: root}}, spec: {{hosts: [a], http: [\n\
         {{name: gone, match: [{{uri: {{prefix: /g}}}}], delegate: {{name: nobody}}}},\n\
         {{match: [{{uri: {{prefix: /d}}}}], delegate: {{name: lent}}}}]}}}}\n---\n\
         {{kind: VirtualService, metadata: {{name: lent}}, spec: {{http: [\n\
         {{match: [{{uri: {{exact: /d/1}}}}], {TO}}},\n{{match: [{{uri: {{exact: /d/2}}}}], {TO}}}]}}}}"
    ));
    let explanation = table.explain(&get("http://a/d/2"), None);
    assert_eq!(explanation.virtual_service.as_deref(), Some("default/root"));
    assert_eq!(explanation.delegate.as_deref(), Some("default/lent"));
    assert_eq!((explanation.rule_index, explanation.match_index), (Some(1), Some(0)));
    assert_eq!(explanation.source.as_deref(), Some("a.yaml:12"));
    assert_eq!(
        because(&explanation),
        [
            "delegate virtual service default/nobody not found (it is one without hosts): this rule is not in force",
            "uri exact \"/d/1\" does not match path \"/d/2\""
        ]
    );
    assert_eq!(explanation.rejected[0].source.as_deref(), Some("a.yaml:7"));
    assert_eq!(explanation.rejected[1].source.as_deref(), Some("a.yaml:11"));
}

#[test]
fn one_draw_stands_for_all() {
    // issue: "cumulative weight of floor(roll x sum); a percentage p applies if roll x 100 < p"
    let table = rules(
        "{route: [{destination: {host: a, subset: v1}, weight: 1}, {destination: {host: a, subset: v2}, weight: 2}, \
         {destination: {host: a, subset: gone}, weight: 5}], fault: {delay: {fixedDelay: 1s, percentage: {value: 10}}, \
         abort: {httpStatus: 555, percentage: {value: 5}}}, mirror: {host: a, subset: m}, mirrorPercentage: {value: 50}}",
    );
    let cluster = |subset: &str| format!("outbound|80|{subset}|a.default.svc.cluster.local");
    for (roll, subset, outcome, delay, abort, mirrors) in [
        (0.0, "v1", Outcome::Abort, Some(1000), Some(555), 0),
        (0.049_9, "v1", Outcome::Abort, Some(1000), Some(555), 0),
        (0.05, "v1", Outcome::Forward, Some(1000), None, 1),
        (0.1, "v1", Outcome::Forward, None, None, 1),
        (0.124, "v1", Outcome::Forward, None, None, 1),
        (0.125, "v2", Outcome::Forward, None, None, 1),
        (0.374, "v2", Outcome::Forward, None, None, 1),
        (0.375, "gone", Outcome::Unavailable, None, None, 0),
        (0.999_999, "gone", Outcome::Unavailable, None, None, 0),
        (1.0, "gone", Outcome::Unavailable, None, None, 0),
    ] {
        let explanation = table.explain(&get("http://a/"), Some(roll));
        assert_eq!(explanation.cluster, Some(cluster(subset)), "{roll}");
        assert_eq!(explanation.outcome, outcome, "{roll}");
        let fault = explanation.fault.as_ref();
        assert_eq!(fault.and_then(|fault| fault.delay_ms), delay, "{roll}");
        assert_eq!(fault.and_then(|fault| fault.abort_status), abort, "{roll}");
        assert_eq!(explanation.mirrors.len(), mirrors, "{roll}");
        assert_eq!(explanation.destinations.len(), 3);
    }
    let undrawn = table.explain(&get("http://a/"), None);
    assert_eq!((undrawn.outcome, &undrawn.cluster), (Outcome::Forward, &None));
    let fault = undrawn.fault.unwrap();
    assert_eq!((fault.delay_ms, fault.delay_percent), (Some(1000), Some(10.0)));
    assert_eq!((fault.abort_status, fault.abort_percent), (Some(555), Some(5.0)));
    let defined = undrawn.destinations.iter().map(|destination| (destination.weight, destination.defined));
    assert_eq!(defined.collect::<Vec<_>>(), [(1, true), (2, true), (5, false)]);
    assert_eq!((undrawn.mirrors.len(), undrawn.mirrors[0].percent), (1, 50.0));
}

#[test]
fn what_depends_on_the_draw_is_left_out_without_one() {
    let table = rules(
        "{rewrite: {uri: /b}, route: [{destination: {host: a}, weight: 1, headers: {request: {set: {x: '1'}}}}, \
         {destination: {host: a, subset: v}, weight: 1, headers: {request: {set: {':authority': b}}}}]}",
    );
    let undrawn = table.explain(&get("http://a/x?q"), None).request.unwrap();
    assert_eq!((undrawn.path.as_str(), undrawn.authority, undrawn.headers), ("/bx?q", None, None));
    let drawn = table.explain(&get("http://a/x"), Some(0.5)).request.unwrap();
    assert_eq!(drawn.authority.as_deref(), Some("b"));
    assert_eq!(drawn.headers.unwrap(), [("x-envoy-original-path".to_owned(), "/x".to_owned())]);
}

#[test]
fn what_is_answered_here() {
    let table = rules(
        "{match: [{uri: {prefix: /r}}], redirect: {uri: /n, authority: b, redirectCode: 302}}, \
         {match: [{uri: {prefix: /d}}], directResponse: {status: 503, body: {string: no}}, headers: {response: {set: {x: y}}}}, \
         {match: [{uri: {prefix: /f}}], route: [{destination: {host: a}}], fault: {abort: {grpcStatus: UNAVAILABLE, \
         percentage: {value: 100}}}}, {match: [{uri: {prefix: /u}}], route: [{destination: {host: a, subset: gone}}]}, \
         {match: [{uri: {prefix: /c}}], route: [{destination: {host: a}}], corsPolicy: {allowOrigins: [{exact: o}]}}",
    );
    let of = |uri: &str| table.explain(&get(uri), None);
    let redirect = of("http://a/r?q");
    assert_eq!((redirect.outcome, redirect.status), (Outcome::Redirect, Some(302)));
    assert_eq!(redirect.location.as_deref(), Some("http://b/n?q"));
    let direct = of("http://a/d");
    assert_eq!(
        (direct.outcome, direct.status, direct.body.as_deref()),
        (Outcome::DirectResponse, Some(503), Some("no"))
    );
    assert!(direct.response_headers.unwrap().contains(&("x".into(), "y".into())));
    let abort = of("http://a/f");
    assert_eq!(
        (abort.outcome, abort.status, abort.body.as_deref()),
        (Outcome::Abort, Some(200), Some("fault filter abort"))
    );
    assert_eq!(abort.fault.unwrap().abort_grpc_status, Some(14));
    let unavailable = of("http://a/u");
    assert_eq!((unavailable.outcome, unavailable.status), (Outcome::Unavailable, Some(503)));
    assert_eq!(unavailable.cluster.as_deref(), Some("outbound|80|gone|a.default.svc.cluster.local"));
    let preflight = Request::options("http://a/c").header("origin", "o").header("access-control-request-method", "GET");
    let preflight = table.explain(&preflight.body(()).unwrap(), None);
    assert_eq!((preflight.outcome, preflight.status, preflight.request), (Outcome::DirectResponse, Some(200), None));
    let grpc = Request::post("http://a/none").header("content-type", "application/grpc").body(()).unwrap();
    let grpc = table.explain(&grpc, None);
    assert_eq!((grpc.outcome, grpc.status), (Outcome::NoRoute, Some(200)));
    assert!(grpc.response_headers.unwrap().contains(&("grpc-status".into(), "12".into())));
    assert_eq!(of("http://a/%00").outcome, Outcome::Blocked);

    let mut mesh = MeshConfig::default();
    mesh.outbound_traffic_policy = OutboundTrafficPolicy::RegistryOnly;
    let closed = compile_for(&Workload::new("default", "me"), &mesh, "").explain(&get("http://b.com/"), None);
    assert_eq!(
        (closed.outcome, closed.status, closed.cluster.as_deref()),
        (Outcome::Blocked, Some(502), Some("BlackHoleCluster"))
    );
    let open = of("http://b.com:99/x");
    assert_eq!((open.outcome, open.cluster.as_deref()), (Outcome::Passthrough, Some("PassthroughCluster")));
    assert_eq!(open.request.unwrap().authority.as_deref(), Some("b.com:99"));
}

#[test]
fn policies_are_told_as_they_hold() {
    let table = rules(&format!(
        "{{name: n, timeout: 2s, retries: {{attempts: 3, perTryTimeout: 500ms, retryOn: 'reset,429,5xx'}}, \
         headers: {{response: {{set: {{b: '2'}}, remove: [c]}}}}, {TO}}}"
    ));
    let explanation = table.explain(&get("http://a/"), None);
    assert_eq!((explanation.route.as_deref(), explanation.timeout_ms), (Some("n"), Some(2000)));
    let retries = explanation.retries.unwrap();
    assert_eq!((retries.attempts, &*retries.retry_on, retries.backoff_ms), (3, "5xx,reset,429", 25));
    assert_eq!(retries.per_try_timeout_ms, Some(500));
    let operations = explanation.response_operations.iter().map(|op| (op.op, &*op.name, op.value.as_deref()));
    assert_eq!(operations.collect::<Vec<_>>(), [("remove", "c", None), ("set", "b", Some("2"))]);
    // istio max_grpc_timeout: the caller's own where it is shorter
    let grpc = Request::post("http://a/").header("content-type", "application/grpc").header("grpc-timeout", "100m");
    assert_eq!(table.explain(&grpc.body(()).unwrap(), None).timeout_ms, Some(100));
    let default = compile("").explain(&get("http://a/"), None);
    assert_eq!(default.destinations[0].weight, 100);
    assert_eq!(
        default.retries.unwrap().retry_on,
        "connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable"
    );
}

thread_local! {
    static BITS: Cell<u64> = const { Cell::new(0) };
}

/// What the layers did: the request that reached the inside, or the error.
async fn send(table: &Arc<ArcSwap<Table>>, request: Request<()>) -> Result<(String, Request<()>), Error> {
    let inside = |routed: Routed<Request<()>, Name, Arc<RoutePolicy<Name>>>| async move {
        Ok::<_, BoxError>(Response::new((routed.cluster.to_string(), routed.request)))
    };
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(Arc::clone(table)).with_roll(|| BITS.get()))
        .layer(FaultLayer::new().with_roll(|| BITS.get()))
        .layer(CorsLayer::new())
        .service(service_fn(inside));
    stack.oneshot(request).await.map(Response::into_body)
}

/// The actions of rules, in turn; each names its rule.
fn action(number: usize) -> String {
    let to = |subset: &str| format!("{{destination: {{host: a, subset: {subset}}}, weight: 10");
    match number % 8 {
        0 => format!("route: [{}}}]", to(&format!("r{number}"))),
        1 => format!(
            "route: [{}}}, {}, headers: {{request: {{set: {{':authority': c, x-0: '{number}'}}}}}}}}]",
            to(&format!("v{number}")),
            to(&format!("w{number}"))
        ),
        2 => format!("redirect: {{uri: /to/{number}, derivePort: FROM_REQUEST_PORT}}"),
        3 => format!(
            "directResponse: {{status: {}, body: {{string: '{number}'}}}}, headers: {{response: {{add: {{x: y}}}}}}",
            200 + number % 300
        ),
        4 => format!(
            "rewrite: {{uri: /new{number}, authority: b}}, headers: {{request: {{add: {{x-1: '{number}'}}, remove: [x-0]}}}}, \
             route: [{}}}]",
            to(&format!("r{number}"))
        ),
        5 => format!("fault: {{abort: {{httpStatus: 555, percentage: {{value: 50}}}}}}, route: [{}}}]", to("f")),
        6 => format!("route: [{}}}]", to("gone")),
        _ => format!(
            "rewrite: {{uriRegexRewrite: {{match: '/([a-z]*)', rewrite: '/\\1{number}'}}}}, route: [{}}}]",
            to(&format!("r{number}"))
        ),
    }
}

fn yaml(table: &[Rule]) -> String {
    let rules = table.iter().enumerate().map(|(number, rule)| {
        // Two entries for some: the second takes what is put there by hand.
        let second = if number % 5 == 4 { ", {headers: {second: {exact: x}}}" } else { "" };
        format!("{{name: n{number}, match: [{}{second}], {}}}", rule.yaml(), action(number + table.len()))
    });
    let rules = rules.collect::<Vec<_>>().join(",\n");
    let ports = "[{port: 80, name: http}, {port: 81, name: http-b}]";
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: b}}, spec: {{ports: {ports}}}}}\n---\n\
         {{kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a, b], http: [{rules}]}}}}"
    )
}

fn sorted(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut pairs = super::decide::pairs(headers);
    pairs.retain(|(name, _)| name != "host");
    pairs.sort();
    pairs
}

/// What is told is what the layers do: the rule, the cluster, the request that goes upstream, the answer made here.
#[test]
fn agrees_with_the_layers() {
    let cases = u32::try_from(setting("MESH_ROUTE_TABLES", 96)).unwrap();
    let seed = setting("MESH_ROUTE_SEED", 1);
    println!("MESH_ROUTE_SEED={seed} MESH_ROUTE_TABLES={cases}");
    let config = Config { cases, rng_seed: RngSeed::Fixed(seed), source_file: Some(file!()), ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let counts = std::cell::RefCell::new(BTreeMap::<String, u64>::new());
    TestRunner::new(config)
        .run(&(table(), vec((any::<u64>(), 0..4_u32), 100)), |(generated, draws)| {
            prop_assume!(!generated.is_empty());
            let table = Arc::new(ArcSwap::from_pointee(compile(&yaml(&generated))));
            for (seed, quarter) in draws {
                let mut sent = request(&generated, seed).request();
                if seed % 16 == 0 {
                    sent.headers_mut().insert("second", http::HeaderValue::from_static("x"));
                }
                let roll = f64::from(quarter) / 4.0;
                // The same draw for `% 1_000_000` and for `% 20`, the sum of the weights above.
                BITS.set(u64::from(quarter) * 250_000 / 20 * 20 + u64::from(quarter) * 5);
                let explanation = table.load().explain(&sent, Some(roll));
                let outcome = runtime.block_on(send(&table, sent.clone()));
                *counts.borrow_mut().entry(format!("{:?}", explanation.outcome)).or_default() += 1;
                check(&explanation, &outcome, &sent)?;
                rejections(&table.load(), &explanation, &sent)?;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("MESH_ROUTE_SEED={seed}: {error}"));
    let counts = counts.into_inner();
    println!("{counts:?}");
    for outcome in ["Forward", "Redirect", "DirectResponse", "Abort", "NoRoute", "Unavailable"] {
        assert!(counts.get(outcome).is_some_and(|count| *count >= 20), "{outcome}");
    }
}

fn check(
    explanation: &Explanation,
    outcome: &Result<(String, Request<()>), Error>,
    sent: &Request<()>,
) -> Result<(), TestCaseError> {
    match outcome {
        Ok((cluster, request)) => {
            let upstream = explanation.request.as_ref();
            let upstream = upstream.ok_or_else(|| TestCaseError::fail(format!("{sent:?}: {explanation}")))?;
            prop_assert_eq!(explanation.cluster.as_ref(), Some(cluster));
            prop_assert_eq!(&upstream.method, request.method().as_str());
            prop_assert_eq!(&upstream.path, &request.uri().path_and_query().unwrap().to_string());
            prop_assert_eq!(upstream.authority.as_deref().unwrap().as_bytes(), request.headers()["host"].as_bytes());
            let mut headers = upstream.headers.clone().unwrap();
            headers.sort();
            prop_assert_eq!(headers, sorted(request.headers()));
            prop_assert_eq!(explanation.status, None);
        }
        Err(error) => {
            let reply = LocalReply::new(error, false);
            prop_assert_eq!(explanation.status, Some(reply.status.as_u16()), "{:?}: {}", sent, explanation);
            prop_assert_eq!(explanation.body.as_deref().unwrap().as_bytes(), &reply.body);
            let mut headers = explanation.response_headers.clone().unwrap();
            headers.sort();
            prop_assert_eq!(headers, sorted(&reply.headers));
            prop_assert_eq!(explanation.route.as_deref(), error.exchange().route.as_deref());
            let wanted = match error.reason() {
                Reason::NoRoute => Outcome::NoRoute,
                Reason::NoCluster => Outcome::Unavailable,
                Reason::FaultAbort(_) => Outcome::Abort,
                // A direct response of 3xx says where too; these have a body.
                Reason::Answered(status) if status.is_redirection() && reply.body.is_empty() => Outcome::Redirect,
                Reason::Answered(_) => Outcome::DirectResponse,
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            prop_assert_eq!(explanation.outcome, wanted);
        }
    }
    Ok(())
}

/// Every entry of the file before the one that was taken is rejected, and the one that was taken is not.
fn rejections(table: &Table, explanation: &Explanation, sent: &Request<()>) -> Result<(), TestCaseError> {
    let told: Vec<_> =
        explanation.rejected.iter().map(|rejection| (rejection.rule_index, rejection.match_index)).collect();
    let head = crate::RequestHead::new(sent, table.path_normalization()).unwrap();
    let host = table.virtual_host(&head).unwrap();
    let owner = host.about().owner.as_ref().unwrap();
    let all = owner.rules().iter().flat_map(|rule| {
        rule.matches.iter().map(|entry| (Some(rule.at.index), Some(entry.at.index), entry.matches(&head)))
    });
    let before = all.take_while(|(_, _, matches)| !matches);
    let expected: Vec<_> = before.map(|(rule, entry, _)| (rule, entry)).collect();
    prop_assert_eq!(told, expected, "{:?}: {}", sent, explanation);
    prop_assert!(explanation.rejected.iter().all(|rejection| !rejection.because.is_empty()));
    Ok(())
}

/// A rewrite may make a path that is none: the host is not what was wrong, and there is no escape to the terminal.
#[test]
fn a_path_that_cannot_be_sent_is_not_a_host_that_is_unknown() {
    let rewrite = "rewrite: {uriRegexRewrite: {match: '^/bad/(.*)$', rewrite: '\\1'}}";
    let body = "directResponse: {status: 200, body: {string: \"a\\e[31mb\\nc\"}}";
    let table = rules(&format!("{{match: [{{uri: {{prefix: /bad}}}}], {rewrite}, {TO}}}, {{{body}}}"));
    let explanation = table.explain(&get("http://a/bad/x"), None);
    assert_eq!((explanation.outcome, explanation.status), (Outcome::Blocked, Some(400)));
    assert!(explanation.to_string().starts_with("blocked: 400, the path cannot be sent\n"), "{explanation}");
    let explanation = table.explain(&get("http://a/good"), None);
    assert_eq!(explanation.body.as_deref(), Some("a\u{1b}[31mb\nc"));
    assert!(explanation.to_string().contains("  body      a\\u{1b}[31mb\n  body      c\n"), "{explanation}");
}

#[test]
fn is_json_with_every_key_and_readable_on_a_terminal() {
    let table =
        rules(&format!("{{name: n, match: [{{uri: {{exact: /a}}}}], {TO}}}, {{name: rest, timeout: 1s, {TO}}}"));
    let explanation = table.explain(&get("http://a/b?c"), None);
    let text = explanation.to_string();
    for line in [
        "forward\n",
        "  rule      default/a http[1] \"rest\"\n",
        "  at        a.yaml:6\n",
        "  to        outbound|80||a.default.svc.cluster.local\n",
        "  request   GET /b?c at a\n",
        "  timeout   1000 ms\n",
        "not taken:\n  default/a http[0].match[0] \"n\" (a.yaml:6): uri exact \"/a\" does not match path \"/b\"\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(!text.contains('\u{1b}'));
}

/// A host that is there, but not on that port or for that namespace, is not told to be missing.
#[test]
fn what_is_near_is_named() {
    let explain = |yaml: &str, namespace: &str, policy, uri: &str| {
        let mut mesh = MeshConfig::default();
        mesh.outbound_traffic_policy = policy;
        compile_for(&Workload::new(namespace, "me"), &mesh, yaml).explain(&get(uri), None)
    };
    let (any, only) = (OutboundTrafficPolicy::AllowAny, OutboundTrafficPolicy::RegistryOnly);
    let port = "the service a.default.svc.cluster.local has no port 82: it has 80, 81";
    let cart = "{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {ports: [{port: 80}]}}";
    for (namespace, uri, note) in [
        ("default", "http://a:82/", Some(port)),
        ("other", "http://A.default:82/", Some(port)),
        ("other", "http://cart/", Some("namespace other has no service cart: there is cart.shop")),
        ("other", "http://elsewhere.com/", None),
        ("other", "http://car/", None),
        ("shop", "http://cart/", None),
    ] {
        let told = explain(cart, namespace, any, uri);
        assert_eq!(told.note.as_deref(), note, "{uri}");
        if let Some(note) = note {
            assert!(told.to_string().starts_with(&format!("pass through: {note} (ALLOW_ANY)\n")), "{told}");
            let blocked = explain(cart, namespace, only, uri).to_string();
            assert!(blocked.starts_with(&format!("blocked: 502, {note} (REGISTRY_ONLY)")), "{blocked}");
        }
    }
    // A name that VirtualServices alone have is no service.
    let rules = "{kind: VirtualService, metadata: {name: b}, spec: {hosts: [b.com], http: [{match: [{port: 81}], \
                 redirect: {uri: /}}]}}";
    assert_eq!(explain(rules, "default", any, "http://b.com:82/").note, None);
}
