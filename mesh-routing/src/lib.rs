//! VirtualService and the Gateway API's routes in a tower stack: match, split, redirect, rewrite, mirror, time out,
//! retry and inject faults, decided as Istio and Envoy do. And local rate limits, which Istio leaves to Envoy's filters:
//! see [`RateLimitLayer`].
//!
//! Not a proxy and not a load balancer: it decides which *cluster* a request goes to and how, and hands it on as a
//! [`Routed`](mesh_core::Routed) request. Something inside picks an endpoint (mesh-lb), or an HTTP client that finds its
//! own ([`ToAuthority`](mesh_core::ToAuthority)).
//!
//! ```text
//!  HTTPRoute, GRPCRoute ─▶ GatewayRoutes::join ─▶ VirtualServices
//!                                                      │
//!  VirtualService ─┬───────────────────────────────────┘
//!  Registry ───────┼─▶ RouteTable::compile ──▶ Arc<ArcSwap<RouteTable>>      one atomic swap per change
//!  MeshConfig ─────┘                                 │
//!                                                    ▼
//!  http::Request ─▶ LocalReply ─▶ Router ─▶ FaultInjector ─▶ Cors ─▶ Mirroring ─▶ Timeout ─▶ Retry ─▶ endpoint
//!                                 │          delay, abort   preflight  copies    whole      per attempt: timeout,
//!                                 │                         answered   elsewhere request,   back-off, replayed body
//!                                 │                                              body included
//!                                 host, first match, redirect or direct response,
//!                                 weighted draw, rewrite, header operations
//! ```
//!
//! ```
//! use std::{convert::Infallible, sync::Arc};
//! use arc_swap::ArcSwap;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use mesh_core::{ClusterName, LocalReplyLayer, MeshConfig, ToAuthority, Workload};
//! use mesh_core::config::{Document, Issues};
//! use mesh_core::registry::Registry;
//! use mesh_routing::{CompileInput, RetryPolicy, RouteTable, VirtualService};
//! use mesh_routing::{CorsLayer, FaultLayer, MirrorBody, MirrorLayer, ReplayBody, RetryLayer, RouteLayer, TimeoutLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let yaml = "
//! {apiVersion: v1, kind: Service, metadata: {name: reviews}, spec: {ports: [{port: 9080, name: http}]}}
//! ---
//! apiVersion: networking.istio.io/v1
//! kind: VirtualService
//! metadata: {name: reviews}
//! spec:
//!   hosts: [reviews]
//!   http:
//!   - match: [{headers: {end-user: {exact: jason}}}]
//!     fault: {abort: {httpStatus: 555, percentage: {value: 100}}}
//!     route: [{destination: {host: reviews}}]
//!   - route: [{destination: {host: reviews}}]
//!     timeout: 3s
//! ";
//! let mut issues = Issues::default();
//! let documents = Document::parse_all("reviews.yaml", yaml, &mut issues);
//! let mesh = MeshConfig::default();
//! let table: RouteTable<Arc<ClusterName>> = RouteTable::compile(
//!     &CompileInput {
//!         workload: &Workload::new("default", "productpage"),
//!         mesh: &mesh,
//!         registry: &Registry::from_documents(&documents, &mesh.trust_domain, &mut issues),
//!         virtual_services: &[Arc::new(VirtualService::from_document(&documents[1], &mut issues).unwrap())],
//!         default_retry: Some(RetryPolicy::istio_default()),
//!     },
//!     &mut |name| Some(Arc::new(name.clone())), // mesh-lb gives clusters here; a bare name is enough to route
//!     &mut issues,
//! );
//! assert!(issues.is_empty(), "{issues}");
//!
//! let client = ServiceBuilder::new()
//!     .layer(LocalReplyLayer)
//!     .layer(RouteLayer::new(Arc::new(ArcSwap::from_pointee(table))))
//!     .layer(FaultLayer::new())
//!     .layer(CorsLayer::new())
//!     .layer(MirrorLayer::new())
//!     .layer(TimeoutLayer::new())
//!     .layer(RetryLayer::new())
//!     .layer(ToAuthority)
//!     .service(service_fn(|request: Request<ReplayBody<MirrorBody<Full<&'static [u8]>>>>| async move {
//!         let upstream = request.uri().authority().unwrap().to_string();
//!         Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from(upstream))))
//!     }));
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let request = |user| {
//!     Request::get("http://reviews:9080/reviews/0").header("end-user", user).body(Full::default()).unwrap()
//! };
//! assert_eq!(client.clone().oneshot(request("jason")).await.unwrap().status(), 555);
//! assert_eq!(client.oneshot(request("jane")).await.unwrap().status(), 200);
//! # });
//! ```
//!
//! A [`RateLimitLayer`] goes between the router and the faults, or in front of any service that takes requests.
//!
//! What a rule may say that is read and reported but not enforced: `tls` and `tcp`, statPrefix.

mod answer;
mod cors;
pub mod explain;
mod fault;
mod gateway;
mod head;
mod header_ops;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod matcher;
mod mirror;
mod percent;
mod policy;
mod rate_limit;
mod re2;
mod retry;
mod rewrite;
mod router;
mod shape;
mod string_match;
mod table;
mod taken;
mod time;
mod timeout;
mod virtual_service;

pub use answer::{DirectResponse, Redirect};
pub use cors::{Cors, CorsFuture, CorsLayer, CorsPolicy};
pub use explain::Explanation;
pub use fault::{Fault, FaultDecision, FaultFuture, FaultInjector, FaultLayer};
pub use gateway::{GatewayRoutes, GrpcRoute, HttpRoute, ReferenceGrant};
pub use head::RequestHead;
pub use mirror::{MirrorBody, MirrorLayer, Mirroring};
pub use policy::{Roll, RoutePolicy};
pub use rate_limit::{
    InvalidTokenBucket, KeyBy, LimitCounts, Limitable, Limiter, RateLimit, RateLimitFuture, RateLimitLayer,
    RateLimited, RateLimits, Side, TokenBucket,
};
pub use retry::{BackOff, InvalidRetryOn, ReplayBody, Retry, RetryFuture, RetryLayer, RetryOn, RetryPolicy, Verdict};
pub use router::{RouteLayer, Router, RouterFuture};
pub use table::{CompileInput, Decision, Destination, Route, RouteTable};
pub use timeout::{Timeout, TimeoutBody, TimeoutFuture, TimeoutLayer};
pub use virtual_service::VirtualService;

#[cfg(test)]
mod tests;
