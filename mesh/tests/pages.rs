//! The pages beside the traffic: metrics and probes for anybody, the rest for this machine.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get as route};
use common::{World, fetch, get, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Ask for a page as any HTTP client would; the whole answer.
async fn page(address: SocketAddr, path: &str, host: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_and_probes_for_scrapers() {
    let world = World::new();
    world.service("a", 80, "http");
    let server = world.run("a", "v1", Router::new().route("/", route(|| async { "a" }))).await;
    let caller = world.mesh("caller", "v1").await;
    assert_eq!(fetch(&caller.client(), get("http://a/")).await.status(), 200);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mesh = server.mesh.clone();
    let serving = tokio::spawn(async move { mesh.serve_observability(listener).await });
    let metrics = page(address, "/metrics", "scraped").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("istio_requests_total{reporter=\"destination\""), "{metrics}");
    assert!(page(address, "/ready", "probed").await.starts_with("HTTP/1.1 200"));
    assert!(page(address, "/live", "probed").await.starts_with("HTTP/1.1 200"));
    // Nothing else: this port may face anybody.
    assert!(page(address, "/clusters", "anybody").await.starts_with("HTTP/1.1 404"));

    // While shutting down: alive, not ready, and the last numbers can still be read.
    let leaving = tokio::spawn({
        let mesh = server.mesh.clone();
        async move { mesh.shutdown(Duration::from_secs(10)).await }
    });
    until("not ready", || async {
        leaving.is_finished() || page(address, "/ready", "probed").await.starts_with("HTTP/1.1 503")
    })
    .await;
    drop(caller);
    assert!(leaving.await.unwrap(), "every connection ended by itself");
    serving.await.unwrap().unwrap();
    server.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_admin_pages_are_for_this_machine() {
    let world = World::new();
    world.service("a", 80, "http");
    world.write("warns.yaml", "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {}\n");
    let server = world.run("a", "v1", Router::new()).await;
    until("a is its own endpoint", || async { server.mesh.issues().len() == 1 }).await;
    let open = TcpListener::bind("0.0.0.0:0").await.unwrap();
    assert!(server.mesh.serve_admin(open).await.is_err(), "never on an address that others reach");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mesh = server.mesh.clone();
    tokio::spawn(async move { mesh.serve_admin(listener).await });
    let issues = page(address, "/issues", "localhost").await;
    assert!(issues.contains("warns.yaml:4:7: warning: Sidecar default/s"), "{issues}");
    let healthy = format!("outbound|80||a.default.svc.cluster.local::{}::health_flags::healthy", server.address);
    until("the endpoint is listed", || async { page(address, "/clusters", "127.0.0.1").await.contains(&healthy) })
        .await;
    let certs = page(address, "/certs", "127.0.0.1:1").await;
    assert!(certs.contains("id: spiffe://cluster.local/ns/default/sa/a\n"), "{certs}");
    // DNS rebinding: a name of somebody's that resolves to this machine.
    assert!(page(address, "/issues", "evil.example").await.starts_with("HTTP/1.1 403"));
}
