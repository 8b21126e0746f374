//! `/metrics`, `/ready` and `/live`, in plaintext, for scrapers and probes.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};

use crate::{mesh::Inner, network::Listen, serve::Phase};

/// Prometheus' text format, version 0.0.4.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serve until the mesh has drained: a scraper sees the last numbers.
pub(crate) async fn serve<L: Listen>(mesh: Arc<Inner>, mut listener: L) -> std::io::Result<()> {
    let drain = mesh.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Phase::Aborted) => return Ok(()),
        };
        let Ok((io, _)) = accepted else { continue };
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

/// Answer one request.
pub(crate) fn answer<B>(mesh: &Inner, request: &Request<B>) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, kind: &'static str, body: String| {
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    let plain = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, plain, "GET only\n".into());
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, TEXT_FORMAT, mesh.metrics.render()),
        "/ready" => match mesh.not_ready() {
            None => text(StatusCode::OK, plain, "ready\n".into()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, plain, format!("not ready: {why}\n")),
        },
        "/live" => text(StatusCode::OK, plain, "live\n".into()),
        "/issues" => text(StatusCode::OK, plain, format!("{}\n", mesh.issues())),
        "/" => text(StatusCode::OK, plain, "/metrics\n/ready\n/live\n/issues\n".into()),
        _ => text(StatusCode::NOT_FOUND, plain, "/metrics /ready /live /issues\n".into()),
    }
}
