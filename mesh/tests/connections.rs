//! `connectionPool`: how many connections, how old, and who may wait for one.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{World, fetch, get, until};
use http::Response;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{Body, Client, Exchange, Mesh, ResponseFlag};
use tokio::{net::TcpListener, sync::Semaphore};

/// A server that answers when the test says so, and counts the connections it has had and has.
struct Server {
    protocol: &'static str,
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    arrived: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
}

impl Server {
    async fn start() -> Self {
        Self::speaking("http").await
    }

    /// HTTP/2 with one stream at a time, or HTTP/1.1.
    async fn speaking(protocol: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            protocol,
            address,
            accepted: Arc::default(),
            open: Arc::default(),
            arrived: Arc::default(),
            go: Arc::new(Semaphore::new(0)),
        };
        let (accepted, open) = (Arc::clone(&server.accepted), Arc::clone(&server.open));
        let (arrived, go) = (Arc::clone(&server.arrived), Arc::clone(&server.go));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                let (open, arrived, go) = (Arc::clone(&open), Arc::clone(&arrived), Arc::clone(&go));
                tokio::spawn(async move {
                    let answer = service_fn(move |_: http::Request<Incoming>| {
                        let (arrived, go) = (Arc::clone(&arrived), Arc::clone(&go));
                        async move {
                            arrived.fetch_add(1, Ordering::SeqCst);
                            go.acquire().await.unwrap().forget();
                            Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
                        }
                    });
                    let io = TokioIo::new(stream);
                    let _ = match protocol {
                        "http2" => {
                            let mut builder = http2::Builder::new(TokioExecutor::new());
                            builder.max_concurrent_streams(1).serve_connection(io, answer).await
                        }
                        _ => http1::Builder::new().serve_connection(io, answer).await,
                    };
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    /// Answer so many more requests.
    fn answer(&self, requests: usize) {
        self.go.add_permits(requests);
    }

    fn counts(&self) -> (usize, usize) {
        (self.accepted.load(Ordering::SeqCst), self.open.load(Ordering::SeqCst))
    }

    async fn until_arrived(&self, requests: usize) {
        until("requests arrive", async || self.arrived.load(Ordering::SeqCst) == requests).await;
    }

    /// A caller for whose requests to `pool.example` this connectionPool holds.
    async fn caller(&self, pool: &str) -> (Mesh, Client<Body>) {
        self.caller_with(pool, "").await
    }

    /// The same, with more documents.
    async fn caller_with(&self, pool: &str, more: &str) -> (Mesh, Client<Body>) {
        let (world, protocol) = (World::new(), self.protocol);
        world.write(
            "pool.yaml",
            &format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: pool}}\nspec:\n  hosts: \
                 [pool.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: {protocol}, \
                 protocol: {}}}]\n  endpoints: [{{address: {}, ports: {{{protocol}: {}}}}}]\n---\napiVersion: \
                 networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: pool}}\nspec:\n  host: pool.example\n  \
                 trafficPolicy: {{connectionPool: {pool}}}\n{more}",
                self.protocol.to_uppercase(),
                self.address.ip(),
                self.address.port()
            ),
        );
        let mesh = world.mesh("caller", "v1").await;
        let client = mesh.client();
        (mesh, client)
    }
}

const URI: &str = "http://pool.example/";

/// Send requests beside each other; their statuses when all are back.
fn send(client: &Client<Body>, requests: usize) -> tokio::task::JoinSet<(u16, bool)> {
    let mut sent = tokio::task::JoinSet::new();
    for _ in 0..requests {
        let client = client.clone();
        sent.spawn(async move {
            let response = fetch(&client, get(URI)).await;
            let flags = response.extensions().get::<Exchange>().unwrap().flags;
            let overloaded = response.headers().get("x-envoy-overloaded").is_some();
            assert_eq!(flags.contains(ResponseFlag::UpstreamOverflow), overloaded);
            (response.status().as_u16(), overloaded)
        });
    }
    sent
}

/// istio ConnectionPoolSettings.TCPSettings.maxConnections: a request beyond them waits until one is free.
#[tokio::test]
async fn a_request_without_a_connection_waits_for_its_turn() {
    let server = Server::start().await;
    let (_mesh, client) = server.caller("{tcp: {maxConnections: 2}}").await;
    let sent = send(&client, 5);
    server.until_arrived(2).await;
    server.answer(5);
    assert_eq!(sent.join_all().await, [(200, false); 5]);
    assert_eq!(server.counts().0, 2);
}

/// measured on Envoy 1.40 (t5): with one connection and one that may wait, two of four pass, two are 503 UO with
/// `x-envoy-overloaded`.
/// istio.md 1.4: "exceeded => **503 + `x-envoy-overloaded: true`, flag UO**"
#[tokio::test]
async fn more_that_wait_than_may_are_refused() {
    let server = Server::start().await;
    let (_mesh, client) = server.caller("{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}").await;
    let mut first = send(&client, 1);
    server.until_arrived(1).await;
    let mut sent = send(&client, 3);
    for _ in 0..2 {
        assert_eq!(sent.join_next().await.unwrap().unwrap(), (503, true));
    }
    server.answer(2);
    assert_eq!(first.join_next().await.unwrap().unwrap(), (200, false));
    assert_eq!(sent.join_next().await.unwrap().unwrap(), (200, false));
    assert_eq!(server.counts().0, 1);
}

/// A caller that goes away while it waits gives its place back.
#[tokio::test]
async fn who_gives_up_waiting_makes_room() {
    let server = Server::start().await;
    let (_mesh, client) = server.caller("{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}").await;
    let first = send(&client, 1);
    server.until_arrived(1).await;
    let waiting = tokio::time::timeout(Duration::from_millis(50), fetch(&client, get(URI))).await;
    assert!(waiting.is_err());
    let second = send(&client, 1);
    server.answer(2);
    assert_eq!(first.join_all().await, [(200, false)]);
    assert_eq!(second.join_all().await, [(200, false)]);
}

/// istio HTTPSettings.maxRequestsPerConnection: "Setting this parameter to 1 disables keep alive."
/// istio.md 1.4: "0 = unlimited, 1 = no keep-alive"
#[tokio::test]
async fn a_connection_ends_after_its_requests() {
    for (most, connections) in [(1, 6), (2, 3)] {
        let server = Server::start().await;
        server.answer(6);
        let pool = format!("{{http: {{maxRequestsPerConnection: {most}}}}}");
        let (_mesh, client) = server.caller(&pool).await;
        for _ in 0..6 {
            assert_eq!(fetch(&client, get(URI)).await.status(), 200);
        }
        assert_eq!(server.counts().0, connections, "{most}");
        until("the rest are closed", async || server.counts().1 == 0).await;
    }
}

/// With keep-alive off and one connection at a time, requests go one after another.
#[tokio::test]
async fn a_connection_that_ended_makes_room() {
    let server = Server::start().await;
    server.answer(8);
    let (_mesh, client) = server.caller("{tcp: {maxConnections: 1}, http: {maxRequestsPerConnection: 1}}").await;
    assert_eq!(send(&client, 8).join_all().await, [(200, false); 8]);
    assert_eq!(server.counts().0, 8);
}

/// The same over HTTP/2, whose connections are shared as far as the peer allows.
#[tokio::test]
async fn streams_wait_for_their_turn_too() {
    let server = Server::speaking("http2").await;
    let (_mesh, client) = server.caller("{tcp: {maxConnections: 2}}").await;
    // One after the other, until the client has seen how many streams the server allows.
    server.answer(2);
    for _ in 0..2 {
        assert_eq!(fetch(&client, get(URI)).await.status(), 200);
    }
    let sent = send(&client, 6);
    server.until_arrived(4).await;
    server.answer(6);
    assert_eq!(sent.join_all().await, [(200, false); 6]);
    assert_eq!(server.counts().0, 2);
    let server = Server::speaking("http2").await;
    server.answer(6);
    let (_mesh, client) = server.caller("{http: {maxRequestsPerConnection: 2}}").await;
    for _ in 0..6 {
        assert_eq!(fetch(&client, get(URI)).await.status(), 200);
    }
    assert_eq!(server.counts().0, 3);
    until("the rest are closed", async || server.counts().1 <= 1).await;
}

/// A network on which nobody answers.
#[derive(Debug)]
struct Silence;

impl mesh::network::Connect for Silence {
    fn connect(&self, _: SocketAddr) -> mesh::network::BoxFuture<'_, std::io::Result<mesh::network::BoxIo>> {
        Box::pin(std::future::pending())
    }
}

/// envoy ConnPoolImplBase::onConnectionEvent: a connection that fails ends every request that waits for it. They do not
/// try one after the other.
/// istio.md 1.4: "tcp.connectTimeout | 10 s (mesh)"
#[tokio::test]
async fn a_burst_that_finds_nobody_waits_once() {
    let world = World::new();
    let meta =
        |kind: &str| format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: pool}}\nspec:\n");
    let (entry, rule, vs) = (meta("ServiceEntry"), meta("DestinationRule"), meta("VirtualService"));
    world.write(
        "pool.yaml",
        &format!(
            "{entry}  hosts: [pool.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: \
             http2, protocol: HTTP2}}]\n  endpoints: [{{address: 192.0.2.1}}]\n---\n{rule}  host: pool.example\n  \
             trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 9, connectTimeout: 2s}}}}}}\n---\n{vs}  hosts: \
             [pool.example]\n  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: pool.example}}}}]}}]\n"
        ),
    );
    let mesh = world.builder("caller", "v1").connect(Silence).start().await.unwrap_or_else(|error| panic!("{error}"));
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let statuses = send(&mesh.client(), 5).join_all().await;
    assert_eq!(statuses, [(503, false); 5]);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// envoy Router::Filter::updateOutlierDetection: who waits for a connection has no host yet. Its timeout is not the
/// endpoint's.
#[tokio::test]
async fn a_timeout_while_waiting_ejects_nobody() {
    let server = Server::start().await;
    let pool = "{tcp: {maxConnections: 1}}, outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}";
    let quick = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: pool}\nspec:\n  hosts: \
                 [pool.example]\n  http:\n  - match: [{headers: {quick: {exact: 'yes'}}}]\n    timeout: 0.1s\n    \
                 retries: {attempts: 0}\n    route: [{destination: {host: pool.example}}]\n  - route: [{destination: \
                 {host: pool.example}}]\n";
    let (_mesh, client) = server.caller_with(pool, quick).await;
    let first = send(&client, 1);
    server.until_arrived(1).await;
    let mut waiting = get(URI);
    waiting.headers_mut().insert("quick", "yes".parse().unwrap());
    assert_eq!(fetch(&client, waiting).await.status(), 504);
    server.answer(2);
    assert_eq!(first.join_all().await, [(200, false)]);
    assert_eq!(fetch(&client, get(URI)).await.status(), 200, "in service");
}
