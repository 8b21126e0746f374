//! Connections that take longer than the request that asks for them has, and those that are as old as they may be.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mesh::network::{BoxFuture, BoxIo, Connect, Tcp};
use tokio::sync::Semaphore;

use crate::{
    common::{World, fetch, get, until},
    upstream::{Upstream, caller, service},
};

/// A network on which connections are made when the test says so.
#[derive(Debug)]
struct Gated {
    go: Arc<Semaphore>,
    dials: Arc<AtomicUsize>,
}

impl Connect for Gated {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>> {
        Box::pin(async move {
            self.dials.fetch_add(1, Ordering::SeqCst);
            self.go.acquire().await.unwrap().forget();
            Tcp.connect(address).await
        })
    }
}

/// envoy ConnPoolImplBase::onPendingStreamCancel: the connection of a request that was given up is made all the same, for
/// the next one. Where an attempt has less time than a handshake takes, there would never be one otherwise.
#[tokio::test]
async fn a_connection_outlives_the_request_that_asked_for_it() {
    for (protocol, pool) in [("http", ""), ("http2", ""), ("http", "1"), ("http2", "1")] {
        let upstream = Upstream::start(protocol, 100).await;
        let world = World::new();
        let pool = if pool.is_empty() { "http: {maxRetries: 9}" } else { "tcp: {maxConnections: 1}" };
        service(&world, protocol, upstream.port, &["127.0.0.1".into()], &format!("connectionPool: {{{pool}}}"));
        let file = world.config().join("all.yaml");
        let quick = std::fs::read_to_string(&file).unwrap().replace("retries: {attempts: 0}", "timeout: 50ms");
        std::fs::write(file, quick).unwrap();
        let (go, dials) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let network = Gated { go: Arc::clone(&go), dials: Arc::clone(&dials) };
        let (_mesh, client) = caller(world.builder("caller", "v1").connect(network)).await;
        assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 504, "{protocol} {pool}");
        go.add_permits(1);
        until("the connection is made", async || upstream.open() == 1).await;
        until("a request uses it", async || fetch(&client, get("http://all.example/")).await.status() == 200).await;
        assert_eq!((upstream.accepted(), upstream.open()), (1, 1), "{protocol} {pool}");
    }
}

/// istio tcp.maxConnectionDuration, http.idleTimeout: past either a connection takes no request, and closes.
#[tokio::test]
async fn a_connection_that_is_old_or_idle_for_too_long_is_replaced() {
    for protocol in ["http", "http2"] {
        for limit in ["tcp: {maxConnectionDuration: 1ms}", "http: {idleTimeout: 1ms}"] {
            let upstream = Upstream::start(protocol, 100).await;
            let world = World::new();
            service(&world, protocol, upstream.port, &["127.0.0.1".into()], &format!("connectionPool: {{{limit}}}"));
            let (_mesh, client) = caller(world.builder("caller", "v1")).await;
            until("another connection is made", async || {
                assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 200, "{protocol} {limit}");
                upstream.accepted() > 2
            })
            .await;
            until("the old ones are closed", async || upstream.open() <= 1).await;
        }
    }
}
