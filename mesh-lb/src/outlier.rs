//! Outlier detection: an endpoint that keeps failing gets no requests for a while.
//!
//! One small state machine per endpoint, Envoy's. It runs without sweeps: since Envoy's sweeps come at fixed
//! times, the sweep on which an endpoint returns is known when it is ejected, and the sweeps that forgive
//! earlier ejections can be counted afterwards. So there is no timer, no task and no list to walk.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use mesh_core::Reason;

use crate::OutlierDetection;

/// What a request says about the health of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Any response below 500.
    Success,
    /// A 5xx that an application makes itself: 500, 501, 505 and above.
    ServerError,
    /// 502, 503, 504, or no response at all: connect failure, reset, timeout.
    GatewayError,
}

impl Outcome {
    /// What a response's head says. A gRPC status in it counts as the HTTP status that Envoy maps it to.
    #[must_use]
    pub fn of_response(status: StatusCode, headers: &HeaderMap) -> Self {
        match grpc_failure(headers).unwrap_or(status.as_u16()) {
            502..=504 => Self::GatewayError,
            500.. => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// What an error says; `None` when it is not the endpoint's doing.
    ///
    /// measured on Envoy 1.40 (t8): connect failure, reset and local timeout count for both counters.
    #[must_use]
    pub fn of_error(reason: Reason) -> Option<Self> {
        match reason {
            Reason::ConnectFailure
            | Reason::RefusedStream
            | Reason::Reset { .. }
            | Reason::Timeout
            | Reason::PerTryTimeout => Some(Self::GatewayError),
            _ => None,
        }
    }
}

/// envoy Grpc::Utility::grpcToHttpStatus, its 5xx part.
fn grpc_failure(headers: &HeaderMap) -> Option<u16> {
    let status = headers.get("grpc-status")?;
    Some(match status.as_bytes() {
        b"2" | b"13" | b"15" => 500,
        b"12" => 501,
        b"14" => 503,
        b"4" => 504,
        _ => 200,
    })
}

/// The state machine of one endpoint of one cluster: counts failures, and says when it may come back.
///
/// Times are since an epoch that the cluster keeps; sweeps come at multiples of the interval from there.
///
/// ```
/// use std::time::Duration;
/// use mesh_lb::{Outcome, OutlierDetection, OutlierDetector};
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
    ejections: AtomicU32,
    ejected_until: AtomicU64,
}

/// Envoy's max_ejection_time.
const MAX_EJECTION: Duration = Duration::from_secs(300);

impl OutlierDetector {
    /// Is it ejected at `now`?
    #[must_use]
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.is_ejected_at(nanos(now))
    }

    /// Count an outcome. True when it was one failure too many: the caller then asks
    /// [`OutlierDetection::may_eject`], and [`eject`](Self::eject)s.
    ///
    /// measured on Envoy 1.40 (t5, t6, t8, t9): any success resets both counts; a 500 resets the gateway count.
    /// The count that fired starts anew whether or not the endpoint could be ejected.
    #[must_use]
    pub fn record(&self, policy: &OutlierDetection, outcome: Outcome, now: Duration) -> bool {
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
            Outcome::GatewayError => {
                let gateway = reached(&self.consecutive_gateway, policy.consecutive_gateway);
                reached(&self.consecutive_5xx, policy.consecutive_5xx) || gateway
            }
        }
    }

    /// Eject it, and say until when: the first sweep after baseEjectionTime x times ejected, at most 300 s.
    /// Every sweep that found it in service took one ejection off that number.
    ///
    /// One caller at a time: the cluster's lock sees to that.
    pub fn eject(&self, policy: &OutlierDetection, now: Duration) -> Duration {
        let (now, interval) = (nanos(now), nanos(policy.interval).max(1));
        let restored = self.ejected_until.load(Ordering::Relaxed);
        let forgiven = u32::try_from(now.saturating_sub(restored) / interval).unwrap_or(u32::MAX);
        let ejections = self.ejections.load(Ordering::Relaxed).saturating_sub(forgiven).saturating_add(1);
        let longest = policy.base_ejection_time.max(MAX_EJECTION);
        let duration = policy.base_ejection_time.saturating_mul(ejections).min(longest);
        let until = now.saturating_add(nanos(duration)).div_ceil(interval).saturating_mul(interval);
        self.ejections.store(ejections, Ordering::Relaxed);
        // Comes back with a clean count.
        reset(&self.consecutive_5xx);
        reset(&self.consecutive_gateway);
        self.ejected_until.store(until, Ordering::Release);
        Duration::from_nanos(until)
    }

    /// When it is back, in nanoseconds: in the past for those in service.
    pub(crate) fn ejected_until(&self) -> u64 {
        self.ejected_until.load(Ordering::Acquire)
    }

    pub(crate) fn is_ejected_at(&self, nanos: u64) -> bool {
        nanos < self.ejected_until.load(Ordering::Acquire)
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
