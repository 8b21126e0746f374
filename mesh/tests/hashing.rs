//! Consistent hashing over real connections, with a route's retries around it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::{HashMap, HashSet};

use axum::{Router, extract::Request, http::StatusCode};
use common::{World, fetch, until};
use mesh::{Body, Client};

/// Says who it is, and fails where the request asks it to.
fn saying(who: &'static str) -> Router {
    Router::new().fallback(move |request: Request| async move {
        let fails = request.headers().get("x-fails").is_some_and(|value| value == who);
        (if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, who)
    })
}

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
  subsets:
  - name: sessions
    trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: session, ttl: 0s}, maglev: {tableSize: 1009}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - match: [{uri: {prefix: /sessions}}]
    route: [{destination: {host: shop, subset: sessions}}]
    retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}
  - match: [{uri: {prefix: /elsewhere}}]
    route: [{destination: {host: shop}}]
    retries: {attempts: 2, retryOn: 5xx, backoff: 1ms, retryIgnorePreviousHosts: true}
  - route: [{destination: {host: shop}}]
    retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}
";

async fn ask(client: &Client, path: &str, headers: &[(&str, &str)]) -> (u16, String, Option<String>) {
    let request = headers
        .iter()
        .fold(http::Request::get(format!("http://shop{path}")), |request, (name, value)| request.header(*name, *value));
    let response = fetch(client, request.body(Body::empty()).unwrap()).await;
    let cookie = response.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
    (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned(), cookie)
}

#[tokio::test]
async fn a_key_keeps_its_endpoint() {
    let world = World::new();
    world.service("shop", 80, "http");
    world.write("rules.yaml", RULES);
    let _one = world.run("shop", "v1", saying("one")).await;
    let _two = world.run("shop", "v2", saying("two")).await;
    let caller = world.mesh("caller", "v1").await;
    until("both are known", || async { caller.endpoints("shop", 80).len() == 2 }).await;
    let client = caller.client();

    let mut homes = HashMap::new();
    for n in 0..40 {
        let user = format!("user-{n}");
        let (_, home, cookie) = ask(&client, "/", &[("x-user", &user)]).await;
        assert_eq!(cookie, None);
        for _ in 0..3 {
            assert_eq!(ask(&client, "/", &[("x-user", &user)]).await.1, home, "{user}");
        }
        homes.insert(user, home);
    }
    assert_eq!(homes.values().collect::<HashSet<_>>().len(), 2);

    // istio retry.go ConvertPolicy: "When Consistent Hashing is enabled, we don't want to use other hosts during
    // retries", but "User has specified RetryIgnorePreviousHosts, so honor it."
    for (user, home) in &homes {
        let headers = [("x-user", user.as_str()), ("x-fails", home.as_str())];
        assert_eq!(ask(&client, "/", &headers).await.0, 503, "all three tries at {home}");
        let (status, other, _) = ask(&client, "/elsewhere", &headers).await;
        assert!(status == 200 && other != *home, "{status} {other}");
    }

    // A client without a session is given one; whatever a retry does, it has one cookie and one endpoint.
    let mut seen = HashSet::new();
    for n in 0..40 {
        let fails = ["", "one", "two"][n % 3];
        let (status, home, cookie) = ask(&client, "/sessions", &[("x-fails", fails)]).await;
        assert_eq!(status == 503, home == fails, "a session's retries stay");
        let cookie = cookie.unwrap();
        let pair = cookie.strip_suffix("; HttpOnly").unwrap();
        let (_, again, given) = ask(&client, "/sessions", &[("cookie", pair)]).await;
        assert_eq!((again, given), (home.clone(), None));
        seen.insert(home);
    }
    assert_eq!(seen.len(), 2);
}
