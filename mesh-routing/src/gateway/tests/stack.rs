//! Through the layers: what callers and upstreams see.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use mesh_core::{Exchange, LocalReplyLayer};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use super::{compile_in, http, policy, route};
use crate::{CorsLayer, MirrorBody, MirrorLayer, RouteLayer, tests::To};

/// What came back, and what reached whom, in order.
struct Seen {
    response: Response<Bytes>,
    upstream: Vec<String>,
}

async fn send(yaml: &str, request: Request<Empty<Bytes>>) -> Seen {
    let (table, _) = compile_in("default", yaml);
    let upstream = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&upstream);
    let stack = ServiceBuilder::new()
        .layer(LocalReplyLayer)
        .layer(RouteLayer::new(Arc::new(ArcSwap::from_pointee(table))).with_roll(|| 0))
        .layer(CorsLayer::new())
        .layer(MirrorLayer::new().with_roll(|| 0))
        .service(service_fn(move |routed: To<MirrorBody<Empty<Bytes>>>| {
            let request = &routed.request;
            let header = |name| request.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
            let line = format!("{} {} x={}", routed.cluster.service.name, request.uri().path(), header("x").join(","));
            seen.lock().unwrap().push(line);
            async {
                Ok::<_, mesh_core::Error>(
                    Response::builder().header("y", "up").body(Full::<Bytes>::from("ok")).unwrap(),
                )
            }
        }));
    let response = stack.oneshot(request).await.unwrap();
    tokio::task::yield_now().await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let upstream = upstream.lock().unwrap().clone();
    Seen { response: Response::from_parts(head, body), upstream }
}

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

fn grpc(uri: &str) -> Request<Empty<Bytes>> {
    Request::post(uri).header("content-type", "application/grpc").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_bad_backend_is_a_500_of_envoys() {
    // gateway API HTTPRouteRule.backendRefs: "When a HTTPBackendRef is invalid, 500 status codes MUST be returned for
    // requests that would have otherwise been routed to an invalid backend"; measured on Envoy 1.40, with what istio
    // applyHTTPRouteDestination sets (cluster_not_found_response_code INTERNAL_SERVER_ERROR): 500, no body, NC
    let seen = send(&http("r", "{backendRefs: [{name: gone, port: 80}]}"), get("http://a/")).await;
    assert_eq!((seen.response.status().as_u16(), seen.response.body().len(), seen.upstream.len()), (500, 0, 0));
    let exchange = seen.response.extensions().get::<Exchange>().unwrap();
    assert_eq!((exchange.flags.to_string().as_str(), exchange.details), ("NC", "cluster_not_found"));
    // No backend at all: Istio makes a direct response of it, which has no flag.
    let seen = send(&http("r", "{backendRefs: []}"), get("http://a/")).await;
    assert_eq!((seen.response.status().as_u16(), seen.response.body().len()), (500, 0));
    let exchange = seen.response.extensions().get::<Exchange>().unwrap();
    assert_eq!((exchange.flags.to_string().as_str(), exchange.details), ("-", "direct_response"));
}

#[tokio::test]
async fn grpc_callers_get_grpc_replies() {
    // measured on Envoy 1.40: no route is 200 with grpc-status 12; a missing cluster and a direct response of 500 are 2
    let parent = "{group: '', kind: Service, name: a}";
    let rules = "{matches: [{method: {service: p.S, method: M}}], backendRefs: [{name: b, port: 9080}]}, \
        {matches: [{method: {service: p.S, method: Gone}}], backendRefs: [{name: gone, port: 80}]}, \
        {matches: [{method: {service: p.S, method: Nobody}}]}";
    let yaml = route("GRPCRoute", "r", "default", parent, rules);
    for (method, status, upstream) in
        [("M", None, 1), ("N", Some("12"), 0), ("Gone", Some("2"), 0), ("Nobody", Some("2"), 0)]
    {
        let seen = send(&yaml, grpc(&format!("http://a/p.S/{method}"))).await;
        assert_eq!(seen.response.status(), 200, "{method}");
        assert_eq!(seen.response.headers().get("grpc-status").map(|v| v.to_str().unwrap()), status, "{method}");
        assert_eq!(seen.upstream.len(), upstream, "{method}");
    }
}

#[tokio::test]
async fn paths_and_hosts_are_rewritten() {
    // istio.md 1.10: "ReplacePrefixMatch `/` strips segment (`^prefix(/?)(.*)`→`/\2`); ReplaceFullPath = regex `/.*`"
    let full = |with: &str| format!("path: {{type: ReplaceFullPath, replaceFullPath: {with}}}");
    let prefix = |with: &str| format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: {with}}}");
    for (rewrite, path, up) in [
        (full("/one"), "/p/x?q=1", "/one"),
        (prefix("/one"), "/p/x?q=1", "/one/x"),
        (prefix("/one/"), "/p/", "/one/"),
        (prefix("/"), "/p/x", "/x"),
        (prefix("/"), "/p", "/"),
    ] {
        let filter = format!("{{type: URLRewrite, urlRewrite: {{hostname: other.example, {rewrite}}}}}");
        let rules = format!(
            "{{matches: [{{path: {{value: /p}}}}], filters: [{filter}], backendRefs: [{{name: b, port: 9080}}]}}"
        );
        let seen = send(&http("r", &rules), get(&format!("http://a{path}"))).await;
        assert_eq!(seen.upstream, [format!("b {up} x=")], "{rewrite} {path}");
    }
    let filter = "{type: URLRewrite, urlRewrite: {hostname: other.example}}";
    let rules = format!("{{filters: [{filter}], backendRefs: [{{name: b, port: 9080}}]}}");
    assert_eq!(policy(&compile_in("default", &http("r", &rules)).0, "http://a/").authority.unwrap(), "other.example");
}

#[tokio::test]
async fn header_filters_are_maps() {
    // istio.md 1.10: "header filters map-based (duplicate names collapse)"
    // gateway API HTTPHeaderFilter: "Subsequent entries with an
    // equivalent header name MUST be ignored due to the case-insensitivity of header names"
    let filters = "{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x, value: one}, {name: X, value: two}]}}, \
        {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: Y, value: one}, {name: y, value: two}]}}";
    let yaml = http("r", &format!("{{filters: [{filters}], backendRefs: [{{name: b, port: 9080}}]}}"));
    let seen = send(&yaml, get("http://a/")).await;
    assert_eq!(seen.upstream, ["b / x=one"]);
    assert_eq!(seen.response.headers().get_all("y").iter().collect::<Vec<_>>(), ["one"]);
    // istio TranslateHeadersOperations: `host` is the authority
    let filters = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: other.example}]}}";
    let (table, _) =
        compile_in("default", &http("r", &format!("{{filters: [{filters}], backendRefs: [{{name: b, port: 9080}}]}}")));
    assert_eq!(policy(&table, "http://a/").authority.unwrap(), "other.example");
}

#[tokio::test]
async fn mirrors_get_their_share() {
    // istio.md 1.10: "mirror percent/fraction"
    // The draw is 0: any share of more than nothing is due.
    let mirror = |share: &str| {
        let filter = format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: two, port: 80}}{share}}}}}");
        http("r", &format!("{{filters: [{filter}], backendRefs: [{{name: b, port: 9080}}]}}"))
    };
    for (share, copies) in [
        ("", 1),
        (", percent: 0", 0),
        (", percent: 1", 1),
        (", fraction: {numerator: 1, denominator: 1000}", 1),
        (", fraction: {numerator: 0}", 0),
    ] {
        let mut seen = send(&mirror(share), get("http://a/m")).await.upstream;
        seen.sort();
        assert_eq!(seen, ["b /m x=", "two /m x="][..=copies], "{share}");
    }
    let share = |of: &str| {
        let (table, _) = compile_in("default", &mirror(of));
        policy(&table, "http://a/").mirrors.unwrap()[0].share
    };
    assert_eq!(share(", fraction: {numerator: 25, denominator: 50}"), crate::percent::Percent::truncated(50.0));
    assert_eq!(share(", percent: 20"), crate::percent::Percent::truncated(20.0));
}

#[tokio::test]
async fn backends_have_filters_of_their_own() {
    // gateway API HTTPBackendRef.filters: "executed if and only if the request is being forwarded to the backend defined
    // here"
    let backend = |filters: &str| format!("backendRefs: [{{name: b, port: 9080, filters: [{filters}]}}]");
    let rewrite = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /n}}}";
    let set = |value: &str| {
        format!("{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x, value: {value}}}]}}}}")
    };
    let yaml = http(
        "r",
        &format!("{{matches: [{{path: {{value: /p}}}}], {}}}", backend(&format!("{rewrite}, {}", set("own")))),
    );
    assert_eq!(send(&yaml, get("http://a/p/q")).await.upstream, ["b /n/q x=own"]);
    // What a backend does not say, its rule says.
    let host = "{type: URLRewrite, urlRewrite: {hostname: other.example}}";
    let rules = format!("{{matches: [{{path: {{value: /p}}}}], filters: [{host}], {}}}", backend(rewrite));
    assert_eq!(policy(&compile_in("default", &http("r", &rules)).0, "http://a/p").authority.unwrap(), "other.example");
    let redirect = "{type: RequestRedirect, requestRedirect: {hostname: example.org}}";
    let seen = send(&http("r", &format!("{{{}}}", backend(redirect))), get("http://a/p")).await;
    assert_eq!(
        (seen.response.status().as_u16(), &seen.response.headers()["location"]),
        (302, &"http://example.org/p".parse().unwrap())
    );
    assert!(seen.upstream.is_empty());
    // istio.md 1.2: "one destination ⇒ destination ops run after rule ops (destination wins)"
    // istio.md 1.2: "≥2 destinations ⇒ Envoy runs destination ops first, then rule ops (rule wins"
    // istio buildHTTPDestination: backends of weight 0 are not counted.
    for (others, winner) in
        [("", "own"), (", {name: two, port: 80, weight: 0}", "own"), (", {name: two, port: 80}", "rule")]
    {
        let backends = format!("backendRefs: [{{name: b, port: 9080, filters: [{}]}}{others}]", set("own"));
        let seen = send(&http("r", &format!("{{filters: [{}], {backends}}}", set("rule"))), get("http://a/")).await;
        assert_eq!(seen.upstream, [format!("b / x={winner}")], "{others}");
    }
}

#[tokio::test]
async fn cors_answers_preflights_of_all_origins() {
    // istio.md 1.10: "CORS: unmatched preflight IGNORE; `*` ⇒ origin regex; partial `*` ⇒ prefix/regex"
    let policy = |cors: &str| {
        http("r", &format!("{{filters: [{{type: CORS, cors: {{{cors}}}}}], backendRefs: [{{name: b, port: 9080}}]}}"))
    };
    let ask = |cors: &str, origin: &str| {
        let yaml = policy(cors);
        let request = Request::options("http://a/")
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "x-a, x-b");
        let request = request.body(Empty::new()).unwrap();
        async move {
            let seen = send(&yaml, request).await;
            assert!(seen.upstream.is_empty() && seen.response.status() == 200);
            let said = |name: &str| {
                seen.response
                    .headers()
                    .get(format!("access-control-{name}"))
                    .map_or("-", |v| v.to_str().unwrap())
                    .to_owned()
            };
            [said("allow-origin"), said("allow-methods"), said("allow-headers"), said("max-age")].join("; ")
        }
    };
    let some = "allowOrigins: ['https://www.foo.com', 'https://*.bar.com'], allowMethods: [GET, PUT], maxAge: 60";
    for (cors, origin, said) in [
        (some, "https://www.foo.com", "https://www.foo.com; GET,PUT; -; 60"),
        (some, "https://a.b.bar.com", "https://a.b.bar.com; GET,PUT; -; 60"),
        (some, "https://bar.com", "-; GET,PUT; -; 60"),
        (some, "https://www.foo.com.evil", "-; GET,PUT; -; 60"),
        (some, "https://a.bar.com.evil", "-; GET,PUT; -; 60"),
        (
            "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']",
            "https://x:1",
            "https://x:1; PUT; x-a, x-b; 5",
        ),
        (
            "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], allowCredentials: true",
            "https://x",
            "https://x; PUT; x-a, x-b; 5",
        ),
    ] {
        assert_eq!(ask(cors, origin).await, said, "{cors} {origin}");
    }
}

#[test]
fn an_explanation_names_the_route_and_its_500() {
    let rules = "{matches: [{path: {value: /v2}}], backendRefs: [{name: b, port: 9080, weight: 9}, {name: gone, port: 80}]}, \
        {matches: [{path: {type: Exact, value: /old}}]}";
    let (table, _) = compile_in("default", &http("r", rules));
    let explanation = table.explain(&super::request("http://a/v2/x", &[]), Some(0.95));
    assert_eq!(
        (explanation.virtual_service.as_deref(), explanation.kind.as_deref()),
        (Some("default/r"), Some("HTTPRoute"))
    );
    assert_eq!((explanation.outcome, explanation.status), (crate::explain::Outcome::Unavailable, Some(500)));
    assert_eq!((explanation.rule_index, explanation.match_index), (Some(0), Some(0)));
    assert_eq!(explanation.rejected[0].because, "uri exact \"/old\" does not match path \"/v2/x\"");
    let text = explanation.to_string();
    assert!(
        text.contains("outbound|80||gone.default.svc.cluster.local (1 of 10, drawn): not defined, 500 (NC)"),
        "{text}"
    );
}

/// A route for one port hides, there, one for all ports (istio: "one VS per namespace/port->host").
#[test]
fn an_explanation_names_the_route_that_another_port_or_none_hides() {
    let route = |name: &str, port: &str, path: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
             parentRefs: [{{group: '', kind: Service, name: two{port}}}]\n  rules:\n  \
             - {{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: b, port: 9080}}]}}\n---\n"
        )
    };
    let yaml = [route("http", ", port: 80", "/x"), route("second", ", port: 81", "/x"), route("all", "", "/x/y")];
    let (table, issues) = compile_in("default", &yaml.concat());
    assert!(issues.is_empty(), "{issues}");
    let told = |uri| {
        let explanation = table.explain(&super::request(uri, &[]), None);
        let told = explanation.rejected.iter().map(|told| {
            let name = told.virtual_service.as_deref().unwrap_or_default();
            format!("{name}: {}", told.because)
        });
        (explanation.virtual_service.as_deref().map(str::to_owned), told.collect::<Vec<_>>())
    };
    let hidden =
        "default/all: host two.default.svc.cluster.local is routed by HTTPRoute default/http, which comes first";
    let (taken, others) = told("http://two/x/y");
    assert_eq!(taken.as_deref(), Some("default/http"));
    assert_eq!(others, ["default/second: port: 81, found 80", hidden]);
    let (taken, others) = told("http://two:81/x/y");
    assert_eq!(taken.as_deref(), Some("default/second"));
    assert!(others.contains(&"default/http: port: 80, found 81".to_owned()), "{others:?}");
}
