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
        self.decide_by(|percent| percent.hit(roll()))
    }

    /// The same where somebody else says which shares apply.
    pub(crate) fn decide_by(&self, mut applies: impl FnMut(Percent) -> bool) -> FaultDecision {
        FaultDecision {
            delay: self.delay.and_then(|(delay, percent)| applies(percent).then_some(delay)),
            abort: self.abort.and_then(|(reason, percent)| applies(percent).then_some(reason)),
        }
    }

    /// What may happen, and how often.
    pub(crate) fn delay(&self) -> Option<(Duration, Percent)> {
        self.delay
    }

    /// What may happen, and how often.
    pub(crate) fn abort(&self) -> Option<(Reason, Percent)> {
        self.abort
    }
}
