//! Local rate limits in force: those made in code, then those of the MeshPolicy that is for this workload.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_routing::{RateLimits, Side};

use crate::metrics::MeshMetrics;

/// What both stacks read. Inbound and outbound change in one swap.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) in_force: Arc<ArcSwap<RateLimits>>,
    from_code: RateLimits,
    metrics: MeshMetrics,
}

impl Limits {
    pub(crate) fn new(from_code: RateLimits, metrics: &MeshMetrics) -> Self {
        Self { in_force: Arc::new(ArcSwap::from_pointee(from_code.clone())), from_code, metrics: metrics.clone() }
    }

    /// Put others in force. Those that stand as they stood keep what is in their buckets.
    pub(crate) fn publish(&self, from_config: RateLimits) {
        let from_config = from_config.continuing(&self.in_force.load());
        let before = self.in_force.swap(Arc::new(self.from_code.clone().and(&from_config)));
        // What goes is counted before it is gone.
        self.add_up(&before);
    }

    /// Add up what was refused since the last time.
    pub(crate) fn count(&self) {
        self.add_up(&self.in_force.load());
    }

    fn add_up(&self, limits: &RateLimits) {
        for side in [Side::Inbound, Side::Outbound] {
            for limit in limits.iter(side) {
                self.metrics.rate_limited(side.as_str(), &limit.name(), limit.take_counts());
            }
        }
    }
}
