//! A server that says GOAWAY under a request.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use common::{World, fetch};
use http::{Request, Response};
use mesh::{Body, Exchange};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// RFC 9113 6.5: no settings.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// RFC 9113 6.8: last stream 0 and NO_ERROR.
const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Until a request has come: before that the client would not send one.
async fn until_a_request(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        // RFC 9113 4.1: length (3), type, flags, stream (4).
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if head[3] == 1 {
            return;
        }
    }
}

/// An h2 server that ends its first `leave` connections before it looks at a stream, and answers on later ones.
async fn leaving(leave: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            if connection < leave {
                stream.write_all(SETTINGS).await.unwrap();
                until_a_request(&mut stream).await;
                stream.write_all(GOAWAY).await.unwrap();
                // Until the client has heard and closes: before that, closing here would reset the connection.
                tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
                continue;
            }
            let mut h2 = h2::server::handshake(stream).await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                while let Some(Ok((_, mut reply))) = h2.accept().await {
                    count.fetch_add(1, Ordering::Relaxed);
                    let mut body = reply.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
                }
            });
        }
    });
    (address, answered)
}

/// RFC 9113 6.8: streams beyond the last one that GOAWAY names were not processed. istio retries `refused-stream` by
/// default: so a POST is sent again, and arrives once.
#[tokio::test]
async fn a_post_that_goaway_leaves_out_goes_to_another_connection() {
    let (address, answered) = leaving(2).await;
    let world = World::new();
    world.write(
        "entry.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: leaving}}\nspec:\n  \
             hosts: [leaving.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: 80, name: http2, protocol: HTTP2}}]\n  \
             endpoints: [{{address: {}, ports: {{http2: {}}}}}]\n",
            address.ip(),
            address.port()
        ),
    );
    let caller = world.mesh("caller", "v1").await;
    let request = Request::post("http://leaving.example/").body(Body::from("once")).unwrap();
    let response = fetch(&caller.client(), request).await;
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"hello"[..]));
    assert_eq!(response.extensions().get::<Exchange>().unwrap().attempts, 2, "one of the two is a resend");
    assert_eq!(answered.load(Ordering::Relaxed), 1);
}
