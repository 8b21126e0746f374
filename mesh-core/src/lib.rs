//! Vocabulary of the in-process mesh: the types in which the other crates meet.
//!
//! mesh-lb, mesh-routing, mesh-tls, mesh-authz and mesh-telemetry never depend on each other. They meet here:
//!
//! ```text
//!                config::Document ──► each crate's model ──► its snapshot
//!                registry::Registry ─► clusters, virtual hosts
//!
//!   Request ──► router ──► Routed<Request, Cluster, Policy> ──► balancer ──► connection
//!   Response ◄── LocalReplyLayer ◄── Error(Reason) ◄──────────────┘
//!       └── Exchange (flags, cluster, endpoint): what telemetry reads
//! ```
//!
//! It is not an HTTP library and knows no TLS: no hyper, no rustls.

pub mod clock;
pub mod config;
pub mod discover;
pub mod identity;
pub mod path;
pub mod registry;

mod cluster;
mod connection;
mod endpoint;
mod error;
mod exchange;
mod flags;
mod host;
mod labels;
mod locality;
mod mesh_config;
mod reply;
mod resend;
mod routed;
mod tls_settings;
mod workload;

pub use cluster::{ClusterHandle, ClusterName, RetryPermit, ServiceName};
pub use connection::{Connection, ServerName};
pub use endpoint::{Endpoint, EndpointAddress, EndpointTls};
pub use error::{BoxError, Deadline, Error, Reason};
pub use exchange::{Exchange, Progress};
pub use flags::{ResponseFlag, ResponseFlags};
pub use host::{CLUSTER_DOMAIN, HostPattern, InvalidHost, service_host};
pub use labels::Labels;
pub use locality::{
    Distribute, FailoverLabel, InvalidLocality, Locality, LocalityPattern, LocalitySetting, LocalitySpec,
    RegionFailover, ZoneAwareSetting, ZoneAwareSpec,
};
pub use mesh_config::{MeshConfig, OutboundTrafficPolicy};
pub use reply::{LocalReplies, LocalReply, LocalReplyLayer, ReplyBody};
pub use resend::{RETRIES_EXHAUSTED, Resend, Resent};
pub use routed::{Attempt, Routed, ToAuthority, ToCluster, WithAuthority, WithCluster, set_authority};
pub use tls_settings::{ClientTlsMode, ClientTlsSettings};
pub use workload::Workload;
