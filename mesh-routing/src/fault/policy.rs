//! The decision.

use std::time::Duration;

use mesh_core::Reason;

use crate::percent::Percent;

/// A rule's `fault`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub(super) delay: Option<(Duration, Percent)>,
    pub(super) abort: Option<(Reason, Percent)>,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultDecision {
    /// Wait first.
    pub delay: Option<Duration>,
    /// Then end it so instead of sending it.
    pub abort: Option<Reason>,
}

impl Fault {
    /// Draw. istio networking/v1alpha3 HTTPFaultInjection: "delay and abort faults are independent of one another,
    /// even if both are specified simultaneously."
    pub fn decide(&self, mut roll: impl FnMut() -> u64) -> FaultDecision {
        FaultDecision {
            delay: self.delay.and_then(|(delay, percent)| percent.hit(roll()).then_some(delay)),
            abort: self.abort.and_then(|(reason, percent)| percent.hit(roll()).then_some(reason)),
        }
    }
}
