use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use mesh_core::{
    ClusterName, Connection, Error, Exchange, LocalReplyLayer, Routed, ServiceName,
    config::{Document, Issues},
    identity::PeerIdentity,
};
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn bucket(max: u32, per_fill: u32, interval: Duration) -> TokenBucket {
    TokenBucket::new(max, per_fill, interval).unwrap()
}

fn header(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

fn admits<R: Limitable>(limits: &RateLimits, side: Side, request: &R, now: Instant) -> bool {
    limits.admit(side, request, || now).is_ok()
}

fn read(section: &str) -> Result<RateLimits, String> {
    let mut issues = Issues::default();
    let yaml = format!("apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: p}}\nspec:\n{section}");
    let documents = Document::parse_all("p.yaml", &yaml, &mut issues);
    let limits = RateLimits::from_document(&documents[0], &mut issues);
    assert_eq!(limits.is_none(), issues.has_errors(), "{issues}");
    if issues.is_empty() { Ok(limits.unwrap()) } else { Err(issues.to_string()) }
}

proptest! {
    /// In no span of time more than the bucket holds and what comes in that time; and never fewer than a bucket that is
    /// counted in fractions of tokens admits.
    #[test]
    fn admits_what_a_token_bucket_does(
        max in 1_u32..20,
        per_fill in 1_u32..20,
        millis in 1_u64..2000,
        steps in proptest::collection::vec((0_u64..400, 1_usize..6), 1..60),
    ) {
        let bucket = bucket(max, per_fill, Duration::from_millis(millis));
        let (limiter, start) = (Limiter::new(bucket), Instant::now());
        let token = bucket.per_token().as_nanos();
        let full = token * u128::from(max);
        let (mut level, mut now) = (full, start);
        let mut admitted: Vec<Instant> = Vec::new();
        for (millis, requests) in steps {
            let passed = Duration::from_millis(millis);
            now += passed;
            level = full.min(level + passed.as_nanos());
            for _ in 0..requests {
                let expected = level >= token;
                prop_assert_eq!(limiter.admit(now), expected);
                if expected {
                    level -= token;
                    admitted.push(now);
                }
            }
        }
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let came = to.duration_since(*from).as_nanos() * u128::from(per_fill) / u128::from(millis * 1_000_000);
                prop_assert!((last - first + 1) as u128 <= u128::from(max) + came);
            }
        }
    }
}

#[test]
fn many_threads_take_no_more_than_there_is() {
    let (limiter, now) = (Limiter::keyed(bucket(1000, 1, SECOND), 10), Instant::now());
    let admitted: usize = std::thread::scope(|scope| {
        let take = || (0..1000).filter(|_| limiter.admit_key(now, 7)).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 1000);
}

#[test]
fn time_does_not_go_back() {
    let (limiter, now) = (Limiter::new(bucket(1, 1, SECOND)), Instant::now());
    assert!(limiter.admit(now));
    assert!(limiter.admit(now + SECOND));
    // Said late by another thread: not a second token for the same second.
    assert!(!limiter.admit(now));
    assert!(!limiter.admit(now + SECOND));
}

#[test]
fn keys_are_bounded_and_what_is_over_shares_a_bucket() {
    for max_keys in [1, 100, 10_000] {
        let (limiter, now) = (Limiter::keyed(bucket(2, 2, SECOND), max_keys), Instant::now());
        // Spread as hashes are.
        let key = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        assert!((0..1_000_000).filter(|n| limiter.admit_key(now, key(*n))).count() <= max_keys as usize + 2);
        assert!(limiter.len() <= max_keys as usize);
        assert_eq!(limiter.take_overflowed(), 1_000_000 - limiter.len() as u64);
        // Those that came first have their own still: one token was taken.
        assert!(limiter.admit_key(now, key(0)) && !limiter.admit_key(now, key(0)));
        // Full buckets make room.
        let later = now + 2 * SECOND;
        assert!(limiter.admit_key(later, key(2_000_000)));
        assert_eq!(limiter.take_overflowed(), 0);
        assert!(limiter.len() <= max_keys as usize);
    }
}

#[test]
fn a_bucket_that_is_not_full_keeps_its_place() {
    let (limiter, now) = (Limiter::keyed(bucket(10, 10, 10 * SECOND), 2), Instant::now());
    for _ in 0..10 {
        assert!(limiter.admit_key(now, 1));
    }
    assert!(limiter.admit_key(now, 2));
    // Whoever makes up keys does not get the first its tokens back.
    for other in 3..100 {
        let _ = limiter.admit_key(now + SECOND, other);
    }
    assert!(limiter.admit_key(now + SECOND, 1), "a second's token");
    assert!(!limiter.admit_key(now + SECOND, 1));
    assert_eq!(limiter.len(), 2, "the second's was full, and another took its place");
}

#[test]
fn who_came_last_makes_room_when_its_bucket_is_full() {
    let (limiter, now) = (Limiter::keyed(bucket(10, 10, 10 * SECOND), 2), Instant::now());
    for _ in 0..10 {
        assert!(limiter.admit_key(now, 1));
    }
    assert!(limiter.admit_key(now, 2) && limiter.admit_key(now, 3));
    assert_eq!(limiter.take_overflowed(), 1);
    // The second made room after its second, for the third; the first's is not full before its tenth.
    assert!(limiter.admit_key(now + SECOND, 3) && limiter.admit_key(now + 2 * SECOND, 4));
    assert_eq!((limiter.take_overflowed(), limiter.len()), (0, 2));
}

#[test]
fn each_value_of_a_key_has_its_bucket() {
    let now = Instant::now();
    let of = |key| RateLimits::default().with_inbound(RateLimit::keyed(bucket(1, 1, SECOND), key));
    let user = |name: Option<&str>| {
        let mut request = get("/a?b");
        request.headers_mut().extend(name.map(|name| (header("x-user"), name.parse().unwrap())));
        request
    };
    let peer = |id: &str| {
        let mut request = get("/a");
        let identity = PeerIdentity::new(id.parse().unwrap(), std::time::UNIX_EPOCH, Arc::default());
        request.extensions_mut().insert(identity);
        request
    };
    let [jane, john] = ["jane", "john"].map(|name| user(Some(name)));
    let [a, b] = ["a", "b"].map(|account| peer(&format!("spiffe://cluster.local/ns/default/sa/{account}")));
    let mut of_a = get("/a");
    of_a.headers_mut().insert("x-user", "spiffe://cluster.local/ns/default/sa/a".parse().unwrap());
    let by_user = || KeyBy::header(header("x-user"));
    // Requests in order, and whether each is admitted.
    type Row<'a> = (KeyBy, Vec<(&'a Request<Empty<Bytes>>, bool)>);
    let (nobody, other_path, other_query) = (user(None), get("/b"), get("/a?c"));
    let rows: Vec<Row<'_>> = vec![
        (by_user(), vec![(&jane, true), (&jane, false), (&john, true), (&nobody, true), (&nobody, false)]),
        (KeyBy::principal(), vec![(&a, true), (&a, false), (&b, true), (&nobody, true), (&jane, false)]),
        (KeyBy::path(), vec![(&jane, true), (&other_path, true), (&other_query, false)]),
        (
            by_user().and_path(),
            vec![(&jane, true), (&john, true), (&nobody, true), (&other_path, true), (&jane, false)],
        ),
        // A header is not an identity.
        (by_user().and_principal(), vec![(&a, true), (&of_a, true), (&of_a, false)]),
    ];
    for (key, requests) in rows {
        let limits = of(key.clone());
        for (index, (request, expected)) in requests.into_iter().enumerate() {
            assert_eq!(admits(&limits, Side::Inbound, request, now), expected, "{key:?} {index}");
        }
    }
}

#[test]
fn all_that_match_have_their_say_in_order() {
    let now = Instant::now();
    let limits = read(
        "  localRateLimit:
    inbound:
    - name: all
      tokenBucket: {maxTokens: 3, fillInterval: 1h}
    - name: writes
      match: [{method: {exact: POST}}, {uri: {prefix: /admin}}]
      tokenBucket: {maxTokens: 1, fillInterval: 1h}",
    )
    .unwrap();
    let post = Request::post("/").body(()).unwrap();
    assert!(admits(&limits, Side::Inbound, &post, now));
    let refused = limits.admit(Side::Inbound, &Request::get("/admin/x").body(()).unwrap(), || now);
    assert_eq!(refused.unwrap_err().name(), "default/p.writes");
    // The second's token of the first limit is spent; the third is there.
    assert!(admits(&limits, Side::Inbound, &get("/"), now));
    assert_eq!(limits.admit(Side::Inbound, &get("/"), || now).unwrap_err().name(), "default/p.all");
    assert_eq!(limits.admit(Side::Inbound, &post, || now).unwrap_err().name(), "default/p.all");
    let refused: Vec<_> = limits.iter(Side::Inbound).map(|limit| limit.take_counts().refused).collect();
    assert_eq!(refused, [2, 1]);
    // Requests the other way are another matter, and where there is no limit nobody looks at the clock.
    assert!(limits.admit(Side::Outbound, &get("/"), || unreachable!()).is_ok());
}

#[test]
fn outbound_limits_are_about_destinations() {
    let now = Instant::now();
    let limits = read(
        "  localRateLimit:
    outbound:
    - hosts: [reviews, '*.example.com']
      match: [{port: 9080}]
      tokenBucket: {maxTokens: 1, fillInterval: 1h}",
    )
    .unwrap();
    let routed = |host: &str, port: u16, uri: &str| {
        let service = ServiceName::of_host(host, "default");
        let name = ClusterName { service, port, subset: None };
        Routed::new(Request::get(uri).body(()).unwrap(), Arc::new(name), ())
    };
    let reviews = "reviews.default.svc.cluster.local";
    let outside =
        |uri: &str| Routed::new(Request::get(uri).body(()).unwrap(), Arc::new(ClusterName::passthrough()), ());
    let other = routed("ratings.default.svc.cluster.local", 9080, "http://ratings:9080/");
    assert!(admits(&limits, Side::Outbound, &other, now));
    // The port is that of the service that is sent to, whatever was dialled: another takes no token.
    assert!(admits(&limits, Side::Outbound, &routed(reviews, 9081, "http://reviews:9080/"), now));
    assert!(admits(&limits, Side::Outbound, &routed(reviews, 9080, "http://reviews:9080/"), now));
    assert!(!admits(&limits, Side::Outbound, &routed(reviews, 9080, "http://ratings/"), now));
    // Outside the registry, and without a router: the host it names.
    assert!(!admits(&limits, Side::Outbound, &outside("http://a.example.com:9080/"), now));
    assert!(admits(&limits, Side::Outbound, &outside("http://b.example.org:9080/"), now));
    assert!(!admits(&limits, Side::Outbound, &get("http://a.example.com:9080/"), now));
    // RFC 9110 4.2.3: "The scheme and host are case-insensitive and normally provided in lowercase."
    assert!(!admits(&limits, Side::Outbound, &outside("http://A.Example.COM:9080/"), now));
}

#[test]
fn the_port_of_an_inbound_request_is_the_workloads() {
    let now = Instant::now();
    let yaml = "  localRateLimit: {inbound: [{match: [{port: 8080}], tokenBucket: {maxTokens: 1, fillInterval: 1h}}]}";
    let limits = read(yaml).unwrap();
    let mut request = get("http://reviews:1/");
    let local = "127.0.0.1:8080".parse().unwrap();
    request.extensions_mut().insert(Connection::new("127.0.0.1:9".parse().unwrap(), local));
    assert!(admits(&limits, Side::Inbound, &request, now) && !admits(&limits, Side::Inbound, &request, now));
}

#[test]
fn a_limit_that_stands_as_it_stood_keeps_its_buckets() {
    let now = Instant::now();
    let one = "{name: one, tokenBucket: {maxTokens: 1, fillInterval: 1h}}";
    let two = "{name: two, match: [{method: {exact: PUT}}], tokenBucket: {maxTokens: 1, fillInterval: 1h}}";
    let section = |limits: &str| read(&format!("  localRateLimit: {{inbound: [{limits}]}}")).unwrap();
    let before = section(&format!("{one}, {two}"));
    assert!(admits(&before, Side::Inbound, &get("/"), now));
    // Others come and go, and it stands elsewhere in the list.
    let after = section(&format!("{{name: new, tokenBucket: {{maxTokens: 9, fillInterval: 1h}}}}, {one}"));
    let after = after.continuing(&before);
    assert_eq!(after.admit(Side::Inbound, &get("/"), || now).unwrap_err().name(), "default/p.one");
    // Another bucket is another limit, and starts full.
    let changed = section(&one.replace("maxTokens: 1", "maxTokens: 2")).continuing(&after);
    assert!(admits(&changed, Side::Inbound, &get("/"), now) && admits(&changed, Side::Inbound, &get("/"), now));
    assert!(!admits(&changed, Side::Inbound, &get("/"), now));
    // Of two that are the same, each keeps its own.
    let twice = section(&format!("{one}, {one}")).continuing(&section(&format!("{one}, {one}")));
    assert!(admits(&twice, Side::Inbound, &get("/"), now));
    assert!(!admits(&twice, Side::Inbound, &get("/"), now));
    assert_eq!(twice.iter(Side::Inbound).map(|limit| limit.take_counts().refused).sum::<u64>(), 1);
    // One way is not the other.
    let outbound = read(&format!("  localRateLimit: {{outbound: [{one}]}}")).unwrap().continuing(&before);
    assert!(admits(&outbound, Side::Outbound, &get("/"), now));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_envoys_and_layers_share_the_buckets() {
    // measured on Envoy 1.40: four at once, then one every half second; `429 text/plain local_rate_limited RL`, for
    // gRPC 200 with grpc-status 14 and grpc-message local_rate_limited; no x-envoy-ratelimited
    let limits = RateLimits::default().with_inbound(RateLimit::new(bucket(4, 4, 2 * SECOND)));
    let layer = RateLimitLayer::inbound(Arc::new(ArcSwap::from_pointee(limits)));
    let service = || {
        let inner = service_fn(async |_: Request<Empty<Bytes>>| Ok::<_, Error>(Response::new(Empty::<Bytes>::new())));
        LocalReplyLayer.layer(layer.layer(inner))
    };
    let (one, two) = (service(), service());
    for _ in 0..2 {
        assert_eq!(one.clone().oneshot(get("/")).await.unwrap().status(), 200);
        assert_eq!(two.clone().oneshot(get("/")).await.unwrap().status(), 200);
    }
    let refused = two.clone().oneshot(get("/")).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["content-type"]), (429, &"text/plain".parse().unwrap()));
    assert!(!refused.headers().contains_key("x-envoy-ratelimited"));
    let exchange = refused.extensions().get::<Exchange>().unwrap();
    assert_eq!((exchange.flags.to_string().as_str(), exchange.details), ("RL", "local_rate_limited"));
    assert_eq!(refused.into_body().collect().await.unwrap().to_bytes(), "local_rate_limited");

    let mut grpc = get("/");
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let refused = one.clone().oneshot(grpc).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
    assert_eq!(refused.headers()["grpc-message"], "local_rate_limited");

    tokio::time::advance(Duration::from_millis(499)).await;
    assert_eq!(one.clone().oneshot(get("/")).await.unwrap().status(), 429);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(one.clone().oneshot(get("/")).await.unwrap().status(), 200);
    assert_eq!(two.clone().oneshot(get("/")).await.unwrap().status(), 429);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let bucket = "tokenBucket: {maxTokens: 1, fillInterval: 1s}";
    for (limit, expected) in [
        ("{}", "[0].tokenBucket: a limit needs a tokenBucket"),
        ("{tokenBucket: {maxTokens: 1}}", "[0].tokenBucket: a tokenBucket needs a fillInterval"),
        (
            "{tokenBucket: {fillInterval: 1s}}",
            "[0].tokenBucket.maxTokens: maxTokens must be in the range 1..4294967295",
        ),
        (
            "{tokenBucket: {maxTokens: 4294967296, fillInterval: 1s}}",
            "[0].tokenBucket.maxTokens: maxTokens must be in the range 1..4294967295",
        ),
        (
            "{tokenBucket: {maxTokens: 1, tokensPerFill: 0, fillInterval: 1s}}",
            "[0].tokenBucket.tokensPerFill: tokensPerFill must be in the range 1..4294967295",
        ),
        (
            "{tokenBucket: {maxTokens: 1, fillInterval: 0s}}",
            "[0].tokenBucket.fillInterval: fillInterval must be greater than 0",
        ),
        ("{tokenBucket: {maxTokens: 1, fillInterval: 5}}", "[0].tokenBucket.fillInterval: "),
        ("{tokenBuckets: {}}", "[0]: unknown field `tokenBuckets`"),
        ("{BUCKET, key: {}}", "[0].key: at least one part of a key must be set"),
        ("{BUCKET, key: {header: 'a b'}}", "[0].key.header: header name a b is not a valid header name"),
        ("{BUCKET, key: {path: true, maxKeys: 0}}", "[0].key.maxKeys: maxKeys must be in the range 1..1000000"),
        ("{BUCKET, key: {cookie: a}}", "[0].key: unknown field `cookie`"),
        ("{BUCKET, match: [{sourceLabels: {a: b}}]}", "[0].match[0].sourceLabels: has no place in a limit"),
        ("{BUCKET, match: [{gateways: [mesh]}]}", "[0].match[0].gateways: has no place in a limit"),
        ("{BUCKET, match: [{uri: {regex: '('}}]}", "[0].match[0].uri.regex: "),
        ("{BUCKET, hosts: [a]}", "[0]: unknown field `hosts`"),
    ] {
        let section = format!("  localRateLimit:\n    inbound:\n    - {}", limit.replace("BUCKET", bucket));
        let error = read(&section).unwrap_err();
        let expected = format!("MeshPolicy default/p localRateLimit.inbound{expected}");
        assert!(error.starts_with("p.yaml:7:") && error.contains(&expected), "{limit}: {error}");
    }
    let error = read(&format!("  localRateLimit: {{outbound: [{{{bucket}, key: {{principal: true}}}}]}}")).unwrap_err();
    assert!(error.contains("localRateLimit.outbound[0].key: unknown field `principal`"), "{error}");
    let error = read(&format!("  localRateLimit: {{outbound: [{{{bucket}, hosts: ['a*b']}}]}}")).unwrap_err();
    assert!(error.contains("localRateLimit.outbound[0].hosts[0]: partial wildcard"), "{error}");
    assert_eq!(read("  {}").unwrap().iter(Side::Inbound).len(), 0);
}
