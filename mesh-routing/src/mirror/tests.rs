use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, channel::Channel};
use mesh_core::{BoxError, Deadline, Error, Progress, Reason};
use tokio::time::Instant;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn};

use super::*;
use crate::{
    ReplayBody, RetryLayer, RouteLayer, TimeoutLayer,
    tests::{To, shared},
};

type Seen = Arc<Mutex<Vec<(String, Result<Bytes, String>)>>>;
type Inner<B> = To<ReplayBody<MirrorBody<B>>>;

/// A stack over an upstream that notes who got which body, and the requests' heads. Subset `slow` takes 10 s, `bad`
/// and `down` fail.
fn stack<B>(
    http: &str,
    cap: usize,
) -> (impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Error> + use<B>, Seen)
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let seen = Seen::default();
    let note = Arc::clone(&seen);
    let upstream = service_fn(move |routed: Inner<B>| {
        let note = Arc::clone(&note);
        async move {
            let subset = routed.cluster.subset.as_deref().unwrap_or("own").to_owned();
            let (head, body) = routed.request.into_parts();
            let own = matches!(&*subset, "own" | "down");
            assert_eq!(head.extensions.get::<Progress>().is_some(), own);
            assert_eq!(head.extensions.get::<Deadline>().is_some(), routed.policy.timeout().is_some());
            let text = |name: &str| head.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
            let who = format!("{subset} {} {} {} {}", head.method, head.uri.path(), text("host"), text("x-rule"));
            if subset == "slow" {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            if matches!(&*subset, "bad" | "down") {
                return Err(Error::new(Reason::ConnectFailure));
            }
            let body = body.collect().await.map(|body| body.to_bytes()).map_err(|error| error.to_string());
            note.lock().unwrap().push((who, body));
            Ok(Response::new(Full::from(subset)))
        }
    });
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(shared(http)))
        .layer(MirrorLayer::new().with_backlog(cap).with_roll(|| 250_000))
        .layer(TimeoutLayer::new())
        .layer(RetryLayer::new())
        .service(upstream)
        .map_response(|response: Response<crate::TimeoutBody<Full<Bytes>>>| response.map(|_| Full::default()));
    (stack, seen)
}

const CAP: usize = 1 << 20;

fn post<B>(body: B) -> Request<B> {
    let mut request = Request::post("http://a/m?q").header("host", "a:80").body(body).unwrap();
    request.extensions_mut().insert(Progress::default());
    request
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn sorted(seen: &Seen) -> Vec<(String, Result<Bytes, String>)> {
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort();
    seen
}

#[tokio::test(start_paused = true)]
async fn a_mirror_gets_the_request_as_it_goes_out() {
    // measured on Envoy 1.40 (t4, mirror /ns): both see the same Host; istio: "fire-and-forget after rewrite/headers"
    let (stack, seen) = stack(
        "{rewrite: {uri: /r}, match: [{uri: {prefix: /m}}], headers: {request: {set: {x-rule: '1'}}}, timeout: 5s, \
         mirror: {host: a, subset: copy}, route: [{destination: {host: a}}]}",
        CAP,
    );
    stack.oneshot(post(Full::<Bytes>::from("body"))).await.unwrap();
    settle().await;
    let body = || Ok(Bytes::from("body"));
    assert_eq!(sorted(&seen), [("copy POST /r a:80 1".into(), body()), ("own POST /r a:80 1".into(), body())]);
}

// istio.md 1.2: "default 100 %, explicit 0 => none"
#[tokio::test(start_paused = true)]
async fn percentages_are_of_requests() {
    // istio MirrorPercent: "default 100 %, explicit 0 => none". The draw is 250,000 of a million.
    for (mirrors, copies) in [
        ("mirror: {host: a, subset: copy}", 1),
        ("mirror: {host: a, subset: copy}, mirrorPercentage: {value: 0}", 0),
        ("mirror: {host: a, subset: copy}, mirrorPercentage: {value: 25}", 0),
        ("mirror: {host: a, subset: copy}, mirrorPercentage: {value: 25.1}", 1),
        ("mirror: {host: a, subset: copy}, mirrorPercent: 26", 1),
        ("mirror: {host: a, subset: copy}, mirror_percent: 24", 0),
        (
            "mirrors: [{destination: {host: a, subset: x}}, {destination: {host: a, subset: y}, percentage: {value: 30}}]",
            2,
        ),
        (
            "mirrors: [{destination: {host: a, subset: x}, percentage: {value: 20}}, {destination: {host: a, subset: y}}]",
            1,
        ),
        ("mirror: {host: a, subset: gone}", 0),
    ] {
        let (stack, seen) = stack(&format!("{{{mirrors}, route: [{{destination: {{host: a}}}}]}}"), CAP);
        stack.oneshot(post(Full::<Bytes>::default())).await.unwrap();
        settle().await;
        assert_eq!(sorted(&seen).len(), copies + 1, "{mirrors}");
    }
}

// istio.md 1.2: "fire-and-forget after rewrite/headers"
#[tokio::test(start_paused = true)]
async fn the_request_neither_waits_for_its_mirrors_nor_fails_with_them() {
    let (stack, seen) = stack(
        "{mirrors: [{destination: {host: a, subset: slow}}, {destination: {host: a, subset: bad}}], \
         route: [{destination: {host: a}}]}",
        CAP,
    );
    let started = Instant::now();
    let answer = stack.oneshot(post(Full::<Bytes>::from("body"))).await.unwrap();
    assert_eq!((answer.status().as_u16(), started.elapsed()), (200, Duration::ZERO));
    tokio::time::sleep(Duration::from_secs(11)).await;
    // The slow one still gets its body.
    assert_eq!(sorted(&seen)[1], ("slow POST /m a:80 -".into(), Ok("body".into())));
}

#[tokio::test(start_paused = true)]
async fn the_routes_timeout_ends_a_mirror() {
    let rule = "{timeout: 2s, mirror: {host: a, subset: slow}, route: [{destination: {host: a}}]}";
    let (stack, seen) = stack(rule, CAP);
    stack.oneshot(post(Full::<Bytes>::from("body"))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(sorted(&seen).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_told_on_while_it_is_read() {
    for (cap, expected) in [(CAP, Ok("onetwo".into())), (4, Err("mirror given up".to_owned()))] {
        let rule = "{mirror: {host: a, subset: copy}, route: [{destination: {host: a}}]}";
        let (stack, seen) = stack(rule, cap);
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
        tokio::spawn(async move {
            for chunk in ["one", "two"] {
                let _ = sender.send_data(chunk.into()).await;
            }
            let _ = sender.send_trailers(http::HeaderMap::new()).await;
        });
        stack.oneshot(post(body)).await.unwrap();
        settle().await;
        let seen = sorted(&seen);
        assert_eq!(seen[0], ("copy POST /m a:80 -".into(), expected), "{cap}");
        assert_eq!(seen[1].1, Ok("onetwo".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_gets_the_body_that_the_request_never_sent() {
    // measured on Envoy 1.40 (interop): the mirror of a request whose own upstream refuses the connection gets all of it
    let (stack, seen) =
        stack("{mirror: {host: a, subset: copy}, route: [{destination: {host: a, subset: down}}]}", CAP);
    stack.oneshot(post(Full::<Bytes>::from("body"))).await.unwrap_err();
    settle().await;
    assert_eq!(sorted(&seen), [("copy POST /m a:80 -".into(), Ok("body".into()))]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_breaks_off_for_the_mirror() {
    let (stack, seen) = stack("{mirror: {host: a, subset: copy}, route: [{destination: {host: a}}]}", CAP);
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
    sender.send_data("one".into()).await.unwrap();
    sender.abort("gone".into());
    stack.oneshot(post(body)).await.unwrap();
    settle().await;
    assert_eq!(sorted(&seen)[0].1, Err("mirror given up".into()));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_not_mirrored() {
    let (stack, seen) = stack("{mirror: {host: a, subset: copy}, route: [{destination: {host: a}}]}", CAP);
    let mut request = post(Full::<Bytes>::default());
    request.headers_mut().insert("upgrade", http::HeaderValue::from_static("websocket"));
    stack.oneshot(request).await.unwrap();
    settle().await;
    assert_eq!(sorted(&seen).len(), 1);
}

#[tokio::test]
async fn nothing_is_drawn_without_mirrors_and_the_layer_is_its_settings() {
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    let layer = MirrorLayer::new().with_roll(|| u64::from(DRAWN.fetch_add(1, Ordering::Relaxed)));
    let inner = || {
        service_fn(|_: To<MirrorBody<Full<Bytes>>>| async { Ok::<_, Error>(Response::new(Full::<Bytes>::default())) })
    };
    let (one, two) = (layer.layer(inner()), layer.layer(inner()));
    let plain = shared("{route: [{destination: {host: a}}]}");
    RouteLayer::new(plain).layer(one.clone()).oneshot(post(Full::default())).await.unwrap();
    assert_eq!(DRAWN.load(Ordering::Relaxed), 0);
    let mirrored = shared("{mirror: {host: a, subset: copy}, route: [{destination: {host: a}}]}");
    for service in [one, two] {
        RouteLayer::new(Arc::clone(&mirrored)).layer(service).oneshot(post(Full::default())).await.unwrap();
    }
    assert_eq!(DRAWN.load(Ordering::Relaxed), 2);
}

/// A body whose reader panics ends that request. Read once more while it is thrown away, it would panic again, and that
/// ends the process.
#[test]
fn a_body_that_panics_is_not_read_again() {
    struct Panics;
    impl http_body::Body for Panics {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
            panic!("the caller's body");
        }
    }
    let panicked = std::panic::catch_unwind(|| {
        let (own, _mirrors) = MirrorBody::told_on(Panics, 1, CAP);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = http_body::Body::poll_frame(std::pin::pin!(own), &mut cx);
    });
    assert!(panicked.is_err());
}

struct Frames(std::collections::VecDeque<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        std::task::Poll::Ready(self.0.pop_front().map(|chunk| Ok(http_body::Frame::data(chunk))))
    }
}

/// The cap bounds what waits for a mirror, frames without data too.
#[tokio::test]
async fn frames_without_data_do_not_wait_for_a_mirror() {
    let frames = (0..1_000).map(|_| Bytes::new());
    let body = Frames(frames.collect());
    let (own, mut mirrors) = MirrorBody::told_on(body, 1, 4);
    assert!(own.collect().await.unwrap().to_bytes().is_empty());
    let mut told = 0;
    while mirrors[0].frame().await.is_some() {
        told += 1;
    }
    assert_eq!(told, 0);
}
