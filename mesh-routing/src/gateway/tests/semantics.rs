use std::time::Duration;

use mesh_core::Reason;
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::{compile, compile_in, http, policy, request, route, rule, sent, taken};
use crate::{Decision, RequestHead, RetryOn, Verdict};

/// Rules, from the first to the last that is asked.
const ORDER: [(&str, &str); 10] = [
    ("long-exact", "{path: {type: Exact, value: /api/v1/x}}"),
    ("exact", "{path: {type: Exact, value: /api}}"),
    ("long-prefix", "{path: {value: /api/v1}, headers: []}"),
    (
        "prefix-all",
        "{path: {value: /api}, method: GET, headers: [{name: x, value: y}], queryParams: [{name: q, value: r}]}",
    ),
    ("prefix-headers", "{path: {value: /api}, method: GET, headers: [{name: x, value: y}]}"),
    ("prefix-method", "{path: {value: /api}, method: GET}"),
    ("prefix-query", "{path: {value: /api}, queryParams: [{name: q, value: r}]}"),
    ("prefix", "{path: {value: /api}}"),
    ("root", "{path: {value: /}}"),
    ("regex", "{path: {type: RegularExpression, value: '/a.*very-long-expression.*|.*'}}"),
];

#[test]
fn the_more_specific_match_comes_first() {
    // istio.md 1.10: "order: Exact>Prefix>Regex, longer path, method set, more headers, more query params"
    let rng = &mut StdRng::seed_from_u64(mesh_test::seed());
    for _ in 0..50 {
        let mut rules = ORDER;
        rules.shuffle(rng);
        // Spread over two routes: rules of all routes of a service are one list.
        let (one, two) = rules.split_at(4);
        let list = |rules: &[(&str, &str)]| {
            rules.iter().map(|(name, matches)| rule(name, matches)).collect::<Vec<_>>().join(", ")
        };
        let table = compile(&format!("{}{}", http("one", &list(one)), http("two", &list(two))));
        let both: &[_] = &[("x", "y")];
        for (uri, headers, expected) in [
            ("http://a/api/v1/x?q=r", both, "long-exact"),
            ("http://a/api?q=r", both, "exact"),
            ("http://a/api/v1/y?q=r", both, "long-prefix"),
            ("http://a/api/y?q=r", both, "prefix-all"),
            ("http://a/api/y", both, "prefix-headers"),
            ("http://a/api/y", &[], "prefix-method"),
            // istio sortHTTPRoutes: a method counts before any number of others
            ("http://a/api/y?q=r", &[], "prefix-method"),
            ("POST http://a/api/y?q=r", &[], "prefix-query"),
            ("POST http://a/api/y", both, "prefix"),
            ("http://a/apiy", both, "root"),
        ] {
            assert_eq!(taken(&table, uri, headers).as_deref(), Ok(expected), "{uri} {rules:?}");
        }
    }
}

#[test]
fn equal_matches_go_by_age_then_name_then_list() {
    // istio.md 1.10: "then oldest route/name, then list order"
    // gateway API HTTPRouteRule.matches: "The oldest Route based on creation timestamp. The Route appearing first in
    // alphabetical order by "{namespace}/{name}""; "the first matching rule (in list order)"
    let dated = |name: &str, created: &str, rules: &str| {
        http(name, rules)
            .replace("namespace: default}", &format!("namespace: default, creationTimestamp: '{created}'}}"))
    };
    let any = |name: &str| rule(name, "{path: {value: /}}");
    let two = format!("{}, {}", any("first"), any("second"));
    for (yaml, expected) in [
        (http("b", &any("b")) + &http("a", &any("a")), "a"),
        (dated("b", "2024-01-01T00:00:00Z", &any("old")) + &dated("a", "2024-01-02T00:00:00Z", &any("new")), "old"),
        (http("a", &any("undated")) + &dated("b", "2024-01-02T00:00:00Z", &any("dated")), "dated"),
        (http("a", &two), "first"),
    ] {
        assert_eq!(taken(&compile(&yaml), "http://a/", &[]).as_deref(), Ok(expected), "{yaml}");
    }
}

#[test]
fn each_rule_and_match_is_a_route_of_its_own() {
    // istio.md 1.10: "each rule×match becomes a VS http route"
    // istio convertHTTPRoute: named by the rule, else by its place.
    let matches = "{path: {type: Exact, value: /x}}, {path: {value: /y}}";
    let unnamed = "{matches: [{path: {value: /z}}], backendRefs: [{name: b, port: 9080}]}";
    let table = compile(&http("r", &format!("{}, {unnamed}", rule("two", matches))));
    assert_eq!(taken(&table, "http://a/x", &[]).as_deref(), Ok("two"));
    assert_eq!(taken(&table, "http://a/y/z", &[]).as_deref(), Ok("two"));
    assert_eq!(taken(&table, "http://a/z", &[]).as_deref(), Ok("default.r.1"));
    // "Routes exist but none matches at runtime ⇒ 404"
    assert_eq!(taken(&table, "http://a/x/y", &[]), Err(Reason::NoRoute));
    let request = request("http://a/x", &[]);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    let Decision::Forward(destination) = table.route(&head, || 0).unwrap() else { panic!() };
    assert_eq!(destination.policy().virtual_service().unwrap().as_ref(), "default/r");
}

#[test]
fn a_path_prefix_is_of_segments() {
    // istio.md 1.10: "PathPrefix is path-segment (`/v2` ≠ `/v2example`), trailing `/` ignored"
    for prefix in ["/v2", "/v2/"] {
        let table = compile(&http("r", &rule("hit", &format!("{{path: {{type: PathPrefix, value: {prefix}}}}}"))));
        for (path, hit) in
            [("/v2", true), ("/v2/", true), ("/v2/x", true), ("/v2?q", true), ("/v2example", false), ("/V2", false)]
        {
            assert_eq!(taken(&table, &format!("http://a{path}"), &[]).is_ok(), hit, "{prefix} {path}");
        }
    }
}

#[test]
fn headers_and_parameters_are_exact_or_re2() {
    // istio.md 1.10: "headers/query Exact or RE2; method exact"
    let matches = "{method: PUT, headers: [{name: X-A, value: One}, {type: RegularExpression, name: b, value: 't[wo]+'}], \
        queryParams: [{name: q, value: r}, {type: RegularExpression, name: n, value: '[0-9]+'}]}";
    let table = compile(&http("r", &rule("hit", matches)));
    let good: &[_] = &[("x-a", "One"), ("b", "two")];
    assert!(taken(&table, "PUT http://a/?q=r&n=12", good).is_ok());
    for (uri, headers) in [
        ("POST http://a/?q=r&n=12", good),
        ("PUT http://a/?q=R&n=12", good),
        ("PUT http://a/?q=r&n=12x", good),
        ("PUT http://a/?q=r", good),
        ("PUT http://a/?q=r&n=12", &[("x-a", "one"), ("b", "two")]),
        ("PUT http://a/?q=r&n=12", &[("x-a", "One"), ("b", "twofold")]),
        ("PUT http://a/?q=r&n=12", &[("b", "two")]),
    ] {
        assert_eq!(taken(&table, uri, headers), Err(Reason::NoRoute), "{uri} {headers:?}");
    }
    // gateway API HTTPHeaderMatch.name: "only the first entry with an equivalent name MUST be considered for a match.
    // Subsequent entries with an equivalent header name MUST be ignored."
    let matches = "{headers: [{name: x-a, value: one}, {name: X-A, value: two}]}";
    assert!(taken(&compile(&http("r", &rule("hit", matches))), "http://a/", &[("x-a", "one")]).is_ok());
}

#[test]
fn weights_are_shares_and_bad_backends_keep_theirs() {
    // istio.md 1.10: "backendRefs weight default 1; all 0/none ⇒ 500; invalid ref keeps its share as 500; 1 dest"
    let share = |backends: &str, issues: usize| {
        let (table, found) = compile_in("default", &http("r", &format!("{{backendRefs: [{backends}]}}")));
        assert_eq!(found.iter().count(), issues, "{found}");
        (0..4).map(|roll| sent(&table, "http://a/", roll)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(share("{name: b, port: 9080, weight: 3}, {name: a, port: 80}", 0), "b:9080 b:9080 b:9080 a:80");
    assert_eq!(share("{name: b, port: 9080}, {name: a, port: 80, weight: 0}", 0), "b:9080 b:9080 b:9080 b:9080");
    assert_eq!(share("{name: b, port: 9080, weight: 0}", 0), "500 500 500 500");
    assert_eq!(share("", 0), "500 500 500 500");
    for invalid in [
        "{name: nowhere, port: 80}",
        "{name: b, port: 1}",
        "{group: example.com, kind: Thing, name: b}",
        "{name: third, namespace: third, port: 80}",
    ] {
        assert_eq!(share(&format!("{{name: b, port: 9080, weight: 3}}, {invalid}"), 1), "b:9080 b:9080 b:9080 500");
        assert_eq!(share(invalid, 1), "500 500 500 500", "{invalid}");
    }
    // istio buildDestination: a host of the registry
    let outside = "{group: networking.istio.io, kind: Hostname, name: two.example.com, port: 80}";
    assert_eq!(share(outside, 0), ["two.example.com:80"; 4].join(" "));
}

#[test]
fn a_foreign_backend_needs_a_grant() {
    // gateway API BackendObjectReference.namespace: "a ReferenceGrant object is required in the referent namespace"
    let grant = |from: &str, to: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {{name: g, namespace: other}}, \
             spec: {{from: [{{group: gateway.networking.k8s.io, {from}}}], to: [{{group: '', {to}}}]}}}}\n---\n"
        )
    };
    let to_far = http("r", "{backendRefs: [{name: far, namespace: other, port: 80}]}");
    for (grant, expected) in [
        (String::new(), "500"),
        (grant("kind: HTTPRoute, namespace: default", "kind: Service"), "far:80"),
        (grant("kind: HTTPRoute, namespace: default", "kind: Service, name: far"), "far:80"),
        (grant("kind: HTTPRoute, namespace: default", "kind: Service, name: near"), "500"),
        (grant("kind: HTTPRoute, namespace: default", "kind: Secret"), "500"),
        (grant("kind: HTTPRoute, namespace: third", "kind: Service"), "500"),
        (grant("kind: GRPCRoute, namespace: default", "kind: Service"), "500"),
        (
            grant("kind: HTTPRoute, namespace: default", "kind: Service")
                .replace("namespace: other", "namespace: third"),
            "500",
        ),
    ] {
        let (table, issues) = compile_in("default", &format!("{grant}{to_far}"));
        assert_eq!(sent(&table, "http://a/", 0), expected, "{grant}");
        let told = issues.to_string().contains(
            "rules[0].backendRefs[0].name: backendRef far/other not accessible to a HTTPRoute in namespace \"default\" \
             (missing a ReferenceGrant?)",
        );
        assert_eq!(told, expected == "500", "{issues}");
        let explanation = table.explain(&http::Request::get("http://a/").body(()).unwrap(), None);
        let missing = "no ReferenceGrant in other lets HTTPRoute default/r refer to Service far";
        assert_eq!(explanation.note.as_deref(), (expected == "500").then_some(missing));
        let told = explanation.to_string();
        assert_eq!(told.starts_with(&format!("unavailable: 500, {missing} (NC)\n")), expected == "500", "{told}");
    }
    // A mirror that is not allowed is left out; the request itself goes on.
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: far, namespace: other, port: 80}}}";
    let rules = format!("{{filters: [{mirror}], backendRefs: [{{name: b, port: 9080}}]}}");
    let (table, issues) = compile_in("default", &http("r", &rules));
    assert_eq!(policy(&table, "http://a/").mirrors().count(), 0, "{issues}");
    assert_eq!(sent(&table, "http://a/", 0), "b:9080");
}

#[test]
fn retries_and_timeouts() {
    // istio.md 1.10: "retry: attempts default 2, retryOn connect-failure,refused-stream,unavailable,cancelled + codes"
    // istio.md 1.10: "timeouts.backendRequest ⇒ perTryTimeout if retry set, else timeout; 0 = none"
    let of = |given: &str| {
        let table = compile(&http("r", &format!("{{{given}, backendRefs: [{{name: b, port: 9080}}]}}")));
        policy(&table, "http://a/")
    };
    let millis = |timeout: Option<Duration>| timeout.map(|timeout| timeout.as_millis());
    for (given, timeout, retries, per_try) in [
        ("timeouts: {request: 1s}", Some(1000), Some(2), None),
        ("timeouts: {request: 0s}", None, Some(2), None),
        ("timeouts: {backendRequest: 500ms}", Some(500), Some(2), None),
        ("timeouts: {backendRequest: 0s}", None, Some(2), None),
        ("timeouts: {request: 1s, backendRequest: 500ms}", Some(500), Some(2), None),
        ("retry: {}, timeouts: {request: 1s, backendRequest: 500ms}", Some(1000), Some(2), Some(500)),
        ("retry: {attempts: 5}", None, Some(5), None),
        ("retry: {attempts: 0}", None, None, None),
        ("retry: {attempts: 0, codes: [500]}, timeouts: {backendRequest: 1s}", Some(1000), None, None),
    ] {
        let policy = of(given);
        assert_eq!(millis(policy.timeout()), timeout, "{given}");
        assert_eq!(policy.retry().map(|retry| retry.retries()), retries, "{given}");
        assert_eq!(millis(policy.retry().and_then(|retry| retry.per_try_timeout())), per_try, "{given}");
    }
    let retry = of("retry: {codes: [500, 503], backoff: 100ms}").retry().unwrap().clone();
    assert_eq!(retry.backoff().bound(1), Duration::from_millis(100));
    let expected = RetryOn::parse("connect-failure,refused-stream,unavailable,cancelled,500,503").unwrap();
    for reason in [Reason::ConnectFailure, Reason::RefusedStream, Reason::Reset { request_sent: true }] {
        assert_eq!(retry.after_error(1, reason) == Verdict::Retry, expected.error(reason), "{reason}");
    }
    for (status, again) in [(500, true), (503, true), (502, false)] {
        let verdict = retry.after_response(1, http::StatusCode::from_u16(status).unwrap(), &http::HeaderMap::new());
        assert_eq!(verdict == Verdict::Retry, again, "{status}");
    }
    // Without a stanza: the mesh's default.
    assert_eq!(of("timeouts: {}").retry(), Some(&crate::RetryPolicy::istio_default()));
}

#[test]
fn redirects() {
    // istio.md 1.10: "no port + scheme ⇒ protocol default, no port no scheme ⇒ request port; default 302 by CRD"
    for (given, uri, status, location) in [
        ("hostname: example.org", "http://two:81/x?q", 302, "http://example.org:81/x?q"),
        ("hostname: example.org", "http://two/x", 302, "http://example.org/x"),
        ("hostname: example.org, scheme: https", "http://two:81/x", 302, "https://example.org/x"),
        ("hostname: example.org, scheme: https, port: 443", "http://two/x", 302, "https://example.org/x"),
        ("hostname: example.org, port: 80", "http://two:81/x", 302, "http://example.org/x"),
        ("hostname: example.org, port: 8080, statusCode: 301", "http://two/x", 301, "http://example.org:8080/x"),
        (
            "path: {type: ReplaceFullPath, replaceFullPath: /y}, statusCode: 303",
            "http://two/x?q",
            303,
            "http://two/y?q",
        ),
        (
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /z/}, statusCode: 307",
            "http://two/p/x",
            307,
            "http://two/z/x",
        ),
        (
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}, statusCode: 308",
            "http://two/p",
            308,
            "http://two/",
        ),
    ] {
        let prefix = if given.contains("Prefix") { "/p" } else { "/" };
        let filter = format!("{{type: RequestRedirect, requestRedirect: {{{given}}}}}");
        let rules = format!("{{matches: [{{path: {{value: {prefix}}}}}], filters: [{filter}]}}");
        let table = compile(&route("HTTPRoute", "r", "default", "{group: '', kind: Service, name: two}", &rules));
        assert_eq!(sent(&table, uri, 0), location, "{given}");
        let request = request(uri, &[]);
        let head = RequestHead::new(&request, table.path_normalization()).unwrap();
        let Decision::Redirect(redirect, _) = table.route(&head, || 0).unwrap() else { panic!("{given}") };
        assert_eq!(redirect.status(), status);
    }
}

#[test]
fn grpc_methods_are_paths() {
    // istio.md 1.10: "Exact svc+method ⇒ `/svc/method`; svc only ⇒ prefix `/svc/`; method only ⇒ regex `/[^/]+/m`"
    let hit = |matches: &str, path: &str, headers: &[(&str, &str)]| {
        let rules = format!("{{matches: [{matches}], backendRefs: [{{name: b, port: 9080}}]}}");
        let table = compile(&route("GRPCRoute", "r", "default", "{group: '', kind: Service, name: a}", &rules));
        taken(&table, &format!("POST http://a{path}"), headers).is_ok()
    };
    for (matches, path, expected) in [
        ("{method: {service: p.S, method: M}}", "/p.S/M", true),
        ("{method: {service: p.S, method: M}}", "/p.S/M/", false),
        ("{method: {service: p.S, method: M}}", "/p.S/N", false),
        ("{method: {service: p.S}}", "/p.S/N", true),
        ("{method: {service: p.S}}", "/p.SS/N", false),
        ("{method: {method: M}}", "/any/M", true),
        ("{method: {method: M}}", "/any/more/M", false),
        ("{method: {type: RegularExpression, service: 'p\\.[A-Z]', method: 'M.'}}", "/p.S/Mx", true),
        ("{method: {type: RegularExpression, service: 'p\\.[A-Z]', method: 'M.'}}", "/p.s/Mx", false),
        ("{method: {type: RegularExpression, service: 'p\\.[A-Z]'}}", "/p.S/x", true),
        ("{method: {type: RegularExpression, service: 'p\\.[A-Z]'}}", "/p.S/", false),
        ("{method: {type: RegularExpression, method: 'M|N'}}", "/p.S/M", true),
        ("", "/p.S/M", true),
    ] {
        assert_eq!(hit(matches, path, &[]), expected, "{matches} {path}");
    }
    let both = "{method: {service: p.S}, headers: [{name: version, value: two}]}";
    assert!(hit(both, "/p.S/M", &[("version", "two")]) && !hit(both, "/p.S/M", &[("version", "one")]));
}

// istio.md 1.10: "timeouts.backendRequest ⇒ perTryTimeout if retry set, else timeout; 0 = none"
// With a retry both are kept, and both are told.
#[test]
fn both_timeouts_are_explained() {
    let told = |retry: &str| {
        let rule = format!(
            "{{timeouts: {{request: 3s, backendRequest: 500ms}}, {retry}backendRefs: [{{name: b, port: 9080}}]}}"
        );
        let request = http::Request::get("http://a/").body(()).unwrap();
        compile(&http("r", &rule)).explain(&request, None).to_string()
    };
    let both = told("retry: {attempts: 2}, ");
    assert!(both.contains("timeout   3000 ms\n") && both.contains(" 500 ms for each try, "), "{both}");
    let alone = told("");
    assert!(alone.contains("timeout   500 ms\n") && !alone.contains("each try"), "{alone}");
}
