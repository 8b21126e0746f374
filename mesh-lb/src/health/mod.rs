//! Active health checks: ask an endpoint how it is, rather than learn it from requests that fail.
//!
//! What is decided is here: what to ask ([`HealthCheck`]), and how many answers in a row change what is believed of an
//! endpoint, and when it is asked next ([`Checkup`], which takes the time and a random source). Who asks is somebody
//! else, the facade's background task: it tells [`Cluster::set_health`](crate::Cluster::set_health), and a pick then
//! treats an endpoint that fails as it treats one that is ejected.
//!
//! The rules are Envoy's (HealthCheckerImplBase), except where a request would be worse off. Envoy holds a whole cluster
//! back until each endpoint was asked once; a library has nobody to hold back. So an endpoint that was never asked counts
//! as failed while another one of its cluster has passed, and as good while none has: the first requests go out,
//! and so do those of a process whose checks cannot run.

mod check;
mod checkup;

pub use check::{GrpcCheck, HealthCheck, HealthCheckKind, HttpCheck, Statuses};
pub use checkup::{CheckResult, Checkup};
