//! What the reference says of actions and the tests beside this one do not ask, each with real requests.

use std::sync::Mutex;

use super::*;

fn with(mut request: Request<Empty<Bytes>>, name: &'static str, value: &'static str) -> Request<Empty<Bytes>> {
    request.headers_mut().insert(name, http::HeaderValue::from_static(value));
    request
}

/// What became of a request behind the layers that shape replies: status, gRPC status, body.
async fn told(outcome: Result<Response<crate::TimeoutBody<Full<Bytes>>>, Error>, grpc: bool) -> (u16, String, String) {
    let outcome = Arc::new(Mutex::new(Some(outcome)));
    let service = service_fn(move |_: Request<Empty<Bytes>>| {
        let outcome = outcome.lock().unwrap().take();
        async move { outcome.expect("asked once") }
    });
    let request = if grpc { with(get(), "content-type", "application/grpc") } else { get() };
    let (parts, body) = LocalReplyLayer.layer(service).oneshot(request).await.unwrap().into_parts();
    let status = parts.headers.get("grpc-status").map_or("-", |status| status.to_str().unwrap()).to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let message = parts.headers.get("grpc-message").map(|message| message.to_str().unwrap().to_owned());
    (parts.status.as_u16(), status, message.unwrap_or_else(|| String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn retries_stay_in_the_cluster_that_was_drawn() {
    // istio.md 1.2: "Random draw per request; retries stay in the chosen cluster"
    let rule = "{retries: {attempts: 3, retryOn: 5xx}, route: [{destination: {host: a, subset: one}, weight: 1}, \
                {destination: {host: a, subset: two}, weight: 1}]}";
    let mut drawn = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        let (_, hits) = send(rule, get(), move |routed| {
            note.lock().unwrap().push(routed.cluster.subset.clone().unwrap());
            async { Ok(Response::builder().status(500).body(Full::<Bytes>::default()).unwrap()) }
        })
        .await;
        let asked = asked.lock().unwrap();
        assert_eq!((hits, asked.len()), (4, 4));
        assert!(asked.iter().all(|subset| *subset == asked[0]), "{asked:?}");
        drawn.insert(asked[0].clone());
    }
    // One in 2^63 that only one was.
    assert_eq!(drawn.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_level_removes_then_sets_then_adds() {
    // istio.md 1.2: "per level: remove first, then set (overwrite), then add (append as separate lines)"
    let of_rule = "request: {remove: [x], set: {x: s}, add: {x: a}}, response: {set: {y: s}, add: {y: a}}";
    let rule = format!("{{headers: {{{of_rule}}}, {TO}}}");
    let (outcome, _) = send(&rule, with(get(), "x", "own"), |routed| async move {
        let lines: Vec<_> = routed.request.headers().get_all("x").iter().collect();
        assert_eq!(lines, ["s", "a"]);
        Ok(Response::builder().header("y", "own").body(Full::<Bytes>::default()).unwrap())
    })
    .await;
    let response = outcome.unwrap();
    assert_eq!(response.headers().get_all("y").iter().collect::<Vec<_>>(), ["s", "a"]);
}

#[tokio::test(start_paused = true)]
async fn of_several_destinations_the_rule_has_the_last_word() {
    // istio.md 1.2: "Envoy runs destination ops first, then rule ops (rule wins; a rule `remove` deletes a destination `set`)"
    let destination = "{destination: {host: a}, weight: 1, headers: {request: {set: {x: d, y: d}}}}";
    let rule =
        format!("{{headers: {{request: {{set: {{x: r}}, remove: [y]}}}}, route: [{destination}, {destination}]}}");
    let (outcome, _) = send(&rule, get(), |routed| async move {
        assert_eq!(routed.request.headers()["x"], "r");
        assert!(!routed.request.headers().contains_key("y"));
        ok(routed).await
    })
    .await;
    assert!(outcome.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_an_answer_and_never_tried_again() {
    // istio.md 1.2: "expiry => 504 body `upstream request timeout` flag UT, never retried"
    let rule = format!("{{timeout: 300ms, retries: {{attempts: 5, retryOn: '5xx,gateway-error,reset,504'}}, {TO}}}");
    let (outcome, hits) = send(&rule, get(), slow).await;
    assert_eq!(hits, 1);
    assert_eq!(told(outcome, false).await, (504, "-".into(), "upstream request timeout".into()));
    // istio.md 1.2: "gRPC => HTTP 200 grpc-status **14**, message same"
    let (outcome, _) = send(&rule, get(), slow).await;
    assert_eq!(told(outcome, true).await, (200, "14".into(), "upstream request timeout".into()));
}

#[tokio::test(start_paused = true)]
async fn a_try_that_took_too_long_is_an_answer() {
    // istio.md 1.2: "per attempt; result 504 `upstream_per_try_timeout`"
    let rule = format!("{{retries: {{attempts: 1, perTryTimeout: 200ms}}, {TO}}}");
    let (outcome, hits) = send(&rule, get(), slow).await;
    // istio.md 1.2: "**not by the default list**"
    assert_eq!(hits, 1);
    let error = outwards(outcome);
    assert_eq!((error.reason().status().as_u16(), error.reason()), (504, Reason::PerTryTimeout));
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_meshs_default_holds() {
    // istio.md 1.2: "connect refused and grpc-status 1/14 in *headers* are"
    let refused = |_: Inner| async { Err::<Response<Full<Bytes>>, _>(Error::new(Reason::ConnectFailure)) };
    assert_eq!(send(&format!("{{{TO}}}"), get(), refused).await.1, 3);
    for (status, tries) in [("1", 3), ("14", 3), ("13", 1), ("0", 1)] {
        let grpc = move |_: Inner| async move {
            Ok(Response::builder().header("grpc-status", status).body(Full::<Bytes>::default()).unwrap())
        };
        assert_eq!(send(&format!("{{{TO}}}"), get(), grpc).await.1, tries, "{status}");
    }
    for status in [500, 503] {
        let failing = move |_: Inner| async move {
            Ok(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
        };
        assert_eq!(send(&format!("{{{TO}}}"), get(), failing).await.1, 1, "{status}");
    }
}

#[tokio::test]
async fn an_abort_has_the_form_of_its_caller() {
    // istio.md 1.2: "httpStatus or grpcStatus name; percentage absent => 0 %; body `fault filter abort`"
    let abort = |what: &str| format!("{{fault: {{abort: {{{what}, percentage: {{value: 100}}}}}}, {TO}}}");
    let grpc = || with(get(), "content-type", "application/grpc");
    let (parts, body) = answer(&abort("httpStatus: 555"), get()).await;
    assert_eq!((parts.status.as_u16(), &*body), (555, &b"fault filter abort"[..]));
    // istio.md 1.2: "gRPC request + httpStatus 555 => 200 grpc-status 2; grpcStatus on plain HTTP => HTTP **200** text body"
    let (parts, _) = answer(&abort("httpStatus: 555"), grpc()).await;
    assert_eq!((parts.status.as_u16(), &parts.headers["grpc-status"]), (200, &"2".parse().unwrap()));
    let (parts, body) = answer(&abort("grpcStatus: NOT_FOUND"), get()).await;
    assert_eq!((parts.status.as_u16(), &*body), (200, &b"fault filter abort"[..]));
    assert_eq!(parts.headers["content-type"], "text/plain");
    let (parts, _) = answer(&abort("grpcStatus: NOT_FOUND"), grpc()).await;
    assert_eq!((parts.status.as_u16(), &parts.headers["grpc-status"]), (200, &"5".parse().unwrap()));
}

#[tokio::test]
async fn an_answer_to_head_has_the_length_of_its_body() {
    // istio.md 1.2: "no body => no content-type; HEAD keeps content-length"
    let head = Request::head("http://a/x").body(Empty::new()).unwrap();
    let (parts, body) = answer("{directResponse: {status: 418, body: {string: teapot}}}", head).await;
    assert_eq!((parts.status.as_u16(), &parts.headers["content-length"], body.len()), (418, &6.into(), 0));
    let (parts, _) = answer("{directResponse: {status: 418}}", get()).await;
    assert!(!parts.headers.contains_key("content-type"));
}

#[tokio::test]
async fn a_delay_is_of_a_share_and_at_least_a_millisecond() {
    // istio.md 1.2: "fixedDelay >=1 ms, percentage double"
    let delay = |spec: &str| {
        let yaml = format!(
            "{{kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a], http: [{{fault: {{delay: {{{spec}}}}}, {TO}}}]}}}}"
        );
        let mut issues = Issues::default();
        let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
        VirtualService::from_document(&documents[0], &mut issues).map_or_else(|| Err(issues.to_string()), |_| Ok(()))
    };
    assert!(delay("fixedDelay: 100us").unwrap_err().contains("duration must be greater than 1ms"));
    assert_eq!(delay("fixedDelay: 1ms, percentage: {value: 0.5}"), Ok(()));
    // A draw of 499,999 in a million is within 50 %, and 500,000 is not.
    for (share, roll, delayed) in [
        ("percentage: {value: 50}", (|| 499_999) as crate::Roll, true),
        ("percentage: {value: 50}", || 500_000, false),
        ("percent: 50", || 499_999, true),
        ("percent: 50", || 500_000, false),
    ] {
        let rule = format!("{{fault: {{delay: {{fixedDelay: 3h, {share}}}}}, {TO}}}");
        let stack =
            RouteLayer::new(shared(&rule)).layer(FaultLayer::new().with_roll(roll).layer(service_fn(
                |_: To<Empty<Bytes>>| async { Ok::<_, Error>(Response::new(Empty::<Bytes>::new())) },
            )));
        let mut call = std::pin::pin!(stack.oneshot(get()));
        let now = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
        assert_eq!(now, !delayed, "{share}");
    }
}

#[test]
fn a_rule_does_one_thing() {
    // istio.md 1.2: "redirect and directResponse exclude fault & rewrite; mirror xor mirrors"
    let redirect = "redirect: {uri: /b}";
    let answer = "directResponse: {status: 200}";
    let fault = "fault: {abort: {httpStatus: 500}}";
    let rewrite = "rewrite: {uri: /b}";
    for (rule, accepted) in [
        (TO.to_owned(), true),
        (redirect.to_owned(), true),
        (answer.to_owned(), true),
        (format!("{TO}, {fault}, {rewrite}, mirror: {{host: a}}"), true),
        (format!("{TO}, {redirect}"), false),
        (format!("{TO}, {answer}"), false),
        (format!("{redirect}, {answer}"), false),
        (format!("{redirect}, {fault}"), false),
        (format!("{redirect}, {rewrite}"), false),
        (format!("{answer}, {fault}"), false),
        (format!("{answer}, {rewrite}"), false),
        (format!("{TO}, mirror: {{host: a}}, mirrors: [{{destination: {{host: a}}}}]"), false),
        // istio.md 1.2: ">1 at one level => validation error"
        (format!("{TO}, headers: {{request: {{set: {{host: a}}, add: {{':authority': b}}}}}}"), false),
        (format!("{TO}, headers: {{request: {{set: {{host: a}}}}}}"), true),
    ] {
        let yaml = format!("{{kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a], http: [{{{rule}}}]}}}}");
        let mut issues = Issues::default();
        let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
        let read = VirtualService::from_document(&documents[0], &mut issues);
        assert_eq!(read.is_some(), accepted, "{rule}: {issues}");
    }
}
