//! `corsPolicy`: which origins may read the answers.
//!
//! Envoy's order is fault, CORS, router. A preflight that survived the fault is answered by [`CorsLayer`] and goes no
//! further; every other response of a rule that forwards, a reply made here included, is told by the router which
//! origin may read it, after the rule's header operations. What came from outside, an injected abort, says nothing,
//! and neither do a redirect and a direct response.

mod layer;
mod policy;
mod spec;

pub use layer::{Cors, CorsFuture, CorsLayer};
pub use policy::CorsPolicy;
pub(crate) use policy::Grant;
pub(crate) use spec::CorsSpec;

#[cfg(test)]
mod tests;
