//! What tests of a running bookinfo share.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use mesh_examples::bookinfo::Running;

/// One request over a connection of its own, in plaintext: what a browser does.
pub async fn browse(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<String> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, String::from_utf8(body.to_vec()).unwrap())
}

/// Wait until each service knows the address of every other: they are announced when bookinfo has started, and read a
/// moment later.
pub async fn acquainted(running: &Running) {
    let announced: Vec<String> = running.services.iter().map(|service| format!("::{}::", service.address)).collect();
    for service in &running.services {
        until("the services know each other", || async {
            let request = Request::get("/clusters").header("host", "localhost").body(Full::default()).unwrap();
            let clusters = browse(service.admin, request).await.into_body();
            announced.iter().all(|address| clusters.contains(address))
        })
        .await;
    }
}

/// Wait until a condition holds; fails the test when it does not within 20 s.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), holds).await.is_ok(), "not within 20 s: {what}");
}
