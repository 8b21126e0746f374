//! Istio's standard metrics, W3C trace context and access logs, as tower layers.
//!
//! ```text
//!  request in ─▶ ServerTelemetry ─▶ … ─▶ handler ─▶ ClientTelemetry ─▶ … ─▶ request out
//!                     │ metrics, access log  │ trace context  │ metrics, access log
//!                     └──────── Metrics ◀────┴────────────────┘
//!                                  └─▶ render(): Prometheus text
//! ```
//!
//! Both layers are the outermost of their stack: a request is counted once whatever the layers below do with it
//! (retries, local replies), at the moment its response body ends, fails or is dropped. What those layers know, they
//! say in [`mesh_core::Exchange`]: in the extensions of the response, or inside a [`mesh_core::Error`].
//!
//! It is not a metrics facade, not an exporter of spans (a sampled request has a `tracing` span on the target
//! `mesh::trace`, for whatever subscriber the application has) and not a log writer (one `tracing` event a request on
//! `mesh::access`, at INFO).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use mesh_core::Workload;
//! use mesh_telemetry::{ClientTelemetry, ClientTelemetryLayer, Metrics, trace};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let metrics = Metrics::new();
//! let me = Workload::new("default", "productpage-v1");
//! let client = ServiceBuilder::new()
//!     .layer(ClientTelemetryLayer::new(ClientTelemetry::new(metrics.clone(), &me)))
//!     // Any HTTP client: it is given the trace headers and a body that counts what is sent.
//!     .service_fn(|request: Request<mesh_telemetry::CountedBody<Full<bytes::Bytes>>>| async move {
//!         assert!(request.headers().contains_key("traceparent"));
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::new(bytes::Bytes::from("ok"))))
//!     });
//!
//! let request = Request::get("http://reviews:9080/reviews/0").body(Full::default()).unwrap();
//! let response = client.oneshot(request).await.unwrap();
//! assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
//! assert!(metrics.render().contains(r#"source_workload="productpage-v1""#));
//! # }
//! ```

pub mod trace;

mod access;
mod body;
mod client;
mod host;
mod metrics;
mod peer;
mod recording;
mod server;
mod span;

pub use access::ACCESS_TARGET;
pub use body::{CountedBody, RecordingBody};
pub use client::{ClientResponseFuture, ClientTelemetry, ClientTelemetryLayer, ClientTelemetryService};
pub use metrics::{
    ConnectionSecurity, Counter, Edge, EdgeLabels, Gauge, Metrics, Outcome, Protocol, Reporter, UNKNOWN, WorkloadLabels,
};
pub use peer::PeerMetadata;
pub use server::{ServerResponseFuture, ServerTelemetry, ServerTelemetryLayer, ServerTelemetryService};
pub use span::TRACE_TARGET;
