//! What `explain` tells of the referee's cases is what the layers do with them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use mesh_core::{Exchange, LocalReplyLayer, Progress, Routed};
use mesh_routing::{
    CorsLayer, Explanation, FaultLayer, MirrorBody, MirrorLayer, RouteLayer, RoutePolicy, RouteTable, TimeoutLayer,
    explain::{Outcome, Upstream},
};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use crate::{
    derive,
    dice::Dice,
    envoy::MODES,
    generate,
    hosts::{VirtualHost, covers, virtual_hosts},
    model::{self, Mode, PORTS},
    ours::{Cluster, as_dialled, compile},
};

/// More than any timeout, and than any injected delay.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

thread_local! {
    static DESTINATION: Cell<u64> = const { Cell::new(0) };
    static SHARE: Cell<u64> = const { Cell::new(0) };
    /// What reached the inside: of each its cluster and its head, the request's own before its copies.
    static SEEN: RefCell<Vec<(String, Request<()>)>> = const { RefCell::new(Vec::new()) };
}

type Inside = Routed<Request<MirrorBody<Full<Bytes>>>, Cluster, Arc<RoutePolicy<Cluster>>>;

/// What a caller gets; `None` where nothing came.
type Answer = Option<(http::response::Parts, Bytes)>;

async fn send(table: &Arc<ArcSwap<RouteTable<Cluster>>>, request: &Request<()>, hang: bool) -> Answer {
    SEEN.take();
    let inside = move |routed: Inside| async move {
        let request = routed.request.map(|_| ());
        SEEN.with_borrow_mut(|seen| seen.push((routed.cluster.to_string(), request)));
        if hang {
            tokio::time::sleep(2 * FOR_EVER).await;
        }
        let mut response = Response::new(Full::new(Bytes::from_static(b"upstream's")));
        response.headers_mut().insert("server", HeaderValue::from_static("upstream"));
        Ok::<_, mesh_core::Error>(response)
    };
    let stack = ServiceBuilder::new()
        .layer(LocalReplyLayer)
        .layer(RouteLayer::new(Arc::clone(table)).with_roll(|| DESTINATION.get()))
        .layer(FaultLayer::new().with_roll(|| SHARE.get()))
        .layer(CorsLayer::new())
        .layer(MirrorLayer::new().with_roll(|| SHARE.get()))
        .layer(TimeoutLayer::new())
        .service(service_fn(inside));
    let (mut head, ()) = request.clone().into_parts();
    head.extensions.insert(Progress::default());
    let request = Request::from_parts(head, Full::new(Bytes::new()));
    let response = tokio::time::timeout(FOR_EVER, stack.oneshot(request)).await.ok()?;
    let (head, body) = response.unwrap_or_else(|never| match never {}).into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    // Copies are tasks of their own.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    Some((head, body))
}

fn pairs(headers: &HeaderMap, but: &[&str]) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| !but.contains(&name.as_str()));
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    sorted(kept.map(|(name, value)| (name.to_string(), text(value))).collect())
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

/// As an application would send it; `None` for bytes that no `http::Request` can be made of.
fn request(generated: &model::Request) -> Option<Request<()>> {
    let mut request = Request::builder().method(&*generated.method).uri(&*generated.target).body(()).ok()?;
    request.headers_mut().append("host", HeaderValue::from_bytes(&generated.host).ok()?);
    for (name, value) in &generated.headers {
        request.headers_mut().append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    let (mut head, ()) = request.into_parts();
    as_dialled(&mut head, generated.port);
    Some(Request::from_parts(head, ()))
}

/// The operations that are told, done to what upstream answered.
fn answered(explanation: &Explanation) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static("upstream"))]);
    for operation in &explanation.response_operations {
        let name = HeaderName::from_bytes(operation.name.as_bytes()).unwrap();
        let value = || HeaderValue::from_str(operation.value.as_deref().unwrap()).unwrap();
        match operation.op {
            "set" => drop(headers.insert(name, value())),
            "add" => drop(headers.append(name, value())),
            _ => drop(headers.remove(name)),
        }
    }
    headers
}

/// Headers that are not the route's: of CORS's grants, and of the timeout that stands further in.
const OTHERS: [&str; 5] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "host",
    "x-envoy-expected-rq-timeout-ms",
];

fn check(explanation: &Explanation, answer: &Answer, case: &str) {
    let seen = SEEN.with_borrow(Clone::clone);
    let (head, body) = answer.as_ref().unwrap_or_else(|| panic!("no answer: {case}"));
    let exchange = head.extensions.get::<Exchange>().cloned().unwrap_or_default();
    assert_eq!(explanation.route.as_deref(), exchange.route.as_deref(), "route: {case}");
    let flags = (!exchange.flags.is_empty()).then(|| exchange.flags.to_string());
    assert_eq!(explanation.response_flags, flags, "flags: {case}");
    let Some(Upstream { method, authority, path, headers, .. }) = &explanation.request else {
        assert!(seen.is_empty(), "{seen:?}: {case}");
        assert_eq!(explanation.status, Some(head.status.as_u16()), "status: {case}");
        assert_eq!(explanation.body.as_deref(), Some(&*String::from_utf8_lossy(body)), "body: {case}");
        let told = explanation.response_headers.clone().unwrap();
        assert_eq!(sorted(told), pairs(&head.headers, &[]), "response headers: {case}");
        return;
    };
    assert_eq!(explanation.status, None, "{case}");
    let ((cluster, request), copies) = seen.split_first().unwrap_or_else(|| panic!("nothing was sent: {case}"));
    assert_eq!(explanation.cluster.as_ref(), Some(cluster), "cluster: {case}");
    assert_eq!(exchange.cluster.map(|cluster| cluster.to_string()).as_ref(), Some(cluster), "{case}");
    assert_eq!(method, request.method().as_str(), "method: {case}");
    let sent = request.headers().get("host").map(|host| String::from_utf8_lossy(host.as_bytes()));
    assert_eq!(authority.as_deref(), sent.as_deref(), "authority: {case}");
    assert_eq!(path, request.uri().path_and_query().unwrap().as_str(), "path: {case}");
    let mut told = headers.clone().unwrap();
    told.retain(|(name, _)| !OTHERS.contains(&name.as_str()));
    assert_eq!(sorted(told), pairs(request.headers(), &OTHERS), "headers: {case}");
    let told = explanation.mirrors.iter().map(|mirror| mirror.cluster.clone()).collect();
    assert_eq!(sorted(told), sorted(copies.iter().map(|(to, _)| to.clone()).collect()), "mirrors: {case}");
    assert_eq!(pairs(&answered(explanation), &OTHERS), pairs(&head.headers, &OTHERS), "operations: {case}");
}

/// The routes that a request passes over, as this crate's own model of istiod has them, are all rejected, in order.
fn passed_over(told: &Explanation, hosts: &[VirtualHost], request: &model::Request, case: &str) -> usize {
    let host = String::from_utf8_lossy(&request.host).to_lowercase();
    let name = host.split(':').next().unwrap_or_default();
    let here = hosts.iter().filter(|host| host.port == request.port);
    let all: Vec<_> = here.flat_map(|host| host.domains.iter().map(move |domain| (domain, &host.routes))).collect();
    let closest = all
        .iter()
        .filter(|(domain, _)| covers(domain, name))
        .max_by_key(|(domain, _)| (!domain.starts_with('*'), domain.len()));
    let Some((_, routes)) = closest else { return 0 };
    if told.virtual_service.is_none() && told.outcome != Outcome::NoRoute {
        return 0;
    }
    let end = routes.iter().position(|route| told.route.as_deref() == Some(&*route.name)).unwrap_or(routes.len());
    let mut rejected = told.rejected.iter().filter_map(|rejection| rejection.route.as_deref());
    for route in &routes[..end] {
        assert!(rejected.any(|name| name == route.name), "{} is not rejected: {case}", route.name);
    }
    end
}

/// issue "Ask it": the decision that is printed is the one that is made.
#[tokio::test(start_paused = true)]
async fn explanations_are_what_the_layers_do() {
    let seed = std::env::var("MESH_TOLD_SEED").map_or(1, |text| text.parse().unwrap());
    let batches = std::env::var("MESH_TOLD_BATCHES").map_or(4, |text| text.parse().unwrap());
    println!("MESH_TOLD_SEED={seed} MESH_TOLD_BATCHES={batches}");
    let mut dice = Dice::new(seed);
    let mut counts = BTreeMap::<String, u64>::new();
    for batch in 0..batches {
        // Every other batch: `Blocked` has to come up whatever the seed.
        let mode = Mode { paths: dice.below(MODES.len()), registry_only: batch % 2 == 0 };
        let tables: Vec<_> = (0..10).map(|number| generate::table(&mut dice, number)).collect();
        let compiled = Arc::new(ArcSwap::from_pointee(compile(&tables, mode).unwrap()));
        for index in 0..tables.len() * 100 {
            let table = &tables[index / 100];
            let hosts: Vec<_> = PORTS.iter().flat_map(|port| virtual_hosts(table, *port)).collect();
            let generated = derive::request(&mut dice, table, &hosts);
            let Some(request) = request(&generated) else { continue };
            let case = format!("{request:?}\n{}", crate::referee::rules(table));
            // A quarter is exact in binary: what is drawn does not hang on rounding.
            let quarters = dice.below(4) as u64;
            let open = compiled.load().explain(&request, None);
            let sum: u64 = open.destinations.iter().map(|destination| destination.weight).sum();
            DESTINATION.set(sum * quarters / 4);
            SHARE.set(1_000_000 * quarters / 4);
            let told = compiled.load().explain(&request, Some(f64::from(quarters as u32) / 4.0));
            assert_eq!(told.virtual_service.is_some(), told.rule_index.is_some(), "{told} {case}");
            let passed = passed_over(&told, &hosts, &generated, &format!("{told} {case}"));
            *counts.entry("passed over".into()).or_default() += passed as u64;
            let began = tokio::time::Instant::now();
            let answer = send(&compiled, &request, false).await;
            let delay = told.fault.as_ref().and_then(|fault| fault.delay_ms).unwrap_or_default();
            assert_eq!(began.elapsed().as_millis(), u128::from(delay), "delay: {told} {case}");
            check(&told, &answer, &format!("{told} {case}"));
            if told.request.is_some() {
                let began = tokio::time::Instant::now();
                let answer = send(&compiled, &request, true).await;
                let waited = answer.map(|_| u64::try_from(began.elapsed().as_millis()).unwrap() - delay);
                assert_eq!(told.timeout_ms, waited, "timeout: {told} {case}");
            }
            *counts.entry(format!("{:?}", told.outcome)).or_default() += 1;
            *counts.entry("delegate".into()).or_default() += u64::from(told.delegate.is_some());
            *counts.entry("mirrored".into()).or_default() += u64::from(!told.mirrors.is_empty());
            *counts.entry("timed".into()).or_default() += u64::from(told.timeout_ms.is_some());
            *counts.entry("drawn".into()).or_default() += u64::from(told.destinations.len() > 1);
        }
    }
    println!("{counts:?}");
    for outcome in [
        Outcome::Forward,
        Outcome::Redirect,
        Outcome::DirectResponse,
        Outcome::Abort,
        Outcome::Passthrough,
        Outcome::NoRoute,
        Outcome::Unavailable,
        Outcome::Blocked,
    ] {
        assert!(counts.contains_key(&format!("{outcome:?}")), "{outcome:?}: {counts:?}");
    }
}
