//! Outlier detection: an endpoint that keeps failing gets no requests for a while.
//!
//! One small state machine per endpoint, Envoy's. It runs without sweeps: since Envoy's sweeps come at fixed
//! times, the sweep on which an endpoint returns is known when it is ejected, and the sweeps that forgive
//! earlier ejections can be counted afterwards. So there is no timer, no task and no list to walk.

mod detection;
mod outcome;
mod rates;

use std::{sync::OnceLock, time::Duration};

use self::rates::Counts;
pub use self::{
    detection::OutlierDetection,
    outcome::Outcome,
    rates::{FailurePercentage, Rate, SuccessRate},
};
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The state machine of one endpoint of one cluster: counts failures, and says when it may come back.
///
/// Times are since an epoch that the cluster keeps; sweeps come at multiples of the interval from there.
///
/// ```
/// use std::time::Duration;
/// use mesh_lb::{OutlierDetection, OutlierDetector, Outcome};
///
/// let (policy, endpoint) = (OutlierDetection::default(), OutlierDetector::default());
/// let now = Duration::from_secs(1);
/// for _ in 0..4 {
///     assert!(!endpoint.record(&policy, Outcome::ServerError, now));
/// }
/// assert!(endpoint.record(&policy, Outcome::ServerError, now), "the fifth in a row");
/// assert_eq!(endpoint.eject(&policy, now), Duration::from_secs(40), "31 s is past the sweep of 30 s");
/// assert!(endpoint.is_ejected(Duration::from_secs(39)));
/// assert!(!endpoint.is_ejected(Duration::from_secs(40)));
/// ```
#[derive(Debug, Default)]
pub struct OutlierDetector {
    consecutive_5xx: AtomicU32,
    consecutive_gateway: AtomicU32,
    consecutive_local: AtomicU32,
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    /// The same, or never where health checks say that it is out: what a pick looks at.
    out_until: AtomicU64,
    checked: AtomicU8,
    /// Made where rates are asked for.
    counts: OnceLock<Box<Counts>>,
}

const PASSED: u8 = 1;
const FAILED: u8 = 2;

/// Envoy's max_ejection_time.
const MAX_EJECTION: Duration = Duration::from_secs(300);

impl OutlierDetector {
    /// Is it ejected at `now`?
    #[must_use]
    pub fn is_ejected(&self, now: Duration) -> bool {
        nanos(now) < self.ejected_until.load(Ordering::Acquire)
    }

    /// Count an outcome. True when it was one failure too many: the caller then asks
    /// [`OutlierDetection::may_eject`], and [`eject`](Self::eject)s.
    ///
    /// measured on Envoy 1.40 (t5, t6, t8, t9): any success resets both counts; a 500 resets the gateway count.
    /// The count that fired starts anew whether or not the endpoint could be ejected.
    ///
    /// measured on Envoy 1.40 with splitExternalLocalOriginErrors: what has no response is counted on its own, and
    /// every connection resets that count before the request is sent. So resets and timeouts over connections never
    /// get past 1, connect failures add up.
    #[must_use]
    pub fn record(&self, policy: &OutlierDetection, outcome: Outcome, now: Duration) -> bool {
        if policy.counts_rates() {
            self.count(policy, outcome, policy.interval_of(now));
        }
        if policy.split_local_origin {
            if outcome != Outcome::NotConnected {
                reset(&self.consecutive_local);
            }
            if outcome.is_local_origin() {
                return !self.is_ejected(now) && reached(&self.consecutive_local, policy.consecutive_local_origin);
            }
        }
        match outcome {
            Outcome::Success => {
                reset(&self.consecutive_5xx);
                reset(&self.consecutive_gateway);
                false
            }
            _ if self.is_ejected(now) => false,
            Outcome::ServerError => {
                reset(&self.consecutive_gateway);
                reached(&self.consecutive_5xx, policy.consecutive_5xx)
            }
            Outcome::GatewayError | Outcome::NotConnected | Outcome::NoResponse => {
                let gateway = reached(&self.consecutive_gateway, policy.consecutive_gateway);
                reached(&self.consecutive_5xx, policy.consecutive_5xx) || gateway
            }
        }
    }

    /// envoy DetectorHostMonitorImpl: responses have one success rate, and where they are split, connections another.
    fn count(&self, policy: &OutlierDetection, outcome: Outcome, interval: u64) {
        let counts = self.counts.get_or_init(Box::default);
        let local_origin = outcome.is_local_origin();
        if policy.split_local_origin {
            counts.local.add(interval, !local_origin);
        }
        if !(policy.split_local_origin && local_origin) {
            counts.external.add(interval, outcome == Outcome::Success);
        }
    }

    /// What was counted in an interval: of responses, and of connections.
    pub(crate) fn rates(&self, interval: u64) -> [Rate; 2] {
        self.counts
            .get()
            .map_or_else(Default::default, |counts| [counts.external.of(interval), counts.local.of(interval)])
    }

    /// Eject it, and say until when: the first sweep after baseEjectionTime x times ejected, at most 300 s.
    /// Every sweep that found it in service took one ejection off that number, which grows no further than it has to
    /// for the longest time (envoy DetectorImpl::ejectHost, onIntervalTimer).
    ///
    /// One caller at a time: the cluster's lock sees to that.
    pub fn eject(&self, policy: &OutlierDetection, now: Duration) -> Duration {
        let (now, interval) = (nanos(now), nanos(policy.interval).max(1));
        let restored = self.ejected_until.load(Ordering::Relaxed);
        let forgiven = u32::try_from(now.saturating_sub(restored) / interval).unwrap_or(u32::MAX);
        let (base, longest) = (policy.base_ejection_time, policy.base_ejection_time.max(MAX_EJECTION));
        let earlier = self.ejections.load(Ordering::Relaxed).saturating_sub(forgiven);
        let grows = base.saturating_mul(earlier) < longest.saturating_add(base);
        let ejections = earlier.saturating_add(u32::from(grows));
        let duration = base.saturating_mul(ejections).min(longest);
        let until = now.saturating_add(nanos(duration)).div_ceil(interval).saturating_mul(interval);
        self.ejections.store(ejections, Ordering::Relaxed);
        // Comes back with a clean count.
        reset(&self.consecutive_5xx);
        reset(&self.consecutive_gateway);
        reset(&self.consecutive_local);
        self.ejected_until.store(until, Ordering::Release);
        self.out_until.fetch_max(until, Ordering::AcqRel);
        Duration::from_nanos(until)
    }

    /// Is it out of service: ejected, or by its health checks?
    pub(crate) fn is_ejected_at(&self, nanos: u64) -> bool {
        nanos < self.ejected_until()
    }

    /// When it is back in service, in nanoseconds: in the past for those that are, never for those whose health checks
    /// fail.
    pub(crate) fn ejected_until(&self) -> u64 {
        self.out_until.load(Ordering::Acquire)
    }

    /// What health checks said last: before the first one, nothing.
    pub(crate) fn checked(&self) -> Option<bool> {
        match self.checked.load(Ordering::Acquire) {
            0 => None,
            known => Some(known == PASSED),
        }
    }

    /// One caller at a time, as with [`eject`](Self::eject).
    pub(crate) fn set_checked(&self, healthy: Option<bool>) {
        let value = healthy.map_or(0, |healthy| if healthy { PASSED } else { FAILED });
        self.checked.store(value, Ordering::Release);
    }

    /// Health checks take it out of service, or leave that to ejections. True when that is new.
    pub(crate) fn set_out(&self, out: bool) -> bool {
        let until = if out { u64::MAX } else { self.ejected_until.load(Ordering::Acquire) };
        self.out_until.swap(until, Ordering::AcqRel) != until
    }
}

/// A duration in nanoseconds: 584 years fit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes only where there is something to reset: the success path shares no cache line.
fn reset(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

/// One more; true, and back to 0, when that makes `threshold`. A threshold of 0 is never reached.
fn reached(count: &AtomicU32, threshold: u32) -> bool {
    let reached = count.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= threshold && threshold > 0;
    if reached {
        count.store(0, Ordering::Relaxed);
    }
    reached
}

#[cfg(test)]
mod tests;
