//! Istio's standard metrics in slots of our own.
//!
//! A request's 25 labels are mostly constants: who I am, and whom I talk to. Building them per request costs
//! microseconds, so they are built once per pair of workloads (an [`Edge`]) and kept rendered; what is left per
//! request is a number made of protocol, code, gRPC status and flags, and a few atomic additions in the slot
//! that it names. Recording allocates nothing once the slot exists.
//!
//! Peers choose some label values, so the number of slots is capped; what does not fit is counted in one edge
//! whose peer is `other`, never dropped.

mod edge;
mod histogram;
mod labels;
mod registry;
mod render;
mod store;

pub use edge::Edge;
pub use labels::{ConnectionSecurity, EdgeLabels, Reporter, UNKNOWN, WorkloadLabels};
pub use registry::{Counter, Gauge};
pub use store::{Metrics, Outcome, Protocol};

#[cfg(test)]
mod tests;
