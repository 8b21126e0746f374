//! Both layers around real connections: what hyper does with a body at its end is not a caller that went away.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{convert::Infallible, pin::Pin};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use mesh_core::Workload;
use mesh_telemetry::{
    ClientTelemetry, ClientTelemetryLayer, CountedBody, Metrics, ServerTelemetry, ServerTelemetryLayer,
};
use tower::{Service, ServiceBuilder, service_fn};

type Body = BoxBody<Bytes, Infallible>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    H1,
    H2,
}

fn stream(frames: Vec<Frame<Bytes>>) -> Body {
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok))))
}

async fn answer(request: Request<CountedBody<Incoming>>) -> Result<Response<Body>, Infallible> {
    let data = || Frame::data(Bytes::from_static(b"data"));
    // hyper leaves out the body of a response to HEAD on HTTP/1.1 only; on HTTP/2 that is the application's to do.
    let bodyless = request.method() == Method::HEAD && request.version() == http::Version::HTTP_2;
    let path = if bodyless { "/empty".to_owned() } else { request.uri().path().to_owned() };
    request.into_body().collect().await.unwrap();
    let body = match path.as_str() {
        "/full" => Full::new(Bytes::from_static(b"hello")).boxed(),
        "/empty" => Empty::new().boxed(),
        "/stream" => stream(vec![data(), data()]),
        "/grpc" => stream(vec![
            data(),
            Frame::trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())])),
        ]),
        _ => {
            let endless = futures_util::stream::unfold((), |()| async {
                tokio::task::yield_now().await;
                Some((Ok(Frame::data(Bytes::from(vec![0; 65_536]))), ()))
            });
            BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(endless))))
        }
    };
    Ok(Response::new(body))
}

/// `BoxBody` asks for `Sync`, which an async block's state need not be.
struct SyncStream<S>(Pin<Box<S>>);

impl<S: futures_util::Stream> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// Send one request over a connection of its own and read the response, or its head only.
async fn exchange(version: Version, request: Request<Full<Bytes>>, read: bool) -> Metrics {
    let metrics = Metrics::new();
    let telemetry = ServerTelemetry::new(metrics.clone(), &Workload::new("default", "reviews-v1"));
    let server = ServiceBuilder::new().layer(ServerTelemetryLayer::new(telemetry)).service(service_fn(answer));
    let (near, far) = tokio::io::duplex(16_384);
    let server = tokio::spawn(async move {
        let (io, service) = (TokioIo::new(far), TowerToHyperService::new(server));
        // An error is the client that went away.
        let _ = match version {
            Version::H1 => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
            Version::H2 => {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
            }
        };
    });

    let telemetry = ClientTelemetry::new(metrics.clone(), &Workload::new("default", "productpage-v1"));
    let layer = ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry));
    let io = TokioIo::new(near);
    let response = match version {
        Version::H1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let mut client = layer.service_fn(move |request| sender.send_request(request));
            client.call(request).await.unwrap()
        }
        Version::H2 => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            let mut client = layer.service_fn(move |request| sender.send_request(request));
            client.call(request).await.unwrap()
        }
    };
    if read {
        response.into_body().collect().await.unwrap();
    } else {
        drop(response);
    }
    // The connection ends when its only user is gone: then the server has recorded too.
    server.await.unwrap();
    metrics
}

/// `(reporter, grpc status, flags)` of every series, each counted once.
fn recorded(metrics: &Metrics) -> Vec<(String, String, String)> {
    let text = metrics.render();
    let value = |line: &str, name: &str| {
        let after = line.split(&format!("{name}=\"")).nth(1).unwrap();
        after.split('"').next().unwrap().to_owned()
    };
    let lines = text.lines().filter(|line| line.starts_with("istio_requests_total"));
    let mut recorded: Vec<_> = lines
        .inspect(|line| assert!(line.ends_with(" 1"), "{line}"))
        .map(|line| (value(line, "reporter"), value(line, "grpc_response_status"), value(line, "response_flags")))
        .collect();
    recorded.sort();
    recorded
}

#[tokio::test]
async fn a_response_read_to_its_end_has_no_flag_on_either_side() {
    for version in [Version::H1, Version::H2] {
        for (method, path, grpc) in [
            (Method::GET, "/full", ""),
            (Method::POST, "/full", ""),
            (Method::HEAD, "/full", ""),
            (Method::HEAD, "/stream", ""),
            (Method::GET, "/empty", ""),
            (Method::GET, "/stream", ""),
            (Method::POST, "/grpc", "0"),
        ] {
            let content_type = if grpc.is_empty() { "text/plain" } else { "application/grpc" };
            let request = Request::builder()
                .method(&method)
                .uri(format!("http://reviews{path}"))
                .header("host", "reviews")
                .header("te", "trailers")
                .header("content-type", content_type)
                .body(Full::new(if method == Method::POST { Bytes::from_static(b"sent") } else { Bytes::new() }))
                .unwrap();
            // Trailers over HTTP/1.1 have to be announced, which gRPC does not do.
            if version == Version::H1 && !grpc.is_empty() {
                continue;
            }
            let metrics = exchange(version, request, true).await;
            let side = |reporter: &str| (reporter.to_owned(), grpc.to_owned(), "-".to_owned());
            assert_eq!(recorded(&metrics), [side("destination"), side("source")], "{version:?} {method} {path}");
        }
    }
}

#[tokio::test]
async fn a_response_that_nobody_reads_is_flagged_on_both_sides() {
    for version in [Version::H1, Version::H2] {
        let request = Request::get("http://reviews/endless").header("host", "reviews").body(Full::default()).unwrap();
        let metrics = exchange(version, request, false).await;
        let side = |reporter: &str| (reporter.to_owned(), String::new(), "DC".to_owned());
        assert_eq!(recorded(&metrics), [side("destination"), side("source")], "{version:?}");
    }
}
