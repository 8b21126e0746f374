//! Fault injection: a delay, an abort, or both, drawn independently for each request.
//!
//! Runs before the route's timeout and retries start, as in Istio: an injected delay is not counted against the
//! timeout, an injected abort is never retried and no upstream sees it (measured on Envoy 1.40, t4).

mod layer;
mod policy;
mod spec;

pub use layer::{FaultFuture, FaultInjector, FaultLayer};
pub use policy::{Fault, FaultDecision};
pub(crate) use spec::FaultSpec;
