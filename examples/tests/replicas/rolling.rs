//! Deployments: every replica of a service is replaced by a new one, again and again, under load.

use std::{collections::VecDeque, time::Instant};

use http::Method;
use tokio::task::JoinSet;

use crate::{
    load::{Load, TASKS, summary},
    world::{Kind, World},
};

const REPLICAS: usize = 3;

/// How many times all replicas are replaced: `MESH_RESTARTS`, else 100. Each takes less than half a second.
fn restarts() -> usize {
    std::env::var("MESH_RESTARTS").map_or(100, |text| text.parse().unwrap_or_else(|_| panic!("MESH_RESTARTS={text}")))
}

/// As Kubernetes does it with maxSurge 1 and maxUnavailable 0: a new replica, then SIGTERM to an old one. Half of the
/// requests are POST, half go over HTTP/1.1 and half over HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_lose_nothing() {
    let (world, restarts) = (World::new(Kind::Http2), restarts());
    let mut serving = VecDeque::new();
    for _ in 0..REPLICAS {
        serving.push_back(world.replica().await);
    }
    let client = world.client("").await;
    let load = Load::start(&client, &["http://slow:9080/", "http://slow:9081/"], &[Method::GET, Method::POST]);
    load.more(200).await;
    let (began, mut leaving) = (Instant::now(), JoinSet::new());
    for _ in 0..REPLICAS * restarts {
        serving.push_back(world.replica().await);
        let mut old = serving.pop_front().unwrap();
        old.terminate();
        leaving.spawn(async move { old.exit().await.code() });
        // No more at a time than a deployment that waits for them has.
        if leaving.len() >= REPLICAS {
            assert_eq!(leaving.join_next().await.unwrap().unwrap(), Some(0), "it ends by itself");
        }
    }
    let took = began.elapsed();
    load.more(200).await;
    let sent = load.stop().await;
    while let Some(left) = leaving.join_next().await {
        assert_eq!(left.unwrap(), Some(0), "it ends by itself");
    }
    let posts = sent.iter().filter(|sent| sent.method == Method::POST).count();
    let answered: std::collections::BTreeSet<_> = sent.iter().map(|sent| &sent.endpoint).collect();
    println!(
        "{restarts} restarts of {REPLICAS} replicas in {took:?}: {} requests, {posts} of them POST, {} replicas answered",
        sent.len(),
        answered.len(),
    );
    let failed = summary(sent.iter().filter(|sent| sent.failure.is_some()), began);
    assert!(failed.is_empty(), "of {} requests:\n{failed}", sent.len());
    assert!(posts.abs_diff(sent.len() - posts) <= TASKS);
    assert!(answered.len() > REPLICAS * restarts / 2, "new replicas take part: {}", answered.len());
}
