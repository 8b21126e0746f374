//! WebSockets and the like: requests that became streams of bytes.

use http::Request;
use hyper_util::rt::TokioIo;
use mesh::Body;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tower::ServiceExt as _;

use crate::{
    common::{World, fetch, get, until},
    upstream::{Page, caller, service},
};

/// A server that switches protocols and sends back what it hears.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                if !head.windows(8).any(|window| window == b"upgrade:") {
                    return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
                let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
                stream.write_all(answer).await?;
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.map(drop)
            });
        }
    });
    port
}

/// envoy: an upgraded request is an active one, of its host, of http2MaxRequests and of its connection, until its stream
/// ends; who never takes the stream has given it up with the response.
#[tokio::test]
async fn a_websocket_is_in_flight_until_its_stream_ends() {
    for pool in ["http: {http2MaxRequests: 1}", "tcp: {maxConnections: 1}, http: {http2MaxRequests: 1}"] {
        let world = World::new();
        service(&world, "http", echo().await, &["127.0.0.1".into()], &format!("connectionPool: {{{pool}}}"));
        let (mesh, client) = caller(world.builder("caller", "v1")).await;
        let page = Page::of(&mesh).await;
        let open = || {
            let request = Request::get("http://all.example/").header("connection", "upgrade").header("upgrade", "echo");
            client.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        for taken in [true, false] {
            let response = open().await.unwrap();
            assert_eq!(response.status(), 101);
            if taken {
                let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
                stream.write_all(b"hello").await.unwrap();
                stream.read_exact(&mut [0; 5]).await.unwrap();
                assert_eq!(page.sum("rq_active").await, 2, "of the cluster and of its member");
                let refused = fetch(&client, get("http://all.example/")).await;
                assert_eq!(
                    (refused.status().as_u16(), &refused.headers()["x-envoy-overloaded"]),
                    (503, &"true".parse().unwrap())
                );
                drop(stream);
            } else {
                drop(response);
            }
            until("it ended", async || page.sum("rq_active").await == 0).await;
            until("there is room", async || fetch(&client, get("http://all.example/")).await.status() == 200).await;
        }
    }
}
