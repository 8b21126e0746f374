//! An in-process service mesh: Istio's behaviour as a library of tower layers.
//!
//! A service adds this crate, says who it is and where its Istio YAML lies, and gets a client and a server that
//! discover, balance, route, time out, retry, authenticate, authorize and measure, with no proxy beside it.
//!
//! ```text
//!  your code ──► mesh.client() ─────────────► mesh.serve(listener, app) ──► your code
//!                telemetry, route, retry,     mutual TLS, telemetry,
//!                balance, mutual TLS          canonical request, policy
//!                      ▲                            ▲
//!                      └── VirtualService, DestinationRule, AuthorizationPolicy, … (watched files)
//! ```
//!
//! ```no_run
//! use mesh::{Body, Mesh, Workload};
//! use tower::ServiceExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = Mesh::builder()
//!     .workload(Workload::new("default", "shop-v1").with_service_account("shop"))
//!     .config_path("mesh/")
//!     .identity_files("/certs/cert.pem", "/certs/key.pem", "/certs/roots.pem")
//!     .start()
//!     .await?;
//!
//! // A tower service for any request body. `reviews` is found, balanced, routed and authenticated.
//! let request = http::Request::get("http://reviews:9080/reviews/0").body(Body::empty())?;
//! let response = mesh.client().oneshot(request).await?;
//! println!("{}", response.status());
//!
//! // Any hyper, axum or tonic service, behind STRICT mutual TLS and authorization.
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:9080").await?;
//! let app = tower::service_fn(|_request| async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::from("hello"))) });
//! mesh.serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! It is not a proxy, not a control plane, and not a mesh for other languages. The crates below it work alone, for
//! those who compose their own stacks: [`mesh_routing`], [`mesh_lb`], [`mesh_tls`], [`mesh_authz`], [`mesh_telemetry`].

mod admin;
mod body;
mod builder;
mod config;
mod connect;
mod discovery;
mod health;
mod held;
mod identity;
mod inbound;
mod jwks;
mod limits;
mod mesh;
mod metrics;
pub mod network;
mod observability;
mod outbound;
pub mod prequal;
mod register;
mod serve;
mod signal;

pub use body::Body;
pub use builder::{Builder, Dangerous, StartError};
#[cfg(any(test, fuzzing))]
pub use config::hostile;
pub use config::{ClientView, Config};
pub use connect::{ConnectionBody, Connector};
pub use held::Held;
pub use inbound::{InboundLayer, InboundStack};
pub use mesh::Mesh;
#[cfg(feature = "dns")]
pub use mesh_core::registry::HickoryResolver;
pub use mesh_core::{
    BoxError, Connection, Endpoint, EndpointAddress, Exchange, InvalidLocality, Labels, Locality, ResponseFlag,
    ResponseFlags, Workload,
    config::{Issue, Severity},
    discover::{Discover, Published},
    identity::{PeerIdentity, RequestPrincipal, SpiffeId, TrustDomain},
    registry::{Answer, Found, Place, Resolve, SystemResolver},
};
pub use mesh_lb::{SourceIp, TcpKeepalive};
pub use mesh_routing::{KeyBy, RateLimit, RateLimits, TokenBucket, explain};
pub use mesh_telemetry::trace;
pub use outbound::{Client, OutboundLayer, ResponseBody, ResponseFuture, WithoutConnections};

/// The body of a request that [`Mesh::serve`] hands to the application.
pub type ServerBody = mesh_telemetry::CountedBody<hyper::body::Incoming>;

/// The README's quick start compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
