use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full, channel::Channel};
use mesh_core::config::{Document, Issues};
use mesh_core::{
    Attempt, BoxError, ClusterHandle, ClusterName, Endpoint, Error, Exchange, Reason, ResponseFlag, RetryPermit, Routed,
};
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

use super::{BackOff, ReplayBody, RetryLayer, RetryOn, RetryPolicy, Verdict, replay::Replay};

mod resend;

type Name = Arc<ClusterName>;
type Outcome = fn() -> Result<Response<()>, Error>;
type RoutePolicy<C = Name> = crate::RoutePolicy<C>;
type Inner<B, C = Name> = Routed<Request<ReplayBody<B>>, C, Arc<RoutePolicy<C>>>;

fn routed<B>(body: B, policy: RoutePolicy) -> Routed<Request<B>, Name, Arc<RoutePolicy>> {
    let request = Request::post("http://a/b").body(body).unwrap();
    Routed::new(request, Arc::new(ClusterName::passthrough()), Arc::new(policy))
}

fn policy<C>(retries: u32, on: &str) -> RoutePolicy<C> {
    RoutePolicy::default().with_retry(RetryPolicy::new(retries, RetryOn::parse(on).unwrap()))
}

fn status(code: u16) -> Result<Response<()>, Error> {
    Ok(Response::builder().status(code).body(()).unwrap())
}

/// What the service was asked: attempt number, tried endpoints, attempt header, body.
type Log = Arc<Mutex<Vec<(Attempt, String, Bytes)>>>;

/// Run a request against scripted outcomes; the last one repeats.
async fn run<B>(
    body: B,
    policy: RoutePolicy,
    outcomes: Vec<Outcome>,
) -> (Result<Response<()>, Error>, Vec<(Attempt, String, Bytes)>)
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let log: Log = Arc::default();
    let seen = Arc::clone(&log);
    let service = RetryLayer::new().layer(service_fn(move |routed: Inner<B>| {
        let (seen, outcomes) = (Arc::clone(&seen), outcomes.clone());
        async move {
            let count = routed.request.headers()["x-envoy-attempt-count"].to_str().unwrap().to_owned();
            let body = routed.request.into_body().collect().await.unwrap().to_bytes();
            let number = routed.attempt.number as usize;
            seen.lock().unwrap().push((routed.attempt, count, body));
            outcomes.get(number).unwrap_or(&outcomes[outcomes.len() - 1])()
        }
    }));
    let outcome = service.oneshot(routed(body, policy)).await;
    let log = std::mem::take(&mut *log.lock().unwrap());
    (outcome, log)
}

fn grpc(code: &'static str) -> Result<Response<()>, Error> {
    Ok(Response::builder().header("grpc-status", code).body(()).unwrap())
}

const RESET: Outcome = || Err(Error::new(Reason::Reset { request_sent: true }));
const REFUSED: Outcome = || Err(Error::new(Reason::ConnectFailure));
const OK: Outcome = || status(200);
const E503: Outcome = || status(503);

// istio.md 1.2: "HTTP 503/500 and resets-after-send are NOT retried"
// istio.md 1.2: "gateway-error (502/3/4), reset, reset-before-request (request not yet sent)"
#[tokio::test(start_paused = true)]
async fn what_envoy_did() {
    let default = || RoutePolicy::default().with_retry(RetryPolicy::istio_default());
    type Row = (&'static str, RoutePolicy, Vec<Outcome>, u16, u32, &'static str);
    // measured on Envoy 1.40 (t3): status, attempts and flags, row by row
    let rows: Vec<Row> = vec![
        ("default, upstream 503", default(), vec![E503], 503, 1, "-"),
        ("default, upstream 500", default(), vec![|| status(500)], 500, 1, "-"),
        ("default, upstream resets", default(), vec![RESET], 503, 1, "UC"),
        ("default, grpc-status 14 in headers", default(), vec![|| grpc("14")], 200, 3, "URX"),
        ("default, grpc-status 1", default(), vec![|| grpc("1")], 200, 3, "URX"),
        ("default, grpc-status 13", default(), vec![|| grpc("13")], 200, 1, "-"),
        ("dead host", default(), vec![REFUSED], 503, 3, "UF,URX"),
        ("half-dead cluster", default(), vec![REFUSED, OK], 200, 2, "-"),
        ("503 list, 503,503,200", policy(2, "503"), vec![E503, E503, OK], 200, 3, "-"),
        ("503 list, 503 x3", policy(2, "503"), vec![E503], 503, 3, "URX"),
        ("503 list, 502", policy(2, "503"), vec![|| status(502)], 502, 1, "-"),
        ("5xx n=5, 500 x2 then 200", policy(5, "5xx"), vec![|| status(500), || status(500), OK], 200, 3, "-"),
        ("gateway-error, 500", policy(2, "gateway-error"), vec![|| status(500)], 500, 1, "-"),
        ("gateway-error", policy(2, "gateway-error"), vec![|| status(502), E503, OK], 200, 3, "-"),
        ("reset: close then 200", policy(2, "reset"), vec![RESET, OK], 200, 2, "-"),
        ("reset-before-request: close", policy(2, "reset-before-request"), vec![RESET, OK], 503, 1, "UC"),
        ("connect-failure only: close", policy(2, "connect-failure"), vec![RESET, OK], 503, 1, "UC"),
        ("retriable-4xx: 409", policy(2, "retriable-4xx"), vec![|| status(409), OK], 200, 2, "-"),
        ("retriable-4xx: 404", policy(2, "retriable-4xx"), vec![|| status(404), OK], 404, 1, "-"),
        ("5xx includes reset", policy(2, "5xx"), vec![RESET, OK], 200, 2, "-"),
        ("backoff default base, n=5", policy(5, "5xx"), vec![|| status(500)], 500, 6, "URX"),
        ("no policy", RoutePolicy::default(), vec![REFUSED, OK], 503, 1, "UF"),
    ];
    for (name, policy, outcomes, code, attempts, flags) in rows {
        let (outcome, log) = run(Full::<Bytes>::from("hello"), policy, outcomes).await;
        let (status, exchange) = match &outcome {
            Ok(response) => (response.status(), response.extensions().get::<Exchange>().unwrap()),
            Err(error) => (error.reason().status(), error.exchange()),
        };
        assert_eq!(
            (status.as_u16(), exchange.attempts, exchange.flags.to_string().as_str()),
            (code, attempts, flags),
            "{name}"
        );
        assert_eq!(log.len(), attempts as usize, "{name}");
        for (index, (attempt, count, body)) in log.iter().enumerate() {
            assert_eq!((attempt.number as usize, count.as_str()), (index, (index + 1).to_string().as_str()), "{name}");
            assert_eq!(body, "hello", "POST is retried too, with its body: {name}");
        }
    }
}

#[test]
fn conditions() {
    // istio retry_test.go and Envoy's retry plugin list
    let none = HeaderMap::new();
    for (list, reason, expected) in [
        ("refused-stream", Reason::RefusedStream, true),
        ("connect-failure", Reason::RefusedStream, false),
        ("reset", Reason::ConnectFailure, true),
        ("reset-before-request", Reason::Reset { request_sent: false }, true),
        ("reset-before-request", Reason::ConnectFailure, true),
        ("5xx", Reason::Timeout, false),
        ("5xx,reset,gateway-error", Reason::Overflow, false),
        ("5xx,reset,gateway-error", Reason::NoHealthyUpstream, false),
        ("5xx", Reason::PerTryTimeout, true),
        ("gateway-error", Reason::PerTryTimeout, true),
        ("connect-failure,refused-stream", Reason::PerTryTimeout, false),
        ("retriable-headers", Reason::ConnectFailure, false),
    ] {
        assert_eq!(RetryOn::parse(list).unwrap().error(reason), expected, "{list} {reason}");
    }
    for (list, code, expected) in [
        ("gateway-error,retriable-status-codes,503", "8", false),
        ("resource-exhausted", "8", true),
        ("deadline-exceeded", "4", true),
        ("internal", "13", true),
        ("internal", "14", false),
    ] {
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))]);
        assert_eq!(RetryOn::parse(list).unwrap().response(StatusCode::OK, &headers), expected, "{list} {code}");
    }
    let limited = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-envoy-ratelimited"),
        HeaderValue::from_static("true"),
    )]);
    assert!(!RetryOn::parse("5xx").unwrap().response(StatusCode::SERVICE_UNAVAILABLE, &limited));
    assert!(RetryOn::parse("envoy-ratelimited").unwrap().response(StatusCode::TOO_MANY_REQUESTS, &limited));
    let spaced = RetryOn::parse(" 5xx,\t,404 ,\t, ,").unwrap();
    assert!(spaced.response(StatusCode::NOT_FOUND, &none));
    // "TestRetryOnWithInvalidStatusCodes": a number that is no status is a word, and not a known one
    assert!(RetryOn::parse("5xx,1000").is_err());
    assert_eq!(RetryPolicy::new(0, spaced).after_error(1, Reason::ConnectFailure), Verdict::LimitReached);
}

// istio.md 1.2: "retried only if retryOn has 5xx, gateway-error or reset"
#[tokio::test(start_paused = true)]
async fn per_try_timeout() {
    // measured on Envoy 1.40 (t3): "per-try: slow once then fast -> 200, attempts=2" and "Istio default retryOn, slow
    // -> 504 UT, attempts=1"
    for (retries, on, slow, expected) in [
        (3, "5xx", 1, Ok(2)),
        (3, "gateway-error", 9, Err("UT,URX")),
        (3, "connect-failure,refused-stream", 9, Err("UT")),
    ] {
        let service =
            RetryLayer::new().with_roll(|| 0).layer(service_fn(move |routed: Inner<Empty<Bytes>>| async move {
                if routed.attempt.number < slow {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                }
                status(200)
            }));
        let retry =
            RetryPolicy::new(retries, RetryOn::parse(on).unwrap()).with_per_try_timeout(Duration::from_millis(200));
        let started = Instant::now();
        match (service.oneshot(routed(Empty::new(), RoutePolicy::default().with_retry(retry))).await, expected) {
            (Ok(mut response), Ok(attempts)) => {
                assert_eq!(Exchange::of(&mut response).attempts, attempts);
                assert_eq!(started.elapsed(), Duration::from_millis(200));
            }
            (Err(error), Err(flags)) => {
                assert_eq!(error.reason(), Reason::PerTryTimeout);
                let mut found: Vec<_> = error.exchange().flags.to_string().split(',').map(str::to_owned).collect();
                let mut flags: Vec<_> = flags.split(',').map(str::to_owned).collect();
                found.sort();
                flags.sort();
                assert_eq!(found, flags);
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hung_is_avoided_like_one_that_failed() {
    // istio HTTPRetry.retryIgnorePreviousHosts: retries "will ignore previously tried hosts", however they were tried.
    let endpoint = Arc::new(mesh_core::Endpoint::new(mesh_core::EndpointAddress::new("10.0.0.1", 80)));
    let hangs = Arc::clone(&endpoint);
    let service = RetryLayer::new().with_roll(|| 0).layer(service_fn(move |routed: Inner<Empty<Bytes>>| {
        let hangs = Arc::clone(&hangs);
        async move {
            if routed.attempt.number == 0 {
                // What a balancer does when it has picked.
                mesh_core::Progress::note(routed.request.extensions(), |known| {
                    known.endpoint = Some(Arc::clone(&hangs))
                });
                std::future::pending::<()>().await;
            }
            assert_eq!(routed.attempt.tried, [hangs]);
            status(200)
        }
    }));
    let retry = RetryPolicy::new(1, RetryOn::parse("5xx").unwrap()).with_per_try_timeout(Duration::from_millis(200));
    let response = service.oneshot(routed(Empty::new(), RoutePolicy::default().with_retry(retry))).await.unwrap();
    assert_eq!(response.status(), 200);
    // And when it was the last try, the error says where it went.
    let hangs = Arc::clone(&endpoint);
    let service = RetryLayer::new().layer(service_fn(move |routed: Inner<Empty<Bytes>>| {
        mesh_core::Progress::note(routed.request.extensions(), |known| known.endpoint = Some(Arc::clone(&hangs)));
        std::future::pending::<Result<Response<Empty<Bytes>>, Error>>()
    }));
    let retry = RetryPolicy::new(0, RetryOn::parse("5xx").unwrap()).with_per_try_timeout(Duration::from_millis(200));
    let error = service.oneshot(routed(Empty::new(), RoutePolicy::default().with_retry(retry))).await.unwrap_err();
    assert_eq!(error.exchange().endpoint.as_ref(), Some(&endpoint));
}

// istio.md 1.2: "base (25 ms default), cap 10×base"
#[tokio::test(start_paused = true)]
async fn waits_are_drawn_below_the_measured_bounds() {
    let started = Instant::now();
    let service =
        RetryLayer::new().with_roll(|| 24_999_999).layer(service_fn(|_: Inner<Empty<Bytes>>| async { E503() }));
    service.oneshot(routed(Empty::new(), policy(2, "5xx"))).await.unwrap();
    assert!((49..=52).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    // backoff.py: U[0, min(base * 2^(n-1), 10 * base)): means 12.5, 25, 50, 100, 125
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(mesh_test::seed());
    for (retry, mean) in [(1, 12.5), (2, 25.0), (3, 50.0), (4, 100.0), (5, 125.0), (9, 125.0)] {
        let draws =
            (0..20_000).map(|_| BackOff::default().wait(retry, rand::Rng::next_u64(&mut rng)).as_secs_f64() * 1e3);
        let found = draws.sum::<f64>() / 20_000.0;
        assert!((found - mean).abs() < mean * 0.03, "{retry}: {found}");
    }
}

// istio.md 1.2: "default true (≤5 re-picks, `host_selection_retry_max_attempts`)"
#[tokio::test(start_paused = true)]
async fn previous_hosts_are_avoided() {
    // measured on Envoy 1.40 (t3): "TWO n=1 previous_hosts: always B -> A"
    let endpoint = Arc::new(Endpoint::new("127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap()));
    // istio retry.go ConvertPolicy: who says so says it to clusters that hash, too.
    for (avoid, expected) in [(None, (1, false)), (Some(true), (1, true)), (Some(false), (0, false))] {
        let seen = Arc::new(Mutex::new((9, true)));
        let (tried, here) = (Arc::clone(&seen), Arc::clone(&endpoint));
        let service = RetryLayer::new().layer(service_fn(move |routed: Inner<Empty<Bytes>>| {
            *tried.lock().unwrap() = (routed.attempt.tried.len(), routed.attempt.insists);
            let mut response = status(if routed.attempt.number == 0 { 503 } else { 200 }).unwrap();
            Exchange::of(&mut response).endpoint = Some(Arc::clone(&here));
            async { Ok::<_, Error>(response) }
        }));
        let mut retry = RetryPolicy::new(1, RetryOn::parse("5xx").unwrap());
        retry.avoid_previous = avoid;
        service.oneshot(routed(Empty::new(), RoutePolicy::default().with_retry(retry))).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

/// istio HTTPRetry.retryRemoteLocalities: said of every attempt's endpoint, whether or not hosts are avoided.
#[tokio::test(start_paused = true)]
async fn remote_localities_are_asked_for() {
    let endpoint = Arc::new(Endpoint::new("127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap()));
    for (remote, expected) in [(false, [0, 0, 0]), (true, [0, 1, 2])] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (leaving, here) = (Arc::clone(&seen), Arc::clone(&endpoint));
        let service = RetryLayer::new().layer(service_fn(move |routed: Inner<Empty<Bytes>>| {
            leaving.lock().unwrap().push(routed.attempt.leaving.len());
            assert!(routed.attempt.tried.is_empty());
            let mut response = status(503).unwrap();
            Exchange::of(&mut response).endpoint = Some(Arc::clone(&here));
            async { Ok::<_, Error>(response) }
        }));
        let mut retry = RetryPolicy::new(2, RetryOn::parse("5xx").unwrap());
        (retry.avoid_previous, retry.leave_localities) = (Some(false), remote);
        service.oneshot(routed(Empty::new(), RoutePolicy::default().with_retry(retry))).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

#[derive(Clone, Debug)]
struct Budget(Name, Arc<AtomicU32>);

impl ClusterHandle for Budget {
    fn name(&self) -> &Arc<ClusterName> {
        &self.0
    }

    fn retry_permit(&self, failed: Option<Reason>) -> Option<RetryPermit> {
        assert_eq!(failed, None, "it ended with a response");
        RetryPermit::try_acquire(&self.1, |taken| taken < 1)
    }
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_asked_and_shared_across_layers() {
    let layer = RetryLayer::new();
    let budget = Budget(Arc::new(ClusterName::passthrough()), Arc::default());
    let inner = || {
        service_fn(|_: Inner<Empty<Bytes>, Budget>| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            E503()
        })
    };
    let send = |mut service: super::Retry<_>| {
        let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
        service.call(Routed::new(request, budget.clone(), Arc::new(policy(3, "5xx"))))
    };
    let (one, two) = tokio::join!(send(layer.layer(inner())), send(layer.layer(inner())));
    let mut attempts = [one, two].map(|outcome| {
        let mut response = outcome.unwrap();
        let exchange = Exchange::of(&mut response).clone();
        (exchange.attempts, exchange.flags.contains(ResponseFlag::UpstreamOverflow))
    });
    attempts.sort_unstable();
    assert_eq!(attempts, [(1, true), (4, false)]);
    // given back
    assert_eq!(budget.1.load(Ordering::Relaxed), 0);
}

/// Reads its request's body to the end, then does as told.
async fn drain(body: ReplayBody<impl Body<Error = impl Into<BoxError>>>) -> Bytes {
    body.collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn past_the_cap_it_goes_through_once() {
    let calls = Arc::new(AtomicU32::new(0));
    for (cap, expected) in [(10, 2), (9, 1)] {
        calls.store(0, Ordering::Relaxed);
        let seen = Arc::clone(&calls);
        let service = RetryLayer::new().with_body_cap(cap).layer(service_fn(move |routed: Inner<Script>| {
            let seen = Arc::clone(&seen);
            async move {
                assert_eq!(drain(routed.request.into_body()).await, "0123456789");
                seen.fetch_add(1, Ordering::Relaxed);
                E503()
            }
        }));
        let body = Script(["01234", "56789"].map(|chunk| Frame::data(Bytes::from(chunk))).into());
        let response = service.oneshot(routed(body, policy(1, "5xx"))).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(calls.load(Ordering::Relaxed), expected, "cap {cap}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bidi_stream_keeps_flowing_after_the_response() {
    let (mut sender, body) = Channel::<Bytes, Error>::new(1);
    let service = RetryLayer::new().layer(service_fn(|routed: Inner<Channel<Bytes, Error>>| async move {
        Ok::<_, Error>(Response::new(routed.request.into_body()))
    }));
    let mut echo = service.oneshot(routed(body, policy(2, "5xx"))).await.unwrap().into_body();
    for message in ["one", "two", "three"] {
        sender.send_data(Bytes::from(message)).await.unwrap();
        assert_eq!(echo.frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    drop(sender);
    assert!(echo.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_given_up_reads_nothing_more() {
    let (mut sender, body) = Channel::<Bytes, Error>::new(4);
    let held = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&held);
    let service = RetryLayer::new().layer(service_fn(move |routed: Inner<Channel<Bytes, Error>>| {
        let keep = Arc::clone(&keep);
        async move {
            let mut body = routed.request.into_body();
            if routed.attempt.number == 0 {
                assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
                // Still waiting for the next chunk when the answer comes, as a connection's task would.
                *keep.lock().unwrap() = Some(tokio::spawn(async move { body.frame().await.unwrap().is_err() }));
                tokio::task::yield_now().await;
                return Ok(Response::builder().status(503).body(Bytes::new()).unwrap());
            }
            Ok::<_, Error>(Response::new(drain(body).await))
        }
    }));
    sender.send_data(Bytes::from("one")).await.unwrap();
    let feed = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sender.send_data(Bytes::from("two")).await.unwrap();
    });
    let response = service.oneshot(routed(body, policy(1, "5xx"))).await.unwrap();
    assert_eq!(response.into_body(), "onetwo");
    let stale = held.lock().unwrap().take().unwrap();
    assert!(stale.await.unwrap(), "woken, and told that it was given up");
    feed.await.unwrap();
}

#[test]
fn an_empty_body_costs_nothing_and_lengths_stay_known() {
    let (_replay, body) = Replay::new(Empty::<Bytes>::new(), 10);
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert_eq!(format!("{body:?}"), "ReplayBody(empty)");
    let (replay, body) = Replay::new(Full::<Bytes>::from("hello"), 10);
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(replay.again().unwrap().size_hint().exact(), Some(5));
}

/// A body of scripted frames that knows its length.
struct Script(Vec<Frame<Bytes>>);

impl Body for Script {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum())
    }
}

proptest! {
    /// Whatever attempts read before they are given up, the last one gets every byte, once and in order.
    #[test]
    fn a_replay_is_the_body(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..8),
        trailers in any::<bool>(),
        stops in proptest::collection::vec(0_usize..10, 0..4),
        cap in 0_usize..60,
    ) {
        let whole: Vec<u8> = chunks.concat();
        let mut frames: Vec<_> = chunks.into_iter().map(|chunk| Frame::data(Bytes::from(chunk))).collect();
        let trailer = HeaderMap::from_iter([(http::HeaderName::from_static("t"), HeaderValue::from_static("v"))]);
        if trailers {
            frames.push(Frame::trailers(trailer.clone()));
        }
        let (replay, mut body) = Replay::new(Script(frames), cap);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut superseded = Vec::new();
        for stop in stops {
            let mut read = Vec::new();
            for _ in 0..stop {
                if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx)
                    && let Ok(data) = frame.into_data()
                {
                    read.extend_from_slice(&data);
                }
            }
            prop_assert!(whole.starts_with(&read));
            let Some(next) = replay.again() else {
                // Too much was read to be kept: the attempt goes on where it stands.
                prop_assert!(read.len() > cap);
                while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) {
                    if let Ok(data) = frame.into_data() {
                        read.extend_from_slice(&data);
                    }
                }
                prop_assert_eq!(read, whole);
                return Ok(());
            };
            superseded.push(std::mem::replace(&mut body, next));
        }
        for body in &mut superseded {
            prop_assert!(matches!(Pin::new(body).poll_frame(&mut cx), Poll::Ready(Some(Err(_)))));
        }
        prop_assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
        // The answer came: what is left is streamed and no longer kept.
        drop(replay);
        let (mut read, mut last) = (Vec::new(), None);
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            match frame.unwrap().into_data() {
                Ok(data) => read.extend_from_slice(&data),
                Err(frame) => last = frame.into_trailers().ok(),
            }
        }
        prop_assert_eq!(read, whole);
        prop_assert_eq!(last, trailers.then_some(trailer));
        prop_assert!(body.is_end_stream());
    }
}

#[test]
fn the_mesh_may_name_another_default() {
    // istio mesh/v1alpha1 MeshConfig.defaultHttpRetryPolicy: "Configure the default HTTP retry policy. The default
    // number of retry attempts is set at 2"
    for (mesh, retries, issue) in [
        ("{}", Some(Some(2)), ""),
        ("{defaultHttpRetryPolicy: null}", Some(Some(2)), ""),
        ("{defaultHttpRetryPolicy: {attempts: 0}}", Some(None), ""),
        ("{defaultHttpRetryPolicy: {attempts: 5, retryOn: 'reset,503'}}", Some(Some(5)), ""),
        (
            "{defaultHttpRetryPolicy: {attempts: 1, retryOn: sometimes}}",
            None,
            "mesh.yaml:1:55: error: MeshConfig /mesh defaultHttpRetryPolicy.retryOn: \"sometimes\" is not a valid retryOn policy",
        ),
        (
            "{defaultHttpRetryPolicy: {attempt: 1}}",
            None,
            "mesh.yaml:1:33: error: MeshConfig /mesh defaultHttpRetryPolicy: unknown field `attempt`",
        ),
    ] {
        let mut issues = Issues::default();
        let documents = Document::parse_all("mesh.yaml", &format!("mesh: {mesh}"), &mut issues);
        let read = RetryPolicy::from_mesh_document(&documents[0], &mut issues);
        assert_eq!(read.map(|policy| policy.map(|policy| policy.retries())), retries, "{mesh}");
        assert!(issues.to_string().starts_with(issue) && issues.is_empty() == issue.is_empty(), "{issues}");
    }
}

/// std Instant::add: "This function may panic if the resulting point in time cannot be represented".
#[tokio::test]
async fn a_time_that_the_clock_does_not_reach_is_none() {
    let inner = service_fn(|_: Inner<Empty<Bytes>>| async { Ok::<_, Error>(Response::new(Empty::<Bytes>::new())) });
    let service = crate::TimeoutLayer::new().layer(RetryLayer::new().layer(inner));
    let retry = RetryPolicy::new(1, RetryOn::parse("5xx").unwrap()).with_per_try_timeout(Duration::MAX);
    let policy = RoutePolicy::default().with_timeout(Duration::MAX).with_retry(retry);
    assert_eq!(service.oneshot(routed(Empty::new(), policy)).await.unwrap().status(), 200);
}
