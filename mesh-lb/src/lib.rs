//! DestinationRule in a tower stack: choose an endpoint, protect it, eject it.
//!
//! ```text
//!  Routed<Request, Cluster>          Cluster (shared by all clones, survives configuration changes)
//!          │                         ├ policy      balancing, outlier detection, limits, tls
//!          ▼                         ├ members     endpoint, requests in flight, health, a slot for its pool
//!   ┌─ BalanceLayer ──── pick ─────► └ counters    active requests, retries
//!   │      │ Picked<Request>                ▲
//!   │      ▼                                │ record: status, error, timeout
//!   │  connection, or ToEndpoint ─► client ─┤
//!   │      │                                │
//!   ▼      ▼ Response<InFlightBody> ────────┘ leave: the body ended or was dropped
//! ```
//!
//! [`DestinationRule`]s are read from Istio's YAML and looked up as Istio does ([`DestinationRules`]).
//! [`Clusters`] joins them with the service registry, anew on every change of configuration. [`Cluster::pick`]
//! chooses; [`BalanceLayer`] is the thin shell around it.
//!
//! Endpoints of a cluster are on levels: the nearest first, by [`LocalityPolicy`], and the next as those lose health, by
//! [`PriorityLoad`]. An endpoint that keeps failing is ejected ([`OutlierDetector`]), a new one starts slowly
//! ([`Warmup`]), and what connections there may be is counted here for whoever makes them ([`ConnectionLimits`]).
//!
//! It is not a connection pool and opens no sockets, does not follow sources of endpoints (it is told, through
//! [`Clusters::tell`], and says which services requests want), and knows nothing of routes.
//!
//! Alone, in front of any HTTP client:
//!
//! ```
//! use std::{convert::Infallible, sync::Arc};
//! use http::{Request, Response};
//! use mesh_core::{ClusterName, Endpoint, EndpointAddress, LocalReplyLayer, ServiceName, ToCluster};
//! use mesh_lb::{BalanceLayer, Cluster, ClusterPolicy, LoadBalancer, ToEndpoint};
//! use tower::{Service, ServiceBuilder, service_fn};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
//! let endpoints = ["10.0.0.1", "10.0.0.2"].map(|ip| Arc::new(Endpoint::new(EndpointAddress::new(ip, 9080))));
//! let policy = ClusterPolicy::default().with_load_balancer(LoadBalancer::RoundRobin);
//! let cluster = Cluster::new(ClusterName { service, port: 9080, subset: None }, policy, endpoints.into());
//!
//! let mut client = ServiceBuilder::new()
//!     .layer(LocalReplyLayer) // no endpoint: 503 `no healthy upstream`
//!     .layer(ToCluster::new(cluster)) // every request to this cluster: no router here
//!     .layer(BalanceLayer::new()) // an endpoint of the cluster
//!     .layer(ToEndpoint) // its address into the URI
//!     .service(service_fn(async |request: Request<String>| {
//!         Ok::<_, Infallible>(Response::new(request.uri().to_string())) // any HTTP client
//!     }));
//!
//! let request = Request::get("http://reviews:9080/reviews/0").body(String::new()).unwrap();
//! let response = client.call(request).await.unwrap();
//! assert_eq!(response.status(), 200);
//! # });
//! ```

mod balance;
mod cluster;
mod connections;
mod ewma;
mod hash;
mod health;
mod latency;
mod load_balancing;
mod locality;
mod member;
mod members;
#[cfg(all(test, feature = "loom"))]
mod model;
mod outlier;
mod pick;
mod policy;
mod prequal;
mod priority;
mod random;
mod rule;
mod rules;
mod subsetting;
mod sync;
mod to_endpoint;
mod transport;
mod warmup;

pub use balance::{Balance, BalanceLayer, InFlight, InFlightBody, Picked, ResponseFuture, Upgraded, Waiting};
pub use cluster::{Cluster, ClusterSet, Clusters, Origin, Want, Wants};
pub use connections::{ConnectionLimits, ConnectionPlace, PendingPlace, Queued};
pub use ewma::PeakEwma;
pub use hash::{
    BoundedLoad, ConsistentHash, HashCookie, HashKey, HashTable, InvalidHashKey, Maglev, Ring, SourceIp, hash,
};
pub use health::{CheckResult, Checkup, GrpcCheck, HealthCheck, HealthCheckKind, HttpCheck, Statuses};
pub use latency::Ended;
pub use load_balancing::LoadBalancing;
pub use locality::{Callers, LocalityPolicy};
pub use member::Member;
pub use outlier::{FailurePercentage, Outcome, OutlierDetection, OutlierDetector, Rate, SuccessRate};
pub use policy::{ClusterPolicy, LoadBalancer, RetryLimit, TrafficPolicy};
pub use prequal::{
    InHand, InvalidPrequal, LoadEstimator, LoadReport, PeakEwmaSpec, Prequal, PrequalSpec, ProbeTargets,
};
pub use priority::{LevelHealth, PriorityLoad};
pub use rule::{DefaultPolicy, DestinationRule, Subset};
pub use rules::{DestinationRules, MergedRule};
pub use subsetting::{SubsetClient, Subsetting};
pub use to_endpoint::{ToEndpoint, WithEndpoint};
pub use transport::{Http2KeepAlive, HttpVersion, ProxyProtocol, TcpKeepalive, Transport};
pub use warmup::Warmup;
