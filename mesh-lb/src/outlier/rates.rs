//! Success rates: endpoints that fail more often than the others, or than a limit, in an interval between sweeps.
//!
//! The decisions are pure: they take what was counted of each endpoint and say which ones stand out. Counting is in
//! two buckets per endpoint, the interval that goes on and the one before it.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What an endpoint answered in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rate {
    /// Requests that ended.
    pub requests: u32,
    /// Those that were no error.
    pub successes: u32,
}

impl Rate {
    /// So many successes of so many requests.
    #[must_use]
    pub fn new(requests: u32, successes: u32) -> Self {
        Self { requests, successes }
    }

    fn percent(self) -> f64 {
        f64::from(self.successes) * 100.0 / f64::from(self.requests.max(1))
    }
}

/// Envoy's success rate detection; defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuccessRate {
    /// Endpoints with enough requests that there must be. Default 5.
    pub minimum_hosts: u32,
    /// Requests that are enough, in one interval. Default 100.
    pub request_volume: u32,
    /// Standard deviations below the mean at which an endpoint is an outlier, in thousandths. Default 1900.
    pub stdev_factor: u32,
}

/// Envoy's failure percentage detection; defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailurePercentage {
    /// Failures in percent from which an endpoint is an outlier. Default 85.
    pub threshold: u32,
    /// Endpoints with enough requests that there must be. Default 5.
    pub minimum_hosts: u32,
    /// Requests that are enough, in one interval. Default 50.
    pub request_volume: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 100, stdev_factor: 1900 }
    }
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self { threshold: 85, minimum_hosts: 5, request_volume: 50 }
    }
}

impl SuccessRate {
    /// The outliers among endpoints, by their place in the list.
    ///
    /// envoy DetectorImpl::successRateEjectionThreshold: the mean of the rates less the factor times their standard
    /// deviation, over endpoints with enough requests.
    ///
    /// ```
    /// use mesh_lb::{Rate, SuccessRate};
    /// let rates = [50, 100, 100, 100, 100].map(|successes| Rate::new(100, successes));
    /// // Mean 90, deviation 20: below 52.
    /// assert_eq!(SuccessRate::default().outliers(&rates), [0]);
    /// ```
    #[must_use]
    pub fn outliers(&self, rates: &[Rate]) -> Vec<usize> {
        let (counted, percents) = enough(rates, self.request_volume);
        if counted.is_empty() || counted.len() < self.minimum_hosts as usize {
            return Vec::new();
        }
        let count = counted.len() as f64;
        let mean = percents.iter().sum::<f64>() / count;
        let variance = percents.iter().map(|percent| (percent - mean).powi(2)).sum::<f64>() / count;
        let threshold = mean - f64::from(self.stdev_factor) / 1000.0 * variance.sqrt();
        let below = counted.iter().zip(&percents).filter(|(_, percent)| **percent < threshold);
        below.map(|(index, _)| *index).collect()
    }
}

impl FailurePercentage {
    /// The outliers among endpoints, by their place in the list.
    ///
    /// envoy DetectorImpl::processSuccessRateEjections: 100 less the success rate, at or above the threshold.
    ///
    /// ```
    /// use mesh_lb::{FailurePercentage, Rate};
    /// let rates = [15, 16, 50, 50, 50].map(|successes| Rate::new(100, successes));
    /// assert_eq!(FailurePercentage::default().outliers(&rates), [0]);
    /// ```
    #[must_use]
    pub fn outliers(&self, rates: &[Rate]) -> Vec<usize> {
        let (counted, percents) = enough(rates, self.request_volume);
        if counted.len() < self.minimum_hosts as usize {
            return Vec::new();
        }
        let failing = |percent: f64| 100.0 - percent >= f64::from(self.threshold);
        counted.iter().zip(percents).filter(|(_, percent)| failing(*percent)).map(|(index, _)| *index).collect()
    }
}

/// Those with enough requests, and their rates in percent.
fn enough(rates: &[Rate], volume: u32) -> (Vec<usize>, Vec<f64>) {
    let counted = rates.iter().enumerate().filter(|(_, rate)| rate.requests > 0 && rate.requests >= volume);
    counted.map(|(index, rate)| (index, rate.percent())).unzip()
}

/// Counts of one endpoint: responses, and whether there was one.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) external: Tally,
    pub(super) local: Tally,
}

#[derive(Debug, Default)]
pub(super) struct Tally([Bucket; 2]);

/// `interval` is one more than the interval counted, 0 when there is none yet.
#[derive(Debug, Default)]
struct Bucket {
    interval: AtomicU64,
    requests: AtomicU32,
    successes: AtomicU32,
}

impl Tally {
    /// One more request. The sweep of the interval before has been by then, so an old bucket is nobody's.
    pub(super) fn add(&self, interval: u64, success: bool) {
        let bucket = self.bucket(interval);
        if bucket.interval.swap(interval + 1, Ordering::AcqRel) != interval + 1 {
            bucket.requests.store(0, Ordering::Relaxed);
            bucket.successes.store(0, Ordering::Relaxed);
        }
        bucket.successes.fetch_add(u32::from(success), Ordering::Relaxed);
        bucket.requests.fetch_add(1, Ordering::Release);
    }

    pub(super) fn of(&self, interval: u64) -> Rate {
        let bucket = self.bucket(interval);
        if bucket.interval.load(Ordering::Acquire) != interval + 1 {
            return Rate::default();
        }
        let requests = bucket.requests.load(Ordering::Acquire);
        Rate { requests, successes: bucket.successes.load(Ordering::Relaxed).min(requests) }
    }

    fn bucket(&self, interval: u64) -> &Bucket {
        &self.0[usize::from(interval % 2 == 1)]
    }
}
