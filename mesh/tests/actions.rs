//! What rules do beside forwarding, over real connections.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::{Arc, Mutex};

use axum::{Router, extract::Request};
use common::{World, fetch, get, until};
use http_body_util::BodyExt as _;
use mesh::{Body, Exchange};

type Log = Arc<Mutex<Vec<String>>>;

/// Notes each request: path, host, body, and what a rewrite leaves behind.
fn noting(log: &Log) -> Router {
    let log = Arc::clone(log);
    Router::new().fallback(move |request: Request| {
        let log = Arc::clone(&log);
        async move {
            let (head, body) = request.into_parts();
            let header = |name: &str| head.headers.get(name).map_or("-", |v| v.to_str().unwrap()).to_owned();
            let (host, before) = (header("host"), header("x-envoy-original-path"));
            let body = body.collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            log.lock().unwrap().push(format!("{} {host} {before} {body}", head.uri));
            "answered"
        }
    })
}

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, redirectCode: 308}
  - match: [{uri: {exact: /teapot}}]
    directResponse: {status: 418, body: {string: teapot}}
  - match: [{uri: {prefix: /team}}]
    delegate: {name: team}
  - match: [{uri: {prefix: /api/}}]
    rewrite: {uri: /}
    mirror: {host: rehearsal}
    corsPolicy: {allowOrigins: [{exact: 'https://ok.test'}], allowMethods: [GET]}
    route: [{destination: {host: shop}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: team}
spec:
  http: [{match: [{uri: {exact: /team/a}}], route: [{destination: {host: shop}}]}]
";

#[tokio::test]
async fn rules_answer_rewrite_mirror_and_delegate() {
    let world = World::new();
    world.service("shop", 80, "http");
    world.service("rehearsal", 80, "http");
    world.write("rules.yaml", RULES);
    let (shop, rehearsal) = (Log::default(), Log::default());
    let _shop = world.run("shop", "v1", noting(&shop)).await;
    let _rehearsal = world.run("rehearsal", "v1", noting(&rehearsal)).await;
    let caller = world.mesh("caller", "v1").await;
    until("both are known", || async {
        ["shop", "rehearsal"].iter().all(|host| caller.endpoints(host, 80).len() == 1)
    })
    .await;
    let client = caller.client();

    let response = fetch(&client, get("http://shop/old?q=1")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (308, &"http://shop/new?q=1".parse().unwrap())
    );
    let response = fetch(&client, get("http://shop/teapot")).await;
    assert_eq!((response.status().as_u16(), &**response.body()), (418, &b"teapot"[..]));
    let exchange = response.extensions().get::<Exchange>().unwrap();
    assert_eq!((exchange.details, exchange.endpoint.is_none()), ("direct_response", true));
    assert!(shop.lock().unwrap().is_empty());

    let body = "x".repeat(100_000);
    let request = http::Request::post("http://shop/api/a?b").header("origin", "https://ok.test");
    let response = fetch(&client, request.body(Body::from(body.clone())).unwrap()).await;
    assert_eq!((response.status().as_u16(), &**response.body()), (200, &b"answered"[..]));
    assert_eq!(response.headers()["access-control-allow-origin"], "https://ok.test");
    let expected = format!("/a?b shop /api/a?b {body}");
    assert_eq!(*shop.lock().unwrap(), std::slice::from_ref(&expected));
    until("the rehearsal has it", || async { !rehearsal.lock().unwrap().is_empty() }).await;
    assert_eq!(*rehearsal.lock().unwrap(), [expected]);

    assert_eq!(fetch(&client, get("http://shop/team/a")).await.status(), 200);
    assert_eq!(fetch(&client, get("http://shop/team/b")).await.status(), 404);
}
