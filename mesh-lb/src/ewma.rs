//! Peak EWMA: the endpoint that is expected to answer soonest.
//!
//! Finagle's rule, linkerd's and tower's too. The cost of an endpoint is the latency of its answers: one above the cost
//! is the cost at once, one below pulls it down slowly, by how long the last one is ago. What is compared, between two
//! endpoints drawn at random, is `cost x (requests in flight + 1)`.
//!
//! Between answers the cost is read as decayed towards nothing, so that an endpoint which nobody asks because it was slow is
//! tried again: after `decay x ln(its cost / the others')`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::outlier::nanos;

/// `PEAK_EWMA`'s settings.
///
/// ```
/// use std::time::Duration;
/// use mesh_lb::PeakEwma;
///
/// let slow_to_forget = PeakEwma::default().with_decay(Duration::from_secs(60));
/// assert_eq!(slow_to_forget.default_rtt(), Duration::from_millis(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeakEwma {
    decay: Duration,
    default_rtt: Duration,
}

impl Default for PeakEwma {
    /// linkerd's: a decay of 10 s, 30 ms for an endpoint that has not answered yet.
    fn default() -> Self {
        Self { decay: Self::DEFAULT_DECAY, default_rtt: Self::DEFAULT_RTT }
    }
}

impl PeakEwma {
    /// 10 s.
    pub const DEFAULT_DECAY: Duration = Duration::from_secs(10);
    /// 30 ms.
    pub const DEFAULT_RTT: Duration = Duration::from_millis(30);

    /// With this time constant: after so long, 37 % of what an answer said are left. Short ones forget a peak soon and
    /// try a slow endpoint more often. At least 1 ns.
    #[must_use]
    pub fn with_decay(mut self, decay: Duration) -> Self {
        self.decay = decay.max(Duration::from_nanos(1));
        self
    }

    /// With this cost for an endpoint that has not answered yet; it decays from when the endpoint became known. Well above
    /// the usual latency, a new endpoint starts late; below, with everybody's next request.
    #[must_use]
    pub fn with_default_rtt(mut self, rtt: Duration) -> Self {
        self.default_rtt = rtt;
        self
    }

    /// The time constant.
    #[must_use]
    pub fn decay(&self) -> Duration {
        self.decay
    }

    /// The cost of an endpoint that has not answered yet.
    #[must_use]
    pub fn default_rtt(&self) -> Duration {
        self.default_rtt
    }

    pub(crate) fn tau(&self) -> f64 {
        nanos(self.decay) as f64
    }
}

/// Finagle's: what a request in flight to an endpoint without any history costs, in nanoseconds. Nobody sends a second
/// one there before the first came back, as long as there is anybody else.
pub(crate) const PENALTY: f64 = (i64::MAX >> 16) as f64;

/// The part that is left after a time.
pub(crate) fn left_after(elapsed: u64, tau: f64) -> f64 {
    let x = elapsed as f64 / tau;
    // Between two answers of a busy endpoint: the series is exact to 1e-7, and ten times cheaper.
    if x < 0.01 { 1.0 - x + x * x / 2.0 } else { (-x).exp() }
}

/// The cost of one endpoint, in nanoseconds. Times are nanoseconds since an epoch that the caller keeps.
///
/// Two words and no lock: whoever advances the time of the last answer has the time in between to itself, and applies it to
/// the cost in one step, so that the decay of all is right in whatever order they come.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// An f64; 0: nothing is known.
    cost: AtomicU64,
    /// Of the last answer.
    at: AtomicU64,
}

impl Cost {
    /// The cost now; `None` before the first answer.
    pub(crate) fn at(&self, now: u64, tau: f64) -> Option<f64> {
        let cost = f64::from_bits(self.cost.load(Ordering::Relaxed));
        (cost > 0.0).then(|| cost * left_after(now.saturating_sub(self.at.load(Ordering::Relaxed)), tau))
    }

    /// An answer that took `rtt`.
    ///
    /// finagle PeakEwma: "cost := rtt if rtt > cost, else cost * w + rtt * (1 - w)", w = exp(-dt / tau).
    pub(crate) fn answered(&self, rtt: u64, now: u64, tau: f64) {
        self.update(now, tau, |cost, w| {
            let rtt = rtt.max(1) as f64;
            if rtt > cost { rtt } else { cost * w + rtt * (1.0 - w) }
        });
    }

    /// A failure after `rtt`: it counts as an answer that took no less than expected, or who fails fast would look fast.
    pub(crate) fn failed(&self, rtt: u64, now: u64, tau: f64) {
        self.update(now, tau, |cost, _| cost.max(rtt.max(1) as f64));
    }

    /// No answer within `rtt`: a censored sample. The answer would have taken at least as long, so it raises the cost or says
    /// nothing.
    pub(crate) fn at_least(&self, rtt: u64, now: u64, tau: f64) {
        let rtt = rtt.max(1) as f64;
        if self.at(now, tau).is_none_or(|cost| cost < rtt) {
            self.update(now, tau, |cost, w| (cost * w).max(rtt));
        }
    }

    fn update(&self, now: u64, tau: f64, next: impl Fn(f64, f64) -> f64) {
        let before = self.at.fetch_max(now, Ordering::Relaxed);
        let w = left_after(now.saturating_sub(before), tau);
        let next = |bits: u64| Some(next(f64::from_bits(bits), w).to_bits());
        // Always some: there is no error to look at.
        let _ = self.cost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

#[cfg(test)]
mod tests;
