//! `corsPolicy`: which origins may read the answers.
//!
//! Envoy's order is fault, CORS, router. A preflight that survived the fault is answered by [`CorsLayer`] and goes no
//! further; every other response, the router's own included, is told by the router which origin may read it, after
//! the rule's header operations. An answer that came from outside, an injected abort, says nothing.

mod layer;
mod policy;
mod spec;

pub use layer::{Cors, CorsFuture, CorsLayer};
pub use policy::CorsPolicy;
pub(crate) use policy::Grant;
pub(crate) use spec::CorsSpec;

#[cfg(test)]
mod tests;
