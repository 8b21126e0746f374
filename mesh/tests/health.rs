//! Active health checks over real sockets: who fails them gets no requests, who passes again does.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU16, AtomicUsize, Ordering},
    },
};

use axum::{Extension, Router, body::Body as AxumBody, http::StatusCode, routing::get as route};
use bytes::{Buf, BufMut, Bytes};
use common::{Running, World, fetch, get, until};
use http::{Request, Response};
use mesh::{Mesh, PeerIdentity};
use tokio::net::{TcpListener, TcpStream};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

fn policy(entry: &str) -> String {
    format!(
        "apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: checks}}\nspec:\n  \
         selector: {{matchLabels: {{app: caller}}}}\n  loadBalancing:\n  - {entry}\n"
    )
}

/// minHealthPercent 0, as Istio has it where there is an outlierDetection: no panic while one of two is out.
fn no_panic(host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec:\n  host: {host}\n  \
         trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 0}}}}\n"
    )
}

/// The page of clusters, as a person asks for it.
async fn clusters(mesh: &Mesh) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (serving, mut page) = (mesh.clone(), String::new());
    let admin = tokio::spawn(async move { serving.serve_admin(listener).await });
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /clusters HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    socket.read_to_string(&mut page).await.unwrap();
    admin.abort();
    page
}

/// Is this what the page says of an endpoint of service a?
async fn says(mesh: &Mesh, endpoint: SocketAddr, health: &str) -> bool {
    clusters(mesh).await.contains(&format!("a.default.svc.cluster.local::{endpoint}::health_flags::{health}\n"))
}

/// A service that answers with its name, and with this status to checks, which it counts.
struct Checked {
    running: Running,
    status: Arc<AtomicU16>,
    checks: Arc<AtomicUsize>,
    of_clock: Arc<AtomicUsize>,
}

impl Checked {
    async fn start(world: &World, version: &'static str) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let (checks, of_clock) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (says, counts, ticks) = (Arc::clone(&status), Arc::clone(&checks), Arc::clone(&of_clock));
        let health = move |peer: Option<Extension<PeerIdentity>>, request: Request<AxumBody>| async move {
            // Over the mutual TLS of requests: who asks has proved its identity.
            let peer = peer.expect("mutual TLS").0.id().to_string();
            assert_eq!(request.headers()["user-agent"], "mesh/HC");
            assert_eq!(request.headers()["host"], "a.default.svc.cluster.local");
            match peer.rsplit_once("/sa/").map(|(_, account)| account) {
                Some("caller") => counts.fetch_add(1, Ordering::SeqCst),
                Some("clock") => ticks.fetch_add(1, Ordering::SeqCst),
                _ => panic!("{peer}"),
            };
            StatusCode::from_u16(says.load(Ordering::SeqCst)).unwrap()
        };
        let router = Router::new().route("/", route(move || async move { version })).route("/healthz", route(health));
        Self { running: world.run("a", version, router).await, status, checks, of_clock }
    }

    fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }
}

/// The names that answered 40 requests.
async fn answered(caller: &Mesh) -> Vec<Bytes> {
    let mut names = Vec::new();
    for _ in 0..40 {
        let response = fetch(&caller.client(), get("http://a/")).await;
        assert_eq!(response.status(), 200);
        if !names.contains(response.body()) {
            names.push(response.into_body());
        }
    }
    names.sort();
    names
}

#[tokio::test]
async fn a_server_that_turns_503_gets_no_requests_until_it_is_back() {
    let world = World::new();
    world.service("a", 80, "http");
    world.write("rule.yaml", &no_panic("a"));
    world.write("checks.yaml", &policy("{hosts: [a], healthCheck: {http: {path: /healthz}, interval: 20ms}}"));
    let (one, two) = (Checked::start(&world, "v1").await, Checked::start(&world, "v2").await);
    let caller = world.mesh("caller", "v1").await;
    until("both were checked", || async { one.checks() > 0 && two.checks() > 0 }).await;
    until("both get requests", || async { answered(&caller).await == ["v1", "v2"] }).await;

    one.status.store(503, Ordering::SeqCst);
    until("its check fails", || async { says(&caller, one.running.address, "/failed_active_hc").await }).await;
    assert_eq!(answered(&caller).await, ["v2"]);
    assert!(says(&caller, two.running.address, "healthy").await);

    // A change of configuration that is about something else: what is known of it stays.
    let (before, changes) = (one.checks(), caller.issues().len());
    world.write("warns.yaml", "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {}\n");
    until("the change is in force", || async { caller.issues().len() > changes }).await;
    assert_eq!(answered(&caller).await, ["v2"]);
    until("it is still checked", || async { one.checks() > before }).await;

    one.status.store(200, Ordering::SeqCst);
    until("both get requests again", || async { answered(&caller).await == ["v1", "v2"] }).await;
}

#[tokio::test]
async fn who_has_left_is_not_checked_any_more_and_checks_end_with_the_policy_and_with_the_mesh() {
    let world = World::new();
    world.service("a", 80, "http");
    world.write("checks.yaml", &policy("{healthCheck: {http: {path: /healthz}, interval: 10ms}}"));
    let (one, two) = (Checked::start(&world, "v1").await, Checked::start(&world, "v2").await);
    let caller = world.mesh("caller", "v1").await;
    // Somebody else's checks, in whose time it is said that nothing comes.
    let ticking = policy("{healthCheck: {http: {path: /healthz}, interval: 10ms}}").replace("caller", "clock");
    let ticking = ticking.replace("name: checks", "name: ticks");
    let clock = world.builder("clock", "v1").config_text("ticks.yaml", &ticking).start().await.unwrap();
    until("both were checked", || async { one.checks() > 0 && two.checks() > 0 }).await;

    // Its entry in discovery goes, its socket stays.
    let mut entries = std::fs::read_dir(world.config()).unwrap().map(|entry| entry.unwrap().path());
    let entry = entries.find(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.contains("WorkloadEntry") && text.contains(&one.running.address.port().to_string())
    });
    std::fs::remove_file(entry.unwrap()).unwrap();
    until("it has left", || async { caller.endpoints("a", 80).len() == 1 }).await;
    // One that was under way may still arrive.
    let more = |checked: &Checked, than: usize| checked.checks() > than;
    let from = two.checks();
    until("the other one is checked", || async { more(&two, from + 3) }).await;
    assert!(one.of_clock.load(Ordering::SeqCst) > 0, "the clock ran");
    let left = one.checks();
    until("the other one is checked", || async { more(&two, from + 20) }).await;
    assert_eq!(one.checks(), left, "nobody asks who has left");

    // Without the policy, and then without the mesh.
    world.write("checks.yaml", &policy("{hosts: [b], healthCheck: {tcp: {}}}"));
    let twenty_of_the_clocks = async || {
        let from = two.of_clock.load(Ordering::SeqCst);
        until("time passes", || async { two.of_clock.load(Ordering::SeqCst) > from + 20 }).await;
    };
    until("the change is in force", || async {
        let before = two.checks();
        twenty_of_the_clocks().await;
        before == two.checks()
    })
    .await;
    world.write("checks.yaml", &policy("{healthCheck: {http: {path: /healthz}, interval: 10ms}}"));
    let from = two.checks();
    until("checked again", || async { more(&two, from + 3) }).await;
    drop(caller);
    until("no checks without the mesh", || async {
        let before = two.checks();
        twenty_of_the_clocks().await;
        before == two.checks()
    })
    .await;
    drop(clock);
}

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A gRPC server of tonic's whose health service says this of shop.Cart; 9: it fails the call.
async fn health_server(world: &World, version: &str, serving: Arc<AtomicU8>) -> SocketAddr {
    let mesh = world.mesh("a", version).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    mesh.register(world.config(), address).unwrap();
    let name = version.to_owned();
    let service = tower::service_fn(move |request: Request<mesh::ServerBody>| {
        let (serving, name) = (Arc::clone(&serving), name.clone());
        async move {
            if request.uri().path() != "/grpc.health.v1.Health/Check" {
                return Ok::<_, Infallible>(Response::new(AxumBody::from(name)));
            }
            let check = tower::service_fn(move |asked: tonic::Request<Bytes>| {
                let serving = serving.load(Ordering::SeqCst);
                async move {
                    assert_eq!(asked.into_inner(), &b"\x0a\x09shop.Cart"[..]);
                    match serving {
                        9 => Err(Status::unavailable("not now")),
                        status => Ok(tonic::Response::new(Bytes::from(vec![0x08, status]))),
                    }
                }
            });
            Ok(tonic::server::Grpc::new(Raw).unary(check, request).await.map(AxumBody::new))
        }
    });
    tokio::spawn(async move { mesh.serve(listener, service).await });
    address
}

#[tokio::test]
async fn a_grpc_server_that_is_not_serving_gets_no_calls() {
    let world = World::new();
    world.service("a", 80, "grpc");
    world.write("rule.yaml", &no_panic("a"));
    world.write("checks.yaml", &policy("{hosts: [a], healthCheck: {grpc: {serviceName: shop.Cart}, interval: 20ms}}"));
    let states = [Arc::new(AtomicU8::new(1)), Arc::new(AtomicU8::new(1))];
    let one = health_server(&world, "v1", Arc::clone(&states[0])).await;
    health_server(&world, "v2", Arc::clone(&states[1])).await;
    let caller = world.mesh("caller", "v1").await;
    until("both get calls", || async { answered(&caller).await == ["v1", "v2"] }).await;
    // grpc.health.v1 ServingStatus: NOT_SERVING = 2, SERVICE_UNKNOWN = 3; and a status that is not OK.
    for unwell in [2, 3, 9] {
        states[0].store(unwell, Ordering::SeqCst);
        until("its check fails", || async { says(&caller, one, "/failed_active_hc").await }).await;
        assert_eq!(answered(&caller).await, ["v2"], "{unwell}");
        states[0].store(1, Ordering::SeqCst);
        until("both get calls again", || async { answered(&caller).await == ["v1", "v2"] }).await;
    }
}

/// A server outside of the mesh, until it is told to close.
async fn plain(name: &'static str, address: &str) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let router = Router::new().route("/", route(move || async move { name }));
        axum::serve(listener, router).await.unwrap();
    });
    (address, server)
}

#[tokio::test]
async fn a_port_that_is_closed_gets_no_connections() {
    let world = World::new();
    let (one, closing) = plain("one", "127.0.0.1:0").await;
    let (two, _server) = plain("two", "127.0.0.1:0").await;
    world.write(
        "entry.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec:\n  hosts: [a]\n  \
             location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             endpoints:\n  - {{address: 127.0.0.1, ports: {{http: {}}}}}\n  - {{address: 127.0.0.1, ports: {{http: \
             {}}}}}\n",
            one.port(),
            two.port()
        ),
    );
    // Connections of requests are limited: a check is made beside them.
    world.write(
        "rule.yaml",
        &no_panic("a").replace(
            "{consecutive5xxErrors: 0}",
            "{consecutive5xxErrors: 0}, connectionPool: {tcp: {maxConnections: 1}}",
        ),
    );
    world.write(
        "checks.yaml",
        &policy("{healthCheck: {tcp: {}, interval: 20ms, unhealthyThreshold: 2, healthyThreshold: 2}}"),
    );
    let caller = world.mesh("caller", "v1").await;
    until("both get requests", || async { answered(&caller).await == ["one", "two"] }).await;
    closing.abort();
    let flag = format!("{one}::health_flags::/failed_active_hc");
    until("its check fails", || async { clusters(&caller).await.contains(&flag) }).await;
    assert_eq!(answered(&caller).await, ["two"]);
    let (_, _again) = plain("one", &one.to_string()).await;
    until("both get requests again", || async { answered(&caller).await == ["one", "two"] }).await;
}
