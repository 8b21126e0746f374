//! A histogram of fixed buckets: one atomic addition to find the bucket's place, one for the sum.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds as Prometheus shows them: Envoy's default buckets (`HistogramSettingsImpl::defaultBuckets`), for
/// milliseconds and bytes alike.
pub(super) const BOUNDS: [&str; 19] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
    "300000", "600000", "1800000", "3600000",
];

/// The same bounds for whole numbers: only 0 is at most 0.5.
const WHOLE: [u64; 19] = [
    0, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
];

/// Whole numbers, counted by bucket; the last bucket is `+Inf`.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; 20],
    sum: AtomicU64,
}

/// What a histogram held at one reading.
#[derive(Debug)]
pub(super) struct Reading {
    /// Cumulative, as Prometheus wants them; the last is the count.
    pub(super) cumulative: [u64; 20],
    pub(super) sum: u64,
}

impl Histogram {
    pub(super) fn record(&self, value: u64) {
        let bucket = WHOLE.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    pub(super) fn read(&self) -> Reading {
        let sum = self.sum.load(Relaxed);
        let mut total = 0;
        let cumulative = std::array::from_fn(|bucket| {
            total += self.buckets[bucket].load(Relaxed);
            total
        });
        Reading { cumulative, sum }
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_is_not_smaller() {
        for (value, le) in
            [(0, "0.5"), (1, "1"), (2, "5"), (5, "5"), (6, "10"), (3_600_000, "3600000"), (3_600_001, "+Inf")]
        {
            let histogram = Histogram::default();
            histogram.record(value);
            let reading = histogram.read();
            let first = reading.cumulative.iter().position(|count| *count == 1).unwrap();
            assert_eq!(BOUNDS.get(first).copied().unwrap_or("+Inf"), le, "{value}");
            assert_eq!((reading.sum, reading.cumulative[19], histogram.count()), (value, 1, 1));
        }
    }

    #[test]
    fn both_tables_are_the_same_bounds() {
        for (shown, whole) in BOUNDS.iter().zip(WHOLE) {
            assert_eq!(shown.parse::<f64>().unwrap().floor() as u64, whole);
        }
    }
}
