//! The layers around real requests, in virtual time.

mod clauses;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, channel::Channel};
use mesh_core::{
    BoxError, ClusterName, Deadline, Error, Exchange, LocalReplyLayer, MeshConfig, Reason, Routed, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use tokio::time::Instant;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};

use crate::{
    CompileInput, CorsLayer, FaultLayer, MirrorBody, MirrorLayer, ReplayBody, RetryLayer, RetryPolicy, RouteLayer,
    RoutePolicy, RouteTable, TimeoutLayer, VirtualService,
};

pub(crate) type Name = Arc<ClusterName>;
type Inner = To<ReplayBody<MirrorBody<Empty<Bytes>>>>;

fn table(http: &str) -> RouteTable<Name> {
    let yaml = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: 80, name: http}}]}}}}\n---\n\
         {{kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a], http: [{http}]}}}}\n---\n\
         {{kind: VirtualService, metadata: {{name: lent}}, spec: {{http: [{{directResponse: {{status: 204}}, \
         headers: {{response: {{set: {{x-rule: '1'}}}}}}}}]}}}}\n"
    );
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
    let mesh = MeshConfig::default();
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    let mut rules = |at: usize| {
        Arc::new(VirtualService::from_document(&documents[at], &mut issues).unwrap_or_else(|| panic!("{issues}")))
    };
    let rules = [rules(1), rules(2)];
    let input = CompileInput {
        workload: &Workload::new("default", "me"),
        mesh: &mesh,
        registry: &registry,
        virtual_services: &rules,
        default_retry: Some(RetryPolicy::istio_default()),
    };
    let mut clusters = |name: &ClusterName| (name.subset.as_deref() != Some("gone")).then(|| Arc::new(name.clone()));
    RouteTable::compile(&input, &mut clusters, &mut issues)
}

/// A request on its way to an upstream, with a body as the layers left it.
pub(crate) type To<B> = Routed<Request<B>, Name, Arc<RoutePolicy<Name>>>;

/// The same, as a layer wants it.
pub(crate) fn shared(http: &str) -> Arc<ArcSwap<RouteTable<Name>>> {
    Arc::new(ArcSwap::from_pointee(table(http)))
}

/// The whole stack over a service; the count is of the requests that reached it.
async fn send<B, F>(
    http: &str,
    request: Request<Empty<Bytes>>,
    serve: impl Fn(Inner) -> F + Clone + Send + 'static,
) -> (Result<Response<crate::TimeoutBody<B>>, Error>, u32)
where
    F: Future<Output = Result<Response<B>, Error>> + Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let hits = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&hits);
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(shared(http)))
        .layer(FaultLayer::new())
        .layer(CorsLayer::new())
        .layer(MirrorLayer::new())
        .layer(TimeoutLayer::new())
        .layer(RetryLayer::new())
        .service(service_fn(move |routed: Inner| {
            count.fetch_add(1, Ordering::Relaxed);
            serve(routed)
        }));
    let outcome = stack.oneshot(request).await;
    (outcome, hits.load(Ordering::Relaxed))
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("http://a/x").body(Empty::new()).unwrap()
}

async fn ok(_: Inner) -> Result<Response<Full<Bytes>>, Error> {
    Ok(Response::new(Full::from("ok")))
}

async fn slow(_: Inner) -> Result<Response<Full<Bytes>>, Error> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(Response::new(Full::from("ok")))
}

const TO: &str = "route: [{destination: {host: a}}]";

#[tokio::test(start_paused = true)]
async fn the_response_says_where_it_has_been() {
    let (outcome, hits) = send(&format!("{{name: r, {TO}}}"), get(), ok).await;
    let mut response = outcome.unwrap();
    let exchange = Exchange::of(&mut response).clone();
    assert_eq!(exchange.cluster.unwrap().to_string(), "outbound|80||a.default.svc.cluster.local");
    assert_eq!(exchange.route.as_deref(), Some("r"));
    assert_eq!((exchange.attempts, hits), (1, 1));
}

// istio.md 1.0: "unknown subset/cluster => **503 empty body, flag NC `cluster_not_found`**"
#[tokio::test(start_paused = true)]
async fn an_undefined_subset_is_no_cluster() {
    // measured on Envoy 1.40 (t4): "unknown subset/cluster => 503 empty body, flag NC `cluster_not_found`"
    let (outcome, hits) = send("{route: [{destination: {host: a, subset: gone}}]}", get(), ok).await;
    let error = outwards(outcome);
    assert_eq!((error.reason(), hits), (Reason::NoCluster, 0));
    assert_eq!(error.exchange().cluster.as_ref().unwrap().subset.as_deref(), Some("gone"));
}

fn outwards<B>(outcome: Result<Response<B>, Error>) -> Error {
    match outcome {
        Err(error) => error,
        Ok(response) => panic!("{}", response.status()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_of_another_spelling_goes_out_as_it_was_matched() {
    // measured on Envoy 1.40 (t1), BASE
    let request = Request::get("http://a/b/../x/%61?q=//%61").body(Empty::new()).unwrap();
    let (outcome, _) = send(&format!("{{match: [{{uri: {{exact: /x/a}}}}], {TO}}}"), request, |routed| async move {
        Ok(Response::new(Full::<Bytes>::from(routed.request.uri().to_string())))
    })
    .await;
    assert_eq!(outcome.unwrap().collect().await.unwrap().to_bytes(), "http://a/x/a?q=//%61");
}

#[tokio::test(start_paused = true)]
async fn headers_are_shaped_both_ways() {
    let rule = "{headers: {request: {set: {x: '1'}, remove: [y]}, response: {add: {z: '2'}}}, route: [{destination: {host: a}, \
                headers: {request: {set: {x: '3'}}}}]}";
    let mut request = get();
    request.headers_mut().insert("y", http::HeaderValue::from_static("0"));
    let (outcome, _) = send(rule, request, |routed| async move {
        assert!(!routed.request.headers().contains_key("y"));
        assert_eq!(routed.request.headers()["x"], "3");
        ok(routed).await
    })
    .await;
    assert_eq!(outcome.unwrap().headers()["z"], "2");
}

/// What upstream gets: path with query, and the headers that a rewrite leaves behind.
async fn rewritten(rule: &str, uri: &str) -> (String, String, String, String) {
    let mut request = get();
    *request.uri_mut() = uri.parse().unwrap();
    let (outcome, hits) = send(rule, request, |routed| async move {
        let header = |name| routed.request.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        let up = routed.request.uri().path_and_query().unwrap().to_string();
        let told = [up, header("host"), header("x-envoy-original-path"), header("x-envoy-original-host")];
        Ok(Response::new(Full::<Bytes>::from(told.join(" "))))
    })
    .await;
    assert_eq!(hits, 1);
    let body = outcome.unwrap().collect().await.unwrap().to_bytes();
    let told: Vec<_> = std::str::from_utf8(&body).unwrap().split(' ').map(str::to_owned).collect();
    (told[0].clone(), told[1].clone(), told[2].clone(), told[3].clone())
}

// istio.md 1.2: "query kept; adds `x-envoy-original-path`"
// istio.md 1.2: "Host replaced; x-forwarded-host only if mesh proxyHeaders.xForwardedHost"
#[tokio::test(start_paused = true)]
async fn a_rewrite_tells_what_was_before() {
    // measured on Envoy 1.40 (t2, rewrite): up, host, orig-path; `/lh` for the original host
    let prefix = format!("{{match: [{{uri: {{prefix: /pre}}}}], rewrite: {{uri: /new}}, {TO}}}");
    let regex = format!("{{rewrite: {{uriRegexRewrite: {{match: one, rewrite: two}}}}, {TO}}}");
    let host = format!("{{rewrite: {{authority: new.host.test}}, {TO}}}");
    for (rule, uri, up, authority, path, before) in [
        (&prefix, "http://a/pre/x?q=1", "/new/x?q=1", "-", "/pre/x?q=1", "-"),
        (&prefix, "http://a/pre?q=1", "/new?q=1", "-", "/pre?q=1", "-"),
        (&prefix, "http://a/./pre/%61", "/new/a", "-", "/pre/a", "-"),
        (&regex, "http://a/one?one=1", "/two?one=1", "-", "/one?one=1", "-"),
        // `/service/foo`: nothing to replace, and told all the same
        (&regex, "http://a/other", "/other", "-", "/other", "-"),
        (&host, "http://a:80/host/a", "/host/a", "new.host.test", "-", "a:80"),
    ] {
        let expected = (up.to_owned(), authority.to_owned(), path.to_owned(), before.to_owned());
        assert_eq!(rewritten(rule, uri).await, expected, "{uri}");
    }
}

// istio.md 1.2: "`rewrite.authority` > rule headers set > rule headers add > destination"
#[tokio::test(start_paused = true)]
async fn the_closest_authority_wins() {
    // istio applyHTTPRouteDestination: "`rewrite.authority` > rule headers set > destination (only if no rule-level)"
    let headers = |host| format!("headers: {{request: {{set: {{host: {host}}}}}}}");
    let to = format!("route: [{{destination: {{host: a}}, {}}}]", headers("destination"));
    let rule = format!("{{rewrite: {{authority: rewrite}}, {}, {to}}}", headers("rule"));
    assert_eq!(rewritten(&rule, "http://a/").await.1, "rewrite");
    assert_eq!(rewritten(&format!("{{{}, {to}}}", headers("rule")), "http://a/").await.1, "rule");
    assert_eq!(rewritten(&format!("{{{to}}}"), "http://a/").await.1, "destination");
}

#[tokio::test(start_paused = true)]
async fn a_weighted_clusters_own_authority_tells_nothing() {
    // measured on Envoy 1.40 (interop): x-envoy-original-host is the route's to add
    let to = "{destination: {host: a}, weight: 1, headers: {request: {set: {host: new}}}}";
    let told = rewritten(&format!("{{route: [{to}, {to}]}}"), "http://a/").await;
    assert_eq!((&*told.1, &*told.3), ("new", "-"));
    let told = rewritten(&format!("{{route: [{to}]}}"), "http://a/").await;
    assert_eq!((&*told.1, &*told.3), ("new", "a"));
}

/// The reply that a request gets without any upstream.
async fn answer(rule: &str, request: Request<Empty<Bytes>>) -> (http::response::Parts, Bytes) {
    let upstream = service_fn(|_: To<Empty<Bytes>>| async {
        Err::<Response<Empty<Bytes>>, _>(Error::new(Reason::NoHealthyUpstream))
    });
    let stack = ServiceBuilder::new()
        .layer(LocalReplyLayer)
        .layer(RouteLayer::new(shared(rule)))
        .layer(FaultLayer::new())
        .service(upstream);
    let (parts, body) = stack.oneshot(request).await.unwrap().into_parts();
    (parts, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_redirect_is_answered_here() {
    // measured on Envoy 1.40 (t2, redirect): the code, an absolute location, no body; `/c` is 308
    let rule = "{name: r, match: [{uri: {prefix: /pf}}], redirect: {prefixRewrite: /np}, \
                headers: {response: {set: {x-rule: '1'}}}}";
    let (parts, body) = answer(rule, Request::get("http://a/pf/x?a=1").body(Empty::new()).unwrap()).await;
    assert_eq!((parts.status.as_u16(), body.len()), (301, 0));
    assert_eq!(parts.headers["location"], "http://a/np/x?a=1");
    assert_eq!(parts.headers["x-rule"], "1");
    assert!(!parts.headers.contains_key("content-type"));
    let exchange = parts.extensions.get::<Exchange>().unwrap();
    assert_eq!((exchange.flags.to_string().as_str(), exchange.details, exchange.attempts), ("-", "direct_response", 0));
    assert_eq!((exchange.route.as_deref(), exchange.cluster.is_none()), (Some("r"), true));
    let (parts, _) = answer("{redirect: {uri: /x, redirectCode: 308}}", get()).await;
    assert_eq!(parts.status, 308);
    // "x-forwarded-proto sets :scheme for matching and Location"
    let mut request = get();
    request.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
    let (parts, _) = answer("{match: [{scheme: {exact: https}}], redirect: {authority: other.test}}", request).await;
    assert_eq!(parts.headers["location"], "https://other.test/x");
}

// istio.md 1.2: "with body content-type defaults `text/plain`, overridable via response headers"
#[tokio::test]
async fn a_direct_response_is_answered_here() {
    // measured on Envoy 1.40 (t2, direct response)
    let (parts, body) = answer("{directResponse: {status: 418, body: {string: teapot}}}", get()).await;
    assert_eq!((parts.status.as_u16(), &*body), (418, &b"teapot"[..]));
    assert_eq!(
        (&parts.headers["content-type"], &parts.headers["content-length"]),
        (&"text/plain".parse().unwrap(), &"6".parse().unwrap())
    );
    let json = "{directResponse: {status: 200, body: {bytes: e30=}}, \
                headers: {response: {set: {content-type: application/json}}}}";
    let (parts, body) = answer(json, get()).await;
    assert_eq!((&parts.headers["content-type"], &*body), (&"application/json".parse().unwrap(), &b"{}"[..]));
    let (parts, _) = answer("{directResponse: {status: 204}}", get()).await;
    assert!(!parts.headers.contains_key("content-length") && !parts.headers.contains_key("content-type"));
    // measured on Envoy 1.40: a gRPC caller gets the gRPC form
    let mut call = get();
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (parts, body) = answer("{directResponse: {status: 503, body: {string: later}}}", call).await;
    assert_eq!((parts.status.as_u16(), body.len()), (200, 0));
    assert_eq!(
        (&parts.headers["grpc-status"], &parts.headers["grpc-message"]),
        (&"14".parse().unwrap(), &"later".parse().unwrap())
    );
}

#[tokio::test]
async fn a_direct_response_of_201_or_3xx_says_where() {
    // measured on Envoy 1.40: `location` is the URL that was asked for, of these statuses and of no other
    for status in [200, 201, 204, 300, 302, 304, 307, 399, 404] {
        let request = Request::get("http://a:80/x/%61?q=1").body(Empty::new()).unwrap();
        let (parts, _) = answer(&format!("{{directResponse: {{status: {status}}}}}"), request).await;
        let location = parts.headers.get("location").map(|value| value.to_str().unwrap());
        let expected = matches!(status, 201 | 300..=399).then_some("http://a:80/x/a?q=1");
        assert_eq!(location, expected, "{status}");
    }
    let own = "{directResponse: {status: 302}, headers: {response: {set: {location: /there}}}}";
    assert_eq!(answer(own, get()).await.0.headers["location"], "/there");
}

#[tokio::test]
async fn what_a_rule_says_of_responses_holds_for_replies_made_here() {
    // measured on Envoy 1.40 (t4): its decision headers are response header operations, and are read on injected
    // aborts, NC and UH.
    for (action, status) in [
        (TO.to_owned(), 503),
        ("route: [{destination: {host: a, subset: gone}}]".to_owned(), 503),
        (format!("fault: {{abort: {{httpStatus: 555, percentage: {{value: 100}}}}}}, {TO}"), 555),
    ] {
        let (parts, _) = answer(&format!("{{{action}, headers: {{response: {{add: {{x-o: '1'}}}}}}}}"), get()).await;
        assert_eq!((parts.status.as_u16(), parts.headers.get("x-o").is_some()), (status, true), "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_of_weight_0_makes_a_rule_weighted() {
    // istio applyHTTPRouteDestination: a rule that names several destinations has weighted clusters, where the
    // destination's operations run first and the rule's win, however many of them have a weight.
    let rule = "{headers: {request: {set: {x: rule}}}, route: [{destination: {host: a}, weight: 0}, \
                {destination: {host: a}, weight: 5, headers: {request: {set: {x: destination}}}}]}";
    let (outcome, _) = send(rule, get(), |routed| async move {
        assert_eq!(routed.request.headers()["x"], "rule");
        ok(routed).await
    })
    .await;
    assert!(outcome.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_upstream_is_told_how_long_it_has() {
    // envoy router setTimeoutHeaders; measured on Envoy 1.40 (interop)
    let rule = format!("{{timeout: 1s, retries: {{attempts: 1, retryOn: 5xx, perTryTimeout: 700ms}}, {TO}}}");
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let (outcome, _) = send(&rule, get(), move |routed| {
        let value = routed.request.headers()["x-envoy-expected-rq-timeout-ms"].clone();
        tell.lock().unwrap().push(value.to_str().unwrap().to_owned());
        slow(routed)
    })
    .await;
    assert!(outcome.is_err());
    let told = told.lock().unwrap();
    assert_eq!((told.len(), told[0].as_str()), (2, "700"));
    // what is left of the whole, after back-off of up to 25 ms
    assert!((275..=300).contains(&told[1].parse::<u32>().unwrap()), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_knows_how_many_attempts_there_were() {
    let mut request = get();
    request.extensions_mut().insert(mesh_core::Progress::default());
    let rule = format!("{{timeout: 500ms, retries: {{attempts: 1, retryOn: 5xx, perTryTimeout: 300ms}}, {TO}}}");
    let (outcome, _) = send(&rule, request, |routed| {
        let attempt = routed.attempt.number + 1;
        mesh_core::Progress::note(routed.request.extensions(), |known| known.attempts = attempt);
        slow(routed)
    })
    .await;
    let error = outwards(outcome);
    assert_eq!((error.reason(), error.exchange().attempts), (Reason::Timeout, 2));
}

// istio.md 1.2: "starts at router (fault delay **not** counted, m:t4)"
#[tokio::test(start_paused = true)]
async fn a_delay_then_the_request() {
    let rule = format!("{{fault: {{delay: {{fixedDelay: 7s, percentage: {{value: 100}}}}}}, timeout: 1s, {TO}}}");
    let started = Instant::now();
    let (outcome, hits) = send(&rule, get(), ok).await;
    let mut response = outcome.unwrap();
    // t4: "starts at router (fault delay not counted)"
    assert_eq!((started.elapsed().as_secs(), hits), (7, 1));
    assert_eq!(Exchange::of(&mut response).flags.to_string(), "DI");
}

// istio.md 1.2: "delay happens before abort; independent draws; **not retried, no upstream hit**"
// istio.md 1.2: "absent => 0 %; deprecated int `percent`"
#[tokio::test(start_paused = true)]
async fn an_abort_after_a_delay() {
    // t4: "delay happens before abort; not retried, no upstream hit"
    let rule = format!(
        "{{fault: {{delay: {{fixedDelay: 2s, percentage: {{value: 100}}}}, abort: {{httpStatus: 555, percentage: {{value: 100}}}}}}, \
         retries: {{attempts: 3, retryOn: 5xx}}, {TO}}}"
    );
    let started = Instant::now();
    let (outcome, hits) = send(&rule, get(), ok).await;
    let error = outwards(outcome);
    assert_eq!(error.reason(), Reason::FaultAbort(StatusCode::from_u16(555).unwrap()));
    assert_eq!((started.elapsed().as_secs(), hits, error.exchange().flags.to_string().as_str()), (2, 0, "DI,FI"));
    // "percentage absent => 0 %"
    let (outcome, hits) = send(&format!("{{fault: {{abort: {{httpStatus: 500}}}}, {TO}}}"), get(), ok).await;
    assert!(outcome.is_ok() && hits == 1);
}

#[tokio::test(start_paused = true)]
async fn a_fault_comes_before_a_cluster_that_does_not_exist() {
    // measured on Envoy 1.40 (interop): the fault filter stands before the router.
    const GONE: &str = "route: [{destination: {host: a, subset: gone}}]";
    const ALL: &str = "percentage: {value: 100}";
    for (fault, reason, flags, seconds) in [
        (format!("abort: {{httpStatus: 404, {ALL}}}"), Reason::FaultAbort(StatusCode::NOT_FOUND), "FI", 0),
        (format!("delay: {{fixedDelay: 3s, {ALL}}}"), Reason::NoCluster, "NC,DI", 3),
    ] {
        let started = Instant::now();
        let (outcome, hits) = send(&format!("{{fault: {{{fault}}}, {GONE}}}"), get(), ok).await;
        let error = outwards(outcome);
        assert_eq!((error.reason(), error.exchange().flags.to_string().as_str(), hits), (reason, flags, 0));
        assert_eq!(started.elapsed().as_secs(), seconds);
    }
}

// istio.md 1.2: "default none; wall clock over all tries + back-off"
#[tokio::test(start_paused = true)]
async fn a_roots_fault_comes_before_its_delegates_answer() {
    // measured on Envoy 1.40 (interop): a rule itself has no fault beside a directResponse, but one that delegates to a
    // rule with a directResponse may: the answer is late, DI; or it is the fault's, FI, without the rule's headers.
    const ALL: &str = "percentage: {value: 100}";
    for (fault, reason, flags, seconds, told) in [
        (format!("abort: {{httpStatus: 404, {ALL}}}"), Reason::FaultAbort(StatusCode::NOT_FOUND), "FI", 0, false),
        (format!("delay: {{fixedDelay: 3s, {ALL}}}"), Reason::Answered(StatusCode::NO_CONTENT), "DI", 3, true),
    ] {
        let started = Instant::now();
        let (outcome, hits) = send(&format!("{{fault: {{{fault}}}, delegate: {{name: lent}}}}"), get(), ok).await;
        let error = outwards(outcome);
        assert_eq!((error.reason(), error.exchange().flags.to_string().as_str(), hits), (reason, flags, 0));
        assert_eq!(started.elapsed().as_secs(), seconds);
        assert_eq!(mesh_core::LocalReply::new(&error, false).headers.contains_key("x-rule"), told);
    }
}

#[tokio::test(start_paused = true)]
async fn the_timeout_ends_all_attempts() {
    // t3: "timeout 0.3s, slow 1s -> 504 UT response_timeout, attempts=1"
    let started = Instant::now();
    let (outcome, hits) = send(&format!("{{timeout: 300ms, {TO}}}"), get(), slow).await;
    let error = outwards(outcome);
    assert_eq!((error.reason(), started.elapsed(), hits), (Reason::Timeout, Duration::from_millis(300), 1));
    assert_eq!(error.exchange().flags.to_string(), "UT");
    // t3: "timeout 0.5s + per-try 0.2 + n=10, slow -> 504 UT"
    let started = Instant::now();
    let rule = format!("{{timeout: 500ms, retries: {{attempts: 10, perTryTimeout: 200ms, retryOn: 5xx}}, {TO}}}");
    let (outcome, hits) = send(&rule, get(), slow).await;
    assert_eq!(outwards(outcome).reason(), Reason::Timeout);
    assert_eq!(started.elapsed(), Duration::from_millis(500));
    assert!((2..=3).contains(&hits), "{hits}");
}

#[tokio::test(start_paused = true)]
async fn the_timeout_covers_the_body_and_not_an_upgrade() {
    for (status, ends) in [(200, true), (101, false)] {
        let rule = format!("{{timeout: 1s, {TO}}}");
        let (outcome, _) = send(&rule, get(), move |routed: Inner| async move {
            let deadline = routed.request.extensions().get::<Deadline>().unwrap();
            assert_eq!(deadline.remaining(Instant::now()), Duration::from_secs(1));
            let (sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                let mut sender = sender;
                tokio::time::sleep(Duration::from_millis(1500)).await;
                let _ = sender.send_data(Bytes::from("late")).await;
            });
            Ok(Response::builder().status(status).body(body).unwrap())
        })
        .await;
        let collected = outcome.unwrap().collect().await;
        match collected {
            Err(error) => assert!(ends && Error::from_box(error).reason() == Reason::Timeout),
            Ok(body) => assert!(!ends && body.to_bytes() == "late"),
        }
    }
}

#[tokio::test]
async fn a_layer_applied_twice_shares_its_table() {
    let shared = shared(&format!("{{{TO}}}"));
    let layer = RouteLayer::new(Arc::clone(&shared));
    let inner = || {
        service_fn(|routed: Routed<Request<()>, Name, Arc<RoutePolicy<Name>>>| async move {
            Ok::<_, Infallible>(Response::new(routed.cluster.subset.clone()))
        })
    };
    let (one, two) = (layer.layer(inner()), layer.layer(inner()));
    let ask = |service: crate::Router<Name, _>| async move {
        service.oneshot(Request::get("http://a/").body(()).unwrap()).await.unwrap().into_body()
    };
    assert_eq!((ask(one.clone()).await, ask(two.clone()).await), (None, None));
    shared.store(Arc::new(table("{route: [{destination: {host: a, subset: v2}}]}")));
    assert_eq!((ask(one).await.as_deref(), ask(two).await.as_deref()), (Some("v2"), Some("v2")));
}

#[tokio::test]
async fn a_body_need_not_be_sync_for_the_stack_to_be_send() {
    struct NotSync(std::cell::Cell<u8>);
    impl http_body::Body for NotSync {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            std::task::Poll::Ready((left > 0).then(|| Ok(http_body::Frame::data(Bytes::from_static(b".")))))
        }
    }
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(shared(&format!("{{{TO}}}"))))
        .layer(FaultLayer::new())
        .layer(CorsLayer::new())
        .layer(MirrorLayer::new())
        .layer(TimeoutLayer::new())
        .layer(RetryLayer::new())
        .service(service_fn(|routed: To<ReplayBody<MirrorBody<NotSync>>>| async move {
            let body = routed.request.into_body().collect().await.map_err(Error::from_box)?;
            Ok::<_, Error>(Response::new(Full::new(body.to_bytes())))
        }));
    fn is_shared<T: Clone + Send + Sync + 'static>(service: T) -> T {
        service
    }
    let request = Request::post("http://a/").body(NotSync(std::cell::Cell::new(3))).unwrap();
    let call = tokio::spawn(is_shared(stack).oneshot(request));
    assert_eq!(call.await.unwrap().unwrap().collect().await.unwrap().to_bytes(), "...");
}
