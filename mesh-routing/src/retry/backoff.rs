//! How long to wait before a retry.

use std::time::Duration;

/// Exponential back-off with full jitter: before the n-th retry a wait from `U[0, min(base * 2^(n-1), 10 * base))`.
///
/// measured on Envoy 1.40 (backoff.py, t5): means of 13, 27, 48, 103, 128 ms for the first five at base 25 ms.
///
/// ```
/// use {mesh_routing::BackOff, std::time::Duration};
/// let backoff = BackOff::default();
/// assert_eq!(backoff.bound(1), Duration::from_millis(25));
/// assert_eq!(backoff.bound(5), Duration::from_millis(250));
/// assert!(backoff.wait(3, 0xfeed_beef) < Duration::from_millis(100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    base: Duration,
}

impl BackOff {
    /// With this base. Istio's default is 25 ms.
    #[must_use]
    pub fn new(base: Duration) -> Self {
        Self { base }
    }

    /// The wait before the `retry`-th retry (from 1) is less than this.
    #[must_use]
    pub fn bound(self, retry: u32) -> Duration {
        let doubled = self.base.saturating_mul(1 << retry.saturating_sub(1).min(4));
        doubled.min(self.base.saturating_mul(10))
    }

    /// The wait before the `retry`-th retry, for a uniform draw.
    #[must_use]
    pub fn wait(self, retry: u32, roll: u64) -> Duration {
        let bound = u64::try_from(self.bound(retry).as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if bound == 0 { 0 } else { roll % bound })
    }
}

impl Default for BackOff {
    fn default() -> Self {
        Self::new(Duration::from_millis(25))
    }
}
