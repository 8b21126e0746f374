//! Asking over HTTP, until the answer is good.

use std::{net::SocketAddr, time::Duration};

use axum::body::Body;
use http::{Response, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use mesh::BoxError;
use tokio::net::TcpStream;

/// What a browser and a scraper do: plaintext HTTP/1.1.
pub(crate) async fn get(address: SocketAddr, request: http::request::Builder) -> Result<Response<String>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = request.header(header::HOST, "localhost").body(Body::empty())?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(parts, String::from_utf8(body.to_vec())?))
}

/// Ask until the answer is good.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, BoxError>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Ok(good) => return good,
            Err(why) if tokio::time::Instant::now() > deadline => panic!("{what}: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
