//! The layers around real requests, in virtual time.

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
    ClusterName, Deadline, Error, Exchange, MeshConfig, Reason, Routed, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use tokio::time::Instant;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};

use crate::{
    CompileInput, FaultLayer, ReplayBody, RetryLayer, RetryPolicy, RouteLayer, RoutePolicy, RouteTable, TimeoutLayer,
    VirtualService,
};

type Name = Arc<ClusterName>;
type Inner = Routed<Request<ReplayBody<Empty<Bytes>>>, Name, Arc<RoutePolicy>>;

fn table(http: &str) -> RouteTable<Name> {
    let yaml = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: 80, name: http}}]}}}}\n---\n\
         {{kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a], http: [{http}]}}}}\n"
    );
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
    let mesh = MeshConfig::default();
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    let rules = VirtualService::from_document(&documents[1], &mut issues).unwrap_or_else(|| panic!("{issues}"));
    let input = CompileInput {
        workload: &Workload::new("default", "me"),
        mesh: &mesh,
        registry: &registry,
        virtual_services: &[Arc::new(rules)],
        default_retry: Some(RetryPolicy::istio_default()),
    };
    let mut clusters = |name: &ClusterName| (name.subset.as_deref() != Some("gone")).then(|| Arc::new(name.clone()));
    RouteTable::compile(&input, &mut clusters, &mut issues)
}

/// The whole stack over a service; the count is of the requests that reached it.
async fn send<B, F>(
    http: &str,
    request: Request<Empty<Bytes>>,
    serve: impl Fn(Inner) -> F + Clone,
) -> (Result<Response<crate::TimeoutBody<B>>, Error>, u32)
where
    F: Future<Output = Result<Response<B>, Error>>,
    B: http_body::Body,
{
    let hits = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&hits);
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(Arc::new(ArcSwap::from_pointee(table(http)))))
        .layer(FaultLayer::new())
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
        let (outcome, _) = send(&rule, get(), |routed: Inner| async move {
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
    let shared = Arc::new(ArcSwap::from_pointee(table(&format!("{{{TO}}}"))));
    let layer = RouteLayer::new(Arc::clone(&shared));
    let inner = || {
        service_fn(|routed: Routed<Request<()>, Name, Arc<RoutePolicy>>| async move {
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
        .layer(RouteLayer::new(Arc::new(ArcSwap::from_pointee(table(&format!("{{{TO}}}"))))))
        .layer(FaultLayer::new())
        .layer(TimeoutLayer::new())
        .layer(RetryLayer::new())
        .service(service_fn(|routed: Routed<Request<ReplayBody<NotSync>>, Name, Arc<RoutePolicy>>| async move {
            let body = routed.request.into_body().collect().await.map_err(Error::from_box)?;
            Ok::<_, Error>(Response::new(Full::new(body.to_bytes())))
        }));
    fn shared<T: Clone + Send + Sync + 'static>(service: T) -> T {
        service
    }
    let request = Request::post("http://a/").body(NotSync(std::cell::Cell::new(3))).unwrap();
    let call = tokio::spawn(shared(stack).oneshot(request));
    assert_eq!(call.await.unwrap().unwrap().collect().await.unwrap().to_bytes(), "...");
}
