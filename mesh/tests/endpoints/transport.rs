//! How connections are made: what a server sees of them.

use http::{Request, Version};
use mesh::Body;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    common::{World, fetch, get, until},
    upstream::{Upstream, caller, service},
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// RFC 9113 3.4, the beginning of it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// A server that reads bytes, for a client with this policy.
async fn listening(world: &World, policy: &str) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    service(world, "http", port, &["127.0.0.1".into()], policy);
    listener
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// istio TrafficPolicy.ProxyProtocol: the header comes before the request, once on a connection.
#[tokio::test]
async fn the_proxy_protocol_says_who_calls() {
    for version in ["V1", "V2"] {
        let world = World::new();
        let listener = listening(&world, &format!("proxyProtocol: {{version: {version}}}")).await;
        let (_mesh, client) = caller(world.builder("caller", "v1")).await;
        let server = tokio::spawn(async move {
            let (mut stream, peer) = listener.accept().await.unwrap();
            let here = stream.local_addr().unwrap();
            let expected = match version {
                "V1" => format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", peer.port(), here.port()).into_bytes(),
                _ => {
                    let [source, destination] = [peer.port(), here.port()].map(u16::to_be_bytes);
                    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01";
                    [&head[..], &source[..], &destination[..]].concat()
                }
            };
            assert_eq!(read(&mut stream, expected.len()).await, expected);
            for _ in 0..2 {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET / HTTP/1.1\r\n"), "{}", head.escape_ascii());
                stream.write_all(ANSWER).await.unwrap();
            }
        });
        for _ in 0..2 {
            assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 200);
        }
        server.await.unwrap();
    }
}

/// istio HTTPSettings: h2UpgradePolicy makes requests of HTTP/1.1 travel in HTTP/2, useClientProtocol leaves them what they
/// are.
#[tokio::test]
async fn the_version_is_the_rules() {
    let (one, two) = (Version::HTTP_11, Version::HTTP_2);
    for (policy, version, upgraded) in [
        ("", two, false),
        ("connectionPool: {http: {h2UpgradePolicy: UPGRADE}}", one, true),
        ("connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}", one, false),
        ("connectionPool: {http: {useClientProtocol: true}}", one, false),
        ("connectionPool: {http: {useClientProtocol: true}}", two, true),
    ] {
        let world = World::new();
        let listener = listening(&world, policy).await;
        let (_mesh, client) = caller(world.builder("caller", "v1")).await;
        let request = Request::get("http://all.example/").version(version).body(Body::from("")).unwrap();
        let asking = tokio::spawn(async move { fetch(&client, request).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read(&mut stream, PREFACE.len()).await;
        assert_eq!(head == PREFACE, upgraded, "{policy} {version:?}: {}", head.escape_ascii());
        asking.abort();
    }
}

/// istio HTTPSettings.maxConcurrentStreams: "The maximum number of concurrent streams allowed for a peer on one HTTP/2
/// connection."
#[tokio::test]
async fn streams_of_a_connection_are_the_fewer_of_two_limits() {
    for (peers, own, expected) in [(100, 2, [1, 1, 2, 2, 3]), (2, 100, [1, 1, 2, 2, 3])] {
        let upstream = Upstream::start("http2", peers).await;
        let world = World::new();
        let policy = format!("connectionPool: {{http: {{maxConcurrentStreams: {own}}}}}");
        service(&world, "http2", upstream.port, &["127.0.0.1".into()], &policy);
        let (_mesh, client) = caller(world.builder("caller", "v1")).await;
        assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 200);
        let mut held = tokio::task::JoinSet::new();
        for (n, connections) in expected.into_iter().enumerate() {
            let client = client.clone();
            held.spawn(async move { fetch(&client, get("http://all.example/held")).await.status().as_u16() });
            until("it arrives", async || upstream.waiting() == n + 1).await;
            assert_eq!(upstream.open(), connections, "{peers} {own}");
        }
        upstream.held.add_permits(5);
        assert_eq!(held.join_all().await, [200; 5]);
    }
}

/// envoy KeepaliveSettings: a PING each interval; "If a PING response is not received within this time period, the connection
/// will be aborted."
#[tokio::test]
async fn an_http2_connection_that_does_not_answer_pings_ends() {
    let world = World::new();
    let policy = "connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 20ms, timeout: 30ms}}}";
    let listener = listening(&world, policy).await;
    let (_mesh, client) = caller(world.builder("caller", "v1")).await;
    let asking = tokio::spawn(async move { fetch(&client, get("http://all.example/")).await.status().as_u16() });
    let (mut stream, _) = listener.accept().await.unwrap();
    read(&mut stream, 24).await;
    // SETTINGS: nothing to say, and theirs are taken. (RFC 9113 4.1: length, type, flags, stream.)
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap();
    let mut pings = 0;
    // Until it is closed from over there.
    while let Ok(length) = read_u24(&mut stream).await {
        let mut rest = vec![0; 6 + length];
        if stream.read_exact(&mut rest).await.is_err() {
            break;
        }
        pings += usize::from(rest[0] == 6 && rest[1] == 0);
    }
    assert!(pings > 0);
    assert_eq!(asking.await.unwrap(), 503);
}

/// A frame's length.
async fn read_u24(stream: &mut TcpStream) -> std::io::Result<usize> {
    let mut bytes = [0; 3];
    stream.read_exact(&mut bytes).await?;
    Ok(usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]))
}
