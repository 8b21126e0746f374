//! `/metrics`, `/ready` and `/live`, in plaintext, for scrapers and probes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};

use crate::{mesh::Inner, network::Listen, serve::Phase};

/// Prometheus' text format, version 0.0.4.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How one request is answered.
pub(crate) type Answer = fn(&Inner, &Request<Incoming>) -> Response<Full<Bytes>>;

/// Serve until the mesh has drained: a scraper sees the last numbers.
pub(crate) async fn serve<L: Listen>(mesh: Arc<Inner>, mut listener: L, answer: Answer) -> std::io::Result<()> {
    let drain = mesh.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Phase::Aborted) => return Ok(()),
        };
        let io = match accepted {
            Ok((io, _)) => io,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (mesh, drain) = (Arc::clone(&mesh), drain.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let response = answer(&mesh, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = builder.serve_connection(TokioIo::new(io), service) => {}
                () = drain.reached(Phase::Aborted) => {}
            }
        });
    }
}

/// Plain text in UTF-8.
pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";

/// A response of text.
pub(crate) fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Metrics and probes.
pub(crate) fn answer(mesh: &Inner, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET only\n".into());
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, TEXT_FORMAT, mesh.metrics_text()),
        "/ready" => match mesh.not_ready() {
            None => text(StatusCode::OK, PLAIN, "ready\n".into()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("not ready: {why}\n")),
        },
        "/live" => text(StatusCode::OK, PLAIN, "live\n".into()),
        _ => text(StatusCode::NOT_FOUND, PLAIN, "/metrics /ready /live\n".into()),
    }
}
