//! Requests that the suite makes in Go code, so that no vector has them: the manifests are the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Empty;
use mesh_core::Reason;

use super::world::World;

const NAMESPACE: &str = "gateway-conformance-infra";

fn world(file: &str) -> Option<World> {
    mesh_test::shared("gateway-api/manifests")?;
    Some(World::of(file, NAMESPACE, true))
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://same-namespace{path}")).body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn http_route_retry() {
    let Some(world) = world("httproute-retry.yaml") else { return };
    // gateway API HTTPRouteRetry.attempts: "the maximum number of times an individual request … should be retried"
    for (path, code, tries) in [
        ("/retry/code-500-attempts-3", StatusCode::INTERNAL_SERVER_ERROR, 4),
        ("/retry/code-all-attempts-2", StatusCode::INTERNAL_SERVER_ERROR, 3),
        ("/retry/code-500-attempts-3", StatusCode::NOT_IMPLEMENTED, 1),
    ] {
        let behave = match code {
            StatusCode::NOT_IMPLEMENTED => |_: &_, _| Ok(StatusCode::NOT_IMPLEMENTED),
            _ => |_: &_, _| Ok(StatusCode::INTERNAL_SERVER_ERROR),
        };
        let (response, seen) = world.send_to(get(path), HeaderMap::new(), behave).await;
        assert_eq!((response.status(), seen.len()), (code, tries), "{path}");
        assert!(seen.iter().all(|echo| echo.backend == "infra-backend-v3"));
    }
    let recovers = |_: &_, attempt| Ok(if attempt < 3 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK });
    let (response, seen) = world.send_to(get("/retry/code-500-attempts-3"), HeaderMap::new(), recovers).await;
    assert_eq!((response.status(), seen.len()), (StatusCode::OK, 3));
}

#[tokio::test(start_paused = true)]
async fn http_route_retry_with_timeouts() {
    let Some(world) = world("httproute-retry-with-timeouts.yaml") else { return };
    // istio convertHTTPRoute: with `retry` the backendRequest timeout is that of each try; measured on Envoy 1.40 (t3, t5):
    // the conditions that a stanza stands for do not retry it
    let slow = get("/retry/backend-request-timeout-200ms?delay=1s");
    let (response, seen) = world.send(slow, HeaderMap::new()).await;
    assert_eq!((response.status(), seen.len()), (StatusCode::GATEWAY_TIMEOUT, 1));
    let (response, _) = world.send(get("/retry/backend-request-timeout-200ms"), HeaderMap::new()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let started = tokio::time::Instant::now();
    let (response, _) = world.send(get("/retry/request-timeout-200ms?delay=1s"), HeaderMap::new()).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(started.elapsed().as_millis() <= 400);
}

#[tokio::test(start_paused = true)]
async fn http_route_retry_connection_error() {
    let Some(world) = world("httproute-retry-connection-error.yaml") else { return };
    // gateway API HTTPRouteRule.retry: "Implementations SHOULD retry on connection errors (disconnect, reset, timeout, TCP
    // failure) if a retry stanza is configured."
    let first_fails = |_: &_, attempt| if attempt == 1 { Err(Reason::ConnectFailure) } else { Ok(StatusCode::OK) };
    let path = get("/retry/no-status-code-attempts-3");
    let (response, seen) = world.send_to(path, HeaderMap::new(), first_fails).await;
    assert_eq!((response.status(), seen.len()), (StatusCode::OK, 2));
}

#[tokio::test(start_paused = true)]
async fn headers_of_backends() {
    let Some(world) = world("httproute-request-header-modifier-backend.yaml") else { return };
    let told = |path: &'static str, given: &'static [(&str, &str)], name: &'static str| {
        let mut request = get(path);
        for (name, value) in given {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let world = &world;
        async move {
            let (_, seen) = world.send(request, HeaderMap::new()).await;
            let all = seen[0].headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
            all.collect::<Vec<_>>().join(",")
        }
    };
    assert_eq!(told("/set", &[("x-header-set", "some-other-value")], "x-header-set").await, "set-overwrites-values");
    assert_eq!(told("/add", &[("x-header-add", "other")], "x-header-add").await, "other,add-appends-values");
    assert_eq!(told("/remove", &[("x-header-remove", "val")], "x-header-remove").await, "");
    assert_eq!(told("/multiple", &[("x-header-add-2", "val")], "x-header-add-2").await, "val,header-add-2");
    assert_eq!(told("/case-insensitivity", &[("X-HEADER-SET", "val")], "x-header-set").await, "header-set");
}

#[tokio::test(start_paused = true)]
async fn weights_and_headers_of_backends() {
    for (file, uri, expected) in [
        ("httproute-weight.yaml", "http://same-namespace/", [("infra-backend-v1", 70), ("infra-backend-v2", 30)]),
        (
            "grpcroute-weight.yaml",
            "http://same-namespace/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo",
            [("grpc-infra-backend-v1", 70), ("grpc-infra-backend-v2", 30)],
        ),
    ] {
        let Some(world) = world(file) else { return };
        let mut shares: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..100 {
            let request = Request::post(uri).body(Empty::new()).unwrap();
            let (_, seen) = world.send(request, HeaderMap::new()).await;
            *shares.entry(seen[0].backend.clone()).or_default() += 1;
        }
        let expected = expected.map(|(backend, share)| (backend.to_owned(), share));
        assert_eq!(shares, BTreeMap::from(expected), "{file}");
    }
    // gateway API HTTPBackendRef.filters: each backend's header tells which one it was.
    let Some(world) = world("httproute-request-header-modifier-backend-weights.yaml") else { return };
    let mut shares: BTreeMap<(String, String), u32> = BTreeMap::new();
    for _ in 0..100 {
        let (_, seen) = world.send(get("/"), HeaderMap::new()).await;
        let told = seen[0].headers.get("backend").map_or(String::new(), |value| value.to_str().unwrap().to_owned());
        *shares.entry((seen[0].backend.clone(), told)).or_default() += 1;
    }
    let of = |backend: &str, told: &str, share| ((backend.to_owned(), told.to_owned()), share);
    assert_eq!(
        shares,
        BTreeMap::from([
            of("infra-backend-v1", "infra-backend-v1", 50),
            of("infra-backend-v2", "infra-backend-v2", 50)
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn names_of_rules_and_protocols_of_backends() {
    let Some(named) = world("httproute-named-rule.yaml") else { return };
    // gateway API HTTPRouteRule.name; istio convertHTTPRoute names what has none by its place
    for (path, name) in [("/named", "named-rule"), ("/unnamed", "gateway-conformance-infra.http-named-rules.1")] {
        let (_, seen) = named.send(get(path), HeaderMap::new()).await;
        assert_eq!(seen[0].route, name);
    }
    for (file, backend) in [
        ("httproute-backend-protocol-websocket.yaml", "infra-backend-v1"),
        ("httproute-backend-protocol-h2c.yaml", "infra-backend-v1"),
    ] {
        let Some(world) = world(file) else { return };
        let (response, seen) = world.send(get("/ws"), HeaderMap::new()).await;
        assert_eq!((response.status(), &*seen[0].backend), (StatusCode::OK, backend), "{file}");
    }
}
