//! Configuration changes under load: each is one atomic swap.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{Router, routing::get as route};
use common::{World, get, load, until};

/// Change `n`: the route and the subset that it points at have a name that no other change has, so that half of a change
/// is a subset that nobody defined (503 NC); and the response says which change routed it, and which version answered.
fn rules(n: usize) -> String {
    let version = if n.is_multiple_of(2) { "v1" } else { "v2" };
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a}}
spec:
  hosts: [a]
  http:
  - route: [{{destination: {{host: a, subset: s{n}}}}}]
    headers: {{response: {{set: {{x-change: '{n}'}}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec:
  host: a
  subsets: [{{name: s{n}, labels: {{version: {version}}}}}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_swaps_under_load_fail_nothing_and_split_nothing() {
    const SWAPS: usize = 20;
    const REQUESTS: usize = 20_000;
    let world = World::new();
    world.service("a", 80, "http");
    world.write("rules.yaml", &rules(0));
    let _v1 = world.run("a", "v1", Router::new().route("/", route(|| async { "v1" }))).await;
    let _v2 = world.run("a", "v2", Router::new().route("/", route(|| async { "v2" }))).await;
    let caller = world.mesh("caller", "v1").await;

    let seen: Arc<Mutex<BTreeSet<usize>>> = Arc::default();
    let answered = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let check = {
        let (seen, answered) = (Arc::clone(&seen), Arc::clone(&answered));
        move |_: usize, response: http::Response<bytes::Bytes>| {
            assert_eq!(response.status(), 200, "{response:?}");
            let change: usize = response.headers()["x-change"].to_str().unwrap().parse().unwrap();
            let version = if change.is_multiple_of(2) { "v1" } else { "v2" };
            assert_eq!(response.body(), version, "change {change} was routed to the endpoints of another");
            seen.lock().unwrap().insert(change);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let enough = {
        let done = Arc::clone(&done);
        move |index: usize| index >= REQUESTS && done.load(Ordering::Relaxed)
    };
    let client = caller.client();
    let running = tokio::spawn(async move { load(&client, 16, |_| get("http://a/"), check, enough).await });

    for n in 1..=SWAPS {
        // Each change waits until it has routed requests, and the load until it has had its share of them.
        until("the load goes on", || async { answered.load(Ordering::Relaxed) >= REQUESTS / (SWAPS + 1) * n }).await;
        world.write("rules.yaml", &rules(n));
        until("the change takes effect", || async { seen.lock().unwrap().contains(&n) }).await;
    }
    done.store(true, Ordering::Relaxed);
    let sent = running.await.unwrap();
    assert!(sent >= REQUESTS, "{sent} requests");
    assert_eq!(answered.load(Ordering::Relaxed), sent, "every request was answered");
    assert_eq!(seen.lock().unwrap().len(), SWAPS + 1, "every change was seen");
}
