//! Local rate limits in both stacks, from MeshPolicy and from code, over real connections.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use axum::{Router, routing::any};
use bytes::Bytes;
use common::{Running, World, fetch, get, until};
use http::{Request, Response};
use mesh::{Body, Exchange, Mesh, RateLimit, RateLimits, TokenBucket};

/// Nobody waits for an hour: what is in a bucket is what there is.
fn policy(name: &str, rest: &str) -> String {
    format!("apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: {name}}}\nspec:\n{rest}\n")
}

async fn app(world: &World) -> Running {
    world.service("a", 80, "http");
    world.run("a", "v1", Router::new().fallback(any(|| async { "hello" }))).await
}

fn flags(response: &Response<Bytes>) -> String {
    response.extensions().get::<Exchange>().unwrap().flags.to_string()
}

async fn status(mesh: &Mesh, uri: &str) -> u16 {
    fetch(&mesh.client(), get(uri)).await.status().as_u16()
}

/// Wait until an unrelated change of configuration is in force.
async fn another_change(world: &World, mesh: &Mesh, name: &str) {
    world.write(
        &format!("{name}.yaml"),
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
             hosts: [{name}.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints: [{{address: 127.0.0.9}}]\n"
        ),
    );
    let host = format!("{name}.example");
    until("the change is in force", || async { !mesh.endpoints(&host, 80).is_empty() }).await;
}

#[tokio::test]
async fn inbound_each_identity_has_its_bucket_and_a_change_leaves_it_as_it_is() {
    let world = World::new();
    let limit = |tokens: u32| {
        policy(
            "a",
            &format!(
                "  selector: {{matchLabels: {{app: a}}}}
  localRateLimit:
    inbound:
    - name: each-caller
      match: [{{uri: {{prefix: /limited}}}}]
      tokenBucket: {{maxTokens: {tokens}, fillInterval: 1h}}
      key: {{principal: true}}"
            ),
        )
    };
    world.write("limit.yaml", &limit(2));
    let a = app(&world).await;
    let (one, two) = (world.mesh("one", "v1").await, world.mesh("two", "v1").await);
    assert_eq!([status(&one, "http://a/limited").await, status(&one, "http://a/limited").await], [200, 200]);
    let refused = fetch(&one.client(), get("http://a/limited")).await;
    assert_eq!((refused.status().as_u16(), &refused.body()[..]), (429, &b"local_rate_limited"[..]));
    // The caller's side did nothing; the flag is the callee's.
    assert_eq!(flags(&refused), "-");
    assert!(a.mesh.metrics_text().contains("response_flags=\"RL\""));
    assert_eq!(status(&one, "http://a/other").await, 200);
    assert_eq!(status(&two, "http://a/limited").await, 200, "another identity");

    let grpc = Request::post("http://a/limited").header("content-type", "application/grpc").body(Body::empty());
    let refused = fetch(&one.client(), grpc.unwrap()).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"14".parse().unwrap()));

    another_change(&world, &a.mesh, "unrelated").await;
    assert_eq!(status(&one, "http://a/limited").await, 429, "what was used up stays so");
    assert_eq!(status(&two, "http://a/limited").await, 200, "and what is left is left");
    assert_eq!(status(&two, "http://a/limited").await, 429);

    // A bad policy changes nothing: its last good version stays.
    world.write("limit.yaml", &limit(0));
    until("the error is reported", || async { a.mesh.issues().iter().any(|i| i.message.contains("maxTokens")) }).await;
    assert_eq!(status(&one, "http://a/limited").await, 429);
    // Another limit starts full.
    world.write("limit.yaml", &limit(1));
    until("the limit is in force", || async { status(&one, "http://a/limited").await == 200 }).await;
    assert_eq!(status(&one, "http://a/limited").await, 429);

    let metrics = a.mesh.metrics_text();
    let counted = metrics.lines().find(|line| line.starts_with("mesh_rate_limited_total"));
    assert!(counted.is_some_and(|line| line.contains("limit=\"default/a.each-caller\"")), "{metrics}");
    assert!(metrics.contains("mesh_rate_limit_overflow_total{direction=\"inbound\""), "{metrics}");
}

/// Who may not ask takes nobody's tokens.
#[tokio::test]
async fn authorization_comes_first() {
    let world = World::new();
    world.write(
        "policies.yaml",
        &(policy("a", "  localRateLimit: {inbound: [{tokenBucket: {maxTokens: 1, fillInterval: 1h}}]}")
            + "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a}
spec: {selector: {matchLabels: {app: a}}, rules: [{to: [{operation: {paths: [/open]}}]}]}
"),
    );
    let _a = app(&world).await;
    let caller = world.mesh("caller", "v1").await;
    assert_eq!(status(&caller, "http://a/closed").await, 403);
    assert_eq!(status(&caller, "http://a/open").await, 200);
    assert_eq!(status(&caller, "http://a/closed").await, 403);
    assert_eq!(status(&caller, "http://a/open").await, 429);
}

#[tokio::test]
async fn outbound_limits_count_requests_and_not_their_retries() {
    let world = World::new();
    let _a = app(&world).await;
    world.service("b", 80, "http");
    world.run("b", "v1", Router::new().fallback(any(|| async { http::StatusCode::SERVICE_UNAVAILABLE }))).await;
    world.write(
        "limit.yaml",
        &(policy(
            "caller",
            "  localRateLimit:\n    outbound: [{hosts: [b], tokenBucket: {maxTokens: 2, fillInterval: 1h}}]",
        ) + "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b}
spec:
  hosts: [b]
  http: [{route: [{destination: {host: b}}], retries: {attempts: 3, retryOn: '503', backoff: 1ms}}]
"),
    );
    let caller = world.mesh("caller", "v1").await;
    for _ in 0..2 {
        let response = fetch(&caller.client(), get("http://b/")).await;
        assert_eq!((response.status().as_u16(), response.extensions().get::<Exchange>().unwrap().attempts), (503, 4));
    }
    let refused = fetch(&caller.client(), get("http://b/")).await;
    assert_eq!((refused.status().as_u16(), flags(&refused)), (429, "RL".into()));
    assert_eq!(refused.extensions().get::<Exchange>().unwrap().attempts, 0);
    assert_eq!(status(&caller, "http://a/").await, 200);
}

/// Retries ended below: a mesh client above does not begin anew, and the application sees what ended them.
#[tokio::test]
async fn retries_do_not_multiply_from_tier_to_tier() {
    let world = World::new();
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&seen);
    world.service("leaf", 80, "http");
    let failing = any(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async { http::StatusCode::SERVICE_UNAVAILABLE }
    });
    let _leaf = world.run("leaf", "v1", Router::new().fallback(failing)).await;
    world.service("tier", 80, "http");
    for name in ["leaf", "tier"] {
        world.write(
            &format!("route-{name}.yaml"),
            &format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  \
                 hosts: [{name}]\n  http:\n  - route: [{{destination: {{host: {name}}}}}]\n    \
                 retries: {{attempts: 2, retryOn: '503', backoff: 1ms}}\n"
            ),
        );
    }
    // A tier that passes on what it gets.
    let below = world.mesh("below", "v1").await.client::<Body>();
    let pass = any(move || {
        let below = below.clone();
        async move { fetch(&below, get("http://leaf/")).await.map(axum::body::Body::from) }
    });
    let _tier = world.run("tier", "v1", Router::new().fallback(pass)).await;
    let caller = world.mesh("caller", "v1").await;
    let response = fetch(&caller.client(), get("http://tier/")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-mesh-retries-exhausted"]),
        (503, &"limit".parse().unwrap())
    );
    assert_eq!(response.extensions().get::<Exchange>().unwrap().attempts, 1);
    assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[tokio::test]
async fn limits_made_in_code_are_in_force_beside_those_of_the_policy() {
    let world = World::new();
    let _a = app(&world).await;
    let bucket = TokenBucket::new(2, 1, Duration::from_secs(3600)).unwrap();
    let limits = RateLimits::default().with_outbound(RateLimit::new(bucket));
    let caller = world.builder("caller", "v1").rate_limits(limits).start().await.unwrap();
    assert_eq!(status(&caller, "http://a/").await, 200);
    world.write(
        "limit.yaml",
        &policy(
            "caller",
            "  localRateLimit:\n    outbound: [{match: [{uri: {prefix: /x}}], tokenBucket: {maxTokens: 1, fillInterval: 1h}}]",
        ),
    );
    another_change(&world, &caller, "unrelated").await;
    let response = fetch(&caller.client(), get("http://a/x")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(status(&caller, "http://a/").await, 429, "the second of two tokens is gone");
}

#[tokio::test]
async fn a_field_that_nobody_knows_ends_the_start() {
    let world = World::new();
    world.write("limit.yaml", &policy("a", "  rateLimits: []"));
    let error = world.builder("caller", "v1").start().await.unwrap_err();
    assert!(
        error.to_string().contains("limit.yaml:5:3: error: MeshPolicy default/a: unknown field `rateLimits`"),
        "{error}"
    );
}
