use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use mesh_core::{Exchange, LocalReplyLayer};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use crate::{
    CorsLayer, FaultLayer, RouteLayer,
    tests::{To, shared},
};

/// Everything that a response says about origins, in the order of t4's columns; and whether upstream saw the request.
async fn ask(http: &str, method: &str, headers: &[(&str, &str)]) -> (u16, bool, String) {
    let stack = ServiceBuilder::new()
        .layer(LocalReplyLayer)
        .layer(RouteLayer::new(shared(http)))
        .layer(FaultLayer::new())
        .layer(CorsLayer::new())
        .service(service_fn(|_: To<Empty<Bytes>>| async {
            let upstream = Response::builder().header("x-up", "1").header("access-control-allow-origin", "upstream's");
            Ok::<_, mesh_core::Error>(upstream.body(Full::<Bytes>::from("ok")).unwrap())
        }));
    let request =
        headers.iter().fold(Request::builder().method(method).uri("http://a/x"), |r, (k, v)| r.header(*k, *v));
    let response = stack.oneshot(request.body(Empty::new()).unwrap()).await.unwrap();
    let names = ["allow-origin", "allow-credentials", "allow-methods", "allow-headers", "max-age", "expose-headers"];
    let said = names.iter().filter_map(|name| {
        let value = response.headers().get(format!("access-control-{name}"))?.to_str().unwrap();
        Some(format!("{name}: {value}"))
    });
    let said = said.collect::<Vec<_>>().join("; ");
    if let Some(exchange) = response.extensions().get::<Exchange>() {
        assert_eq!(exchange.details == "cors_response", said.contains("allow-methods"), "{exchange:?}");
    }
    (response.status().as_u16(), response.headers().contains_key("x-up"), said)
}

const POLICY: &str = "allowOrigins: [{exact: 'https://ok.test'}, {prefix: 'https://pre.'}, \
    {regex: 'https://[a-z]+\\.re\\.test'}], allowMethods: [GET, POST], allowHeaders: [x-foo, x-bar], \
    exposeHeaders: [x-exp], maxAge: 24h, allowCredentials: true";

fn rule(more: &str) -> String {
    // Upstream's own header is taken off by the rule, as one does who puts a policy in its place.
    let headers = "headers: {response: {remove: [access-control-allow-origin], set: {x-rule: '1'}}}";
    format!("{{corsPolicy: {{{POLICY}{more}}}, {headers}, route: [{{destination: {{host: a}}}}]}}")
}

#[tokio::test]
async fn origins_are_answered_as_envoy_does() {
    // measured on Envoy 1.40 (t4, cors): /fwd and /ign, row by row
    let (forward, ignore) = (rule(""), rule(", unmatchedPreflights: IGNORE"));
    let simple = |origin| format!("allow-origin: {origin}; allow-credentials: true; expose-headers: x-exp");
    let lists = "allow-credentials: true; allow-methods: GET,POST; allow-headers: x-foo,x-bar; max-age: 86400";
    let whole = |origin| format!("allow-origin: {origin}; {lists}; expose-headers: x-exp");
    let (ok, bad) = ("https://ok.test", "https://bad.test");
    let wants = |method| ("access-control-request-method", method);
    for (rule, name) in [(&forward, "/fwd"), (&ignore, "/ign")] {
        for (method, headers, upstream, said) in [
            ("GET", vec![], true, String::new()),
            ("GET", vec![("origin", ok)], true, simple(ok)),
            ("GET", vec![("origin", bad)], true, String::new()),
            ("OPTIONS", vec![("origin", ok), wants("GET")], false, whole(ok)),
            ("OPTIONS", vec![("origin", ok)], true, simple(ok)),
            ("OPTIONS", vec![("origin", ok), wants("DELETE")], false, whole(ok)),
            ("OPTIONS", vec![("origin", "https://pre.x"), wants("GET")], false, whole("https://pre.x")),
            ("GET", vec![("origin", "https://abc.re.test")], true, simple("https://abc.re.test")),
            ("GET", vec![("origin", "https://abc.re.test.evil")], true, String::new()),
            ("GET", vec![("origin", "HTTPS://OK.TEST")], true, String::new()),
            // measured on Envoy 1.40, with raw requests: two origins, an empty one, no method asked for
            ("GET", vec![("origin", ok), ("origin", bad)], true, String::new()),
            ("OPTIONS", vec![("origin", ""), wants("GET")], true, String::new()),
            ("OPTIONS", vec![("origin", bad), wants("")], true, String::new()),
        ] {
            assert_eq!(ask(rule, method, &headers).await, (200, upstream, said), "{name} {method} {headers:?}");
        }
    }
    // "/fwd preflight bad origin" goes upstream, "/ign" answers without allow-origin and expose-headers
    let preflight = [("origin", bad), wants("GET")];
    assert_eq!(ask(&forward, "OPTIONS", &preflight).await, (200, true, String::new()));
    assert_eq!(ask(&ignore, "OPTIONS", &preflight).await, (200, false, lists.to_owned()));
}

#[tokio::test]
async fn one_star_is_every_origin() {
    let rule = "{corsPolicy: {allowOrigins: [{exact: '*'}]}, route: [{destination: {host: a}}]}";
    let said = "allow-origin: https://any.test".to_owned();
    assert_eq!(ask(rule, "GET", &[("origin", "https://any.test")]).await, (200, true, said.clone()));
    let rule = "{corsPolicy: {allowOrigin: ['https://any.test']}, route: [{destination: {host: a}}]}";
    assert_eq!(ask(rule, "GET", &[("origin", "https://any.test")]).await, (200, true, said));
}

#[tokio::test]
async fn an_undefined_cluster_says_it_and_neither_a_fault_nor_an_answer_of_the_rule_does() {
    // measured on Envoy 1.40: NC with origin, OPTIONS to the same; abort, redirect and direct response alike
    let ok = "https://ok.test";
    let (get, preflight) = ([("origin", ok)], [("origin", ok), ("access-control-request-method", "GET")]);
    let simple = format!("allow-origin: {ok}; allow-credentials: true; expose-headers: x-exp");
    let rule = format!("{{corsPolicy: {{{POLICY}}}, route: [{{destination: {{host: a, subset: gone}}}}]}}");
    assert_eq!(ask(&rule, "GET", &get).await, (503, false, simple));
    let (status, upstream, said) = ask(&rule, "OPTIONS", &preflight).await;
    assert!(status == 200 && !upstream && said.contains("allow-methods"));
    for (action, status) in [
        ("fault: {abort: {httpStatus: 555, percentage: {value: 100}}}, route: [{destination: {host: a}}]", 555),
        ("redirect: {uri: /b}", 301),
        ("directResponse: {status: 418}", 418),
    ] {
        let rule = format!("{{corsPolicy: {{{POLICY}}}, {action}}}");
        assert_eq!(ask(&rule, "GET", &get).await, (status, false, String::new()), "{action}");
        assert_eq!(ask(&rule, "OPTIONS", &preflight).await, (status, false, String::new()), "{action}");
    }
}

#[tokio::test]
async fn the_answer_to_a_preflight_is_not_the_rules() {
    // measured on Envoy 1.40: an OPTIONS that is answered has none of the rule's response headers
    let rule = "{corsPolicy: {allowOrigins: [{exact: '*'}], allowHeaders: [x-a]}, \
                headers: {response: {set: {access-control-allow-headers: x-b}}}, route: [{destination: {host: a}}]}";
    let preflight = [("origin", "https://any"), ("access-control-request-method", "GET")];
    let stack =
        ServiceBuilder::new().layer(LocalReplyLayer).layer(RouteLayer::new(shared(rule))).layer(CorsLayer::new());
    let stack = stack.service(service_fn(|_: To<Empty<Bytes>>| async {
        Ok::<_, mesh_core::Error>(Response::new(Full::<Bytes>::default()))
    }));
    let request = preflight.iter().fold(Request::options("http://a/x"), |r, (k, v)| r.header(*k, *v));
    let response = stack.oneshot(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["access-control-allow-headers"], "x-a");
    assert_eq!(response.headers()["content-length"], "0");
}

#[tokio::test]
async fn everything_is_what_is_asked_for() {
    // measured on Envoy 1.40: lists that are `*`, with credentials and without; one entry of several is no such list
    let policy = |more: &str| {
        format!(
            "{{corsPolicy: {{allowOrigins: [{{exact: 'https://ok.test'}}], {more}}}, route: [{{destination: {{host: a}}}}]}}"
        )
    };
    let all = "allowMethods: ['*'], allowHeaders: ['*']";
    let ask_for = ("access-control-request-method", "PUT");
    let names = ("access-control-request-headers", "x-a, x-b");
    for (more, asked, said) in [
        (all.to_owned(), vec![ask_for, names], "allow-methods: PUT; allow-headers: x-a, x-b"),
        (all.to_owned(), vec![ask_for], "allow-methods: PUT; allow-headers: "),
        (
            "allowMethods: [GET, '*'], allowHeaders: [x-c, '*']".into(),
            vec![ask_for, names],
            "allow-methods: GET,*; allow-headers: x-c,*",
        ),
    ] {
        for credentials in [false, true] {
            let rule = policy(&format!("{more}, allowCredentials: {credentials}"));
            let headers: Vec<_> = [("origin", "https://ok.test")].into_iter().chain(asked.clone()).collect();
            let allowed = if credentials { "allow-credentials: true; " } else { "" };
            let expected = format!("allow-origin: https://ok.test; {allowed}{said}");
            assert_eq!(ask(&rule, "OPTIONS", &headers).await, (200, false, expected), "{more}");
        }
    }
}
