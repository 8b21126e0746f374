//! Access log and spans, as a subscriber sees them.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use mesh_core::Workload;
use mesh_telemetry::{CountedBody, Metrics, ServerTelemetry, ServerTelemetryLayer, trace::Sampler};
use tower::{ServiceBuilder, ServiceExt};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a subscriber with `filter` writes while one request is served.
async fn log(filter: &str, sampler: Sampler) -> String {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let telemetry = ServerTelemetry::new(Metrics::new(), &Workload::new("default", "reviews-v1"));
    let service = ServiceBuilder::new().layer(ServerTelemetryLayer::new(telemetry.with_sampler(sampler))).service_fn(
        |_: Request<CountedBody<Empty<Bytes>>>| async {
            tracing::info!(target: "app", "handling");
            Ok::<_, Infallible>(Response::builder().status(503).body(Full::new(Bytes::from("hello"))).unwrap())
        },
    );
    let request = Request::get("http://reviews/reviews/0?q=secret").body(Empty::new()).unwrap();
    service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn one_access_line_a_request_on_its_own_target() {
    let log = log("mesh::access=info", Sampler::ratio(0.0)).await;
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("INFO mesh::access: ["), "{log}");
    assert!(log.contains("\"GET /reviews/0 HTTP/1.1\" 503 - via_upstream - \"-\" 0 5 "), "{log}");
    // The id that was made for it is in it: nothing stands between the user agent's dash and the host but a UUID.
    let id = log.split("\"-\" \"-\" \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(id.len(), 36, "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_sampled_request_has_a_span_with_opentelemetrys_names() {
    let log = log("mesh::trace=info,app=info", Sampler::ratio(1.0)).await;
    assert!(log.contains("app: handling"), "{log}");
    let handling = log.lines().find(|line| line.contains("handling")).unwrap();
    assert!(handling.contains("http.request.method=GET"), "the handler runs inside the span: {log}");
    let closed = log.lines().find(|line| line.contains("close")).unwrap();
    for field in [
        "otel.kind=\"server\"",
        "trace_id=",
        "span_id=",
        "url.path=\"/reviews/0\"",
        "server.address=\"reviews\"",
        "http.response.status_code=503",
        "otel.status_code=\"ERROR\"",
    ] {
        assert!(closed.contains(field), "{field} is not in {closed}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_sampled_has_none() {
    let log = log("mesh::trace=info,app=info", Sampler::ratio(0.0)).await;
    assert!(!log.contains("request{") && log.contains("handling"), "{log}");
}
