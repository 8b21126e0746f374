//! Streams pass both stacks untouched.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body as AxumBody,
    extract::ws::{Message, WebSocketUpgrade},
    response::sse::{Event, Sse},
    routing::{get as route, post},
};
use bytes::{Buf, BufMut, Bytes};
use common::{World, fetch, get};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::{HeaderValue, Request, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::TokioIo;
use mesh::Body;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use tonic::{
    Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tower::ServiceExt as _;

async fn echo(upgrade: WebSocketUpgrade) -> axum::response::Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(Message::Text(text))) = socket.recv().await {
            if socket.send(Message::Text(text)).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test]
async fn a_websocket_lives_longer_than_any_default() {
    let world = World::new();
    world.service("a", 80, "http");
    let _server = world.run("a", "v1", Router::new().route("/ws", route(echo))).await;
    let caller = world.mesh("caller", "v1").await;
    let request = Request::get("http://a/ws")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Body::empty())
        .unwrap();
    let response = caller.client().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    for text in ["one", "two"] {
        socket.send(text.into()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), text);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn server_sent_events_arrive_as_they_are_sent() {
    let world = World::new();
    world.service("a", 80, "http");
    let go_on = Arc::new(Notify::new());
    let gate = Arc::clone(&go_on);
    let events = move || {
        let gate = Arc::clone(&gate);
        async move {
            let second = stream::once(async move {
                gate.notified().await;
                Ok::<_, Infallible>(Event::default().data("second"))
            });
            Sse::new(stream::once(async { Ok(Event::default().data("first")) }).chain(second))
        }
    };
    let _server = world.run("a", "v1", Router::new().route("/events", route(events))).await;
    let caller = world.mesh("caller", "v1").await;
    let response = caller.client().oneshot(get("http://a/events")).await.unwrap();
    let mut body = std::pin::pin!(response.into_body());
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: first\n\n");
    // The second is only made now: nothing on the way waited for it.
    go_on.notify_one();
    let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(second, "data: second\n\n");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let world = World::new();
    world.service("a", 80, "http");
    let _server = world.run("a", "v1", Router::new().route("/", route(|| async { "hello" }))).await;
    let caller = world.mesh("caller", "v1").await;
    for _ in 0..2 {
        // Twice: the connection is reusable after it.
        let response = fetch(&caller.client(), Request::head("http://a/").body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-length"], "5");
        assert!(response.body().is_empty());
    }
}

#[tokio::test]
async fn a_caller_that_waits_for_100_continue_gets_it() {
    let world = World::new();
    world.write(
        "permissive.yaml",
        &common::STRICT
            .replace("name: default, namespace: istio-system", "name: a, namespace: default")
            .replace("STRICT", "PERMISSIVE"),
    );
    let server = world.run("a", "v1", Router::new().route("/", post(|body: Bytes| async move { body }))).await;
    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    let mut head = [0; 25];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head[..], b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"hello").await.unwrap();
    let mut answer = vec![0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(10), socket.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK\r\n"));
}

const METHOD: &str = "/test.Echo/Both";

async fn both(request: Request<mesh::ServerBody>) -> Result<http::Response<tonic::body::Body>, Infallible> {
    let echo = tower::service_fn(async |words: tonic::Request<Streaming<Bytes>>| {
        Ok::<_, Status>(tonic::Response::new(words.into_inner()))
    });
    Ok(tonic::server::Grpc::new(Raw).streaming(echo, request).await)
}

#[derive(Clone, Copy, Debug)]
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

/// A gRPC service and, on any other path, an echo over the same port and protocol.
async fn grpc_or_echo(request: Request<mesh::ServerBody>) -> Result<http::Response<AxumBody>, Infallible> {
    if request.uri().path() == METHOD {
        return Ok(both(request).await?.map(AxumBody::new));
    }
    let peer = request
        .extensions()
        .get::<mesh::Connection>()
        .map(|connection| connection.peer.to_string())
        .unwrap_or_default();
    let mut response = http::Response::new(AxumBody::new(request.into_body()));
    response.headers_mut().insert("x-peer", HeaderValue::try_from(peer).expect("an address is ASCII"));
    Ok(response)
}

#[tokio::test]
async fn a_bidi_stream_a_full_body_and_a_stream_body_run_on_one_pool() {
    let world = World::new();
    world.service("a", 80, "grpc");
    let mesh = world.mesh("a", "v1").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    mesh.register(world.config(), listener.local_addr().unwrap()).unwrap();
    let serving = mesh.clone();
    tokio::spawn(async move { serving.serve(listener, tower::service_fn(grpc_or_echo)).await });
    let caller = world.mesh("caller", "v1").await;

    // The bidi stream stays open while the others run: each message is answered before the next is sent.
    let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(1);
    let mut grpc = tonic::client::Grpc::with_origin(caller.client(), http::Uri::from_static("http://a"));
    grpc.ready().await.unwrap();
    let outbound = tokio_stream::wrappers::ReceiverStream::new(receive);
    let path = PathAndQuery::from_static(METHOD);
    let mut inbound = grpc.streaming(tonic::Request::new(outbound), path, Raw).await.unwrap().into_inner();
    send.send(Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(inbound.message().await.unwrap().unwrap(), "one");

    let full = Request::post("http://a/full").body(Full::new(Bytes::from_static(b"full"))).unwrap();
    let full = fetch(&caller.client::<Full<Bytes>>(), full).await;
    assert_eq!(full.body(), "full");
    let frames = stream::iter([b"a", b"b"].map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from_static(part)))));
    let streamed = Request::post("http://a/stream").body(StreamBody::new(frames)).unwrap();
    let streamed = fetch(&caller.client(), streamed).await;
    assert_eq!(streamed.body(), "ab");
    assert_eq!(full.headers()["x-peer"], streamed.headers()["x-peer"], "one connection, whatever the body's type");

    send.send(Bytes::from_static(b"two")).await.unwrap();
    assert_eq!(inbound.message().await.unwrap().unwrap(), "two");
    drop(send);
    assert!(inbound.message().await.unwrap().is_none());
    let trailers = inbound.trailers().await.unwrap().expect("trailers");
    assert!(trailers.get("grpc-status").is_none_or(|status| status == "0"), "{trailers:?}");
}

#[tokio::test]
async fn clones_and_layers_share_pools_limits_and_statistics() {
    let world = World::new();
    world.service("a", 80, "http");
    world.write(
        "limit.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  \
         trafficPolicy: {connectionPool: {http: {http2MaxRequests: 1}}}\n",
    );
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gates = (Arc::clone(&arrived), Arc::clone(&release));
    let held = move || async move {
        gates.0.notify_one();
        gates.1.notified().await;
    };
    let router = Router::new().route("/held", route(held)).route(
        "/",
        route(|connection: axum::extract::Extension<mesh::Connection>| async move { connection.0.peer.to_string() }),
    );
    let _server = world.run("a", "v1", router).await;
    let caller = world.mesh("caller", "v1").await;

    // Pools: two clients, one connection.
    let first = fetch(&caller.client::<Body>(), get("http://a/")).await;
    let second = fetch(&caller.client::<Body>().clone(), get("http://a/")).await;
    assert_eq!(first.body(), second.body(), "one connection");

    // Limits: while one client's request is in flight, another client's is over the limit of 1.
    let held = tokio::spawn({
        let client = caller.client::<Body>();
        async move { fetch(&client, get("http://a/held")).await.status() }
    });
    arrived.notified().await;
    let other = caller.client::<Body>();
    let refused = fetch(&other, get("http://a/")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["x-envoy-overloaded"], "true");
    release.notify_one();
    assert_eq!(held.await.unwrap(), 200);

    // Statistics: one page for all.
    let text = caller.metrics_text();
    assert!(text.contains("response_flags=\"UO\""), "{text}");
}

#[tokio::test]
async fn a_client_keeps_following_config_when_its_mesh_was_dropped() {
    let world = World::new();
    world.service("a", 80, "http");
    let _server = world.run("a", "v1", Router::new().route("/", route(|| async { "a" }))).await;
    let client = world.mesh("caller", "v1").await.client();
    assert_eq!(fetch(&client, get("http://a/")).await.status(), 200);
    world.write(
        "abort.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  \
         - route: [{destination: {host: a}}]\n    fault: {abort: {httpStatus: 555, percentage: {value: 100}}}\n",
    );
    common::until("the rule is in force", || async { fetch(&client, get("http://a/")).await.status() == 555 }).await;
}

#[tokio::test]
async fn shutdown_waits_for_a_websocket_and_its_handshake_survives_the_linger() {
    let world = World::new();
    world.service("a", 80, "http");
    let server = world.run("a", "v1", Router::new().route("/ws", route(echo))).await;
    let caller = world.mesh("caller", "v1").await;
    let open = || {
        Request::get("http://a/ws")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Body::empty())
            .unwrap()
    };
    let response = caller.client().oneshot(open()).await.unwrap();
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    let leaving = tokio::spawn({
        let mesh = server.mesh.clone();
        async move { mesh.shutdown(Duration::from_secs(20)).await }
    });
    // In the linger: a further one is still opened, as an upgrade.
    server.mesh.draining().await;
    let response = caller.client().oneshot(open()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["connection"].to_str().unwrap()), (101, "upgrade"));
    drop(response);
    // It is in use, past the linger, and nobody cuts it.
    let address = server.address;
    let refused = || async move { tokio::net::TcpStream::connect(address).await.is_err() };
    common::until("nobody new is let in", refused).await;
    socket.send("still".into()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), "still");
    assert!(!leaving.is_finished());
    socket.close(None).await.unwrap();
    drop(socket);
    assert!(leaving.await.unwrap(), "it ended by itself, and the shutdown with it");
}

#[tokio::test]
async fn a_callers_broken_upload_is_no_fault_of_the_endpoints() {
    let world = World::new();
    world.service("a", 80, "http");
    world.write(
        "outlier.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  \
         trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}\n",
    );
    let _server = world.run("a", "v1", Router::new().route("/", post(|body: Bytes| async move { body }))).await;
    let caller = world.mesh("caller", "v1").await;
    for _ in 0..3 {
        let frames = stream::iter([Ok(Frame::data(Bytes::from_static(b"half"))), Err("gone")]);
        let request = Request::post("http://a/").body(StreamBody::new(frames)).unwrap();
        let response = fetch(&caller.client(), request).await;
        assert_eq!(response.extensions().get::<mesh::Exchange>().unwrap().flags.to_string(), "DC");
    }
    let whole = Request::post("http://a/").body(Body::from("whole")).unwrap();
    assert_eq!(fetch(&caller.client(), whole).await.status(), 200, "not ejected");
}

#[tokio::test]
async fn the_inbound_layer_applied_twice_shares_its_state() {
    // axum applies a layer for every route.
    let world = World::new();
    let mesh = world.mesh("a", "v1").await;
    let app = || {
        tower::service_fn(|_: Request<mesh_telemetry::CountedBody<Body>>| async {
            Ok::<_, Infallible>(http::Response::new(Body::empty()))
        })
    };
    let layer = mesh.inbound_layer();
    for service in [tower::Layer::layer(&layer, app()), tower::Layer::layer(&layer, app())] {
        let request = Request::get("/").header("host", "a").body(Body::empty()).unwrap();
        assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    }
    let text = mesh.metrics_text();
    let counted = text.lines().find(|line| line.starts_with("istio_requests_total{reporter=\"destination\""));
    assert!(counted.is_some_and(|line| line.ends_with(" 2")), "{text}");
}
