//! A thousand endpoints from one moment to the next.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    common::{World, get, load, until},
    upstream::{Upstream, caller, service},
};

const TASKS: usize = 16;

/// As many addresses of loopback; each connection has a file at either end.
fn thousand() -> Vec<String> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    let many = files.map_or(1000, |files: usize| (files.saturating_sub(300) / 2).min(1000));
    assert!(many == 1000 || std::env::var_os("MESH_REQUIRE_TOOLS").is_none(), "ulimit -n is {files:?}");
    (0..many).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1)).collect()
}

/// Under load: no request fails, each is asked, and no more connections are made than the limits and the load ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_endpoints_at_once_are_all_asked_and_cost_no_request() {
    let all = thousand();
    for (protocol, pool) in [("http", "tcp: {maxConnections: 1}"), ("http2", "http: {maxRetries: 1}")] {
        let upstream = Upstream::start(protocol, 100).await;
        let world = World::new();
        let policy = format!("loadBalancer: {{simple: ROUND_ROBIN}}, connectionPool: {{{pool}}}");
        service(&world, protocol, upstream.port, &all[..1], &policy);
        let (mesh, client) = caller(world.builder("caller", "v1")).await;
        let done = Arc::new(AtomicBool::new(false));
        let enough = Arc::clone(&done);
        let under_load = tokio::spawn(async move {
            let check = |_, response: http::Response<bytes::Bytes>| assert_eq!(response.status(), 200);
            let uri = |_| get("http://all.example/");
            load(&client, TASKS, uri, check, move |_| enough.load(Ordering::Relaxed)).await
        });
        until("the first is asked", async || upstream.at(&all[0]).requests > 100).await;
        service(&world, protocol, upstream.port, &all, &policy);
        until("all are known", async || mesh.endpoints("all.example", 80).len() == all.len()).await;
        until("all are asked", async || under_load.is_finished() || upstream.each().len() == all.len()).await;
        done.store(true, Ordering::Relaxed);
        let requests = under_load.await.unwrap();
        let most = upstream.each().iter().map(|seen| seen.accepted).max().unwrap();
        println!("{protocol}: {requests} requests, {} connections, at most {most} to one", upstream.accepted());
        // maxConnections, of which every endpoint has its first; a burst of HTTP/2 requests shares one.
        assert_eq!((upstream.accepted(), most), (all.len(), 1), "{protocol}");
    }
}
