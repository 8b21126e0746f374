//! `mirror`, `mirrors`: the same request to another cluster, as a rehearsal.
//!
//! Fire and forget: a mirror's answer is read and thrown away, its failure is nobody's, and the request itself never
//! waits for it. A mirror gets the request as it goes out, after the rule's rewrite and header operations, with the
//! same Host (istio DISABLE_SHADOW_HOST_SUFFIX, on by default), the route's timeout, no retries, and a trace that is
//! not sampled. It is sent inside of telemetry: it counts in nobody's metrics.
//!
//! The body is told on while it is read, chunk by chunk, in the `Bytes` it came in. A mirror that reads more than a
//! cap behind is given up, so that a slow one costs memory and no time.

mod body;
mod layer;
mod spec;

use std::sync::Arc;

pub use body::MirrorBody;
pub(crate) use layer::can_be_mirrored;
pub use layer::{MirrorLayer, Mirroring};
pub(crate) use spec::{MirrorSpec, share};

use crate::{RoutePolicy, percent::Percent};

/// A mirror of a route.
#[derive(Clone, Debug)]
pub(crate) struct Mirror<C> {
    pub(crate) cluster: C,
    pub(crate) share: Percent,
    /// What of the route's policy holds for it.
    pub(crate) policy: Arc<RoutePolicy<C>>,
}

#[cfg(test)]
mod tests;
