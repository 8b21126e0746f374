//! Means with their standard errors, and percentiles.

use std::{ops::Range, time::Duration};

/// The mean of a correlated series, with its standard error by batch means: the time measured is cut into batches of
/// equal length, long against the time in which the system forgets, and their means are taken as independent.
#[derive(Clone, Debug)]
pub struct Batches {
    during: Range<Duration>,
    sums: Vec<(f64, u64)>,
}

impl Batches {
    /// Over this time. What is before it is warm-up.
    #[must_use]
    pub fn over(during: Range<Duration>, count: usize) -> Self {
        Self { during, sums: vec![(0.0, 0); count] }
    }

    /// A value that belongs to this time.
    pub fn add(&mut self, at: Duration, value: f64) {
        if self.during.contains(&at) {
            let share = (at - self.during.start).as_secs_f64() / (self.during.end - self.during.start).as_secs_f64();
            let last = self.sums.len() - 1;
            // Not negative, and at most the last one.
            let (sum, count) = &mut self.sums[((share * (last + 1) as f64) as usize).min(last)];
            *sum += value;
            *count += 1;
        }
    }

    /// The means of the batches.
    pub fn means(&self) -> impl Iterator<Item = f64> {
        self.sums.iter().filter(|(_, count)| *count > 0).map(|(sum, count)| sum / *count as f64)
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.sums.iter().map(|(_, count)| count).sum()
    }
}

/// A mean and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
}

impl Estimate {
    /// From values taken as independent.
    ///
    /// ```
    /// let estimate = mesh_sim::statistics::Estimate::of([1.0, 3.0, 1.0, 3.0, 2.0]);
    /// assert_eq!(estimate.mean, 2.0);
    /// assert!((estimate.error - (1.0_f64 / 5.0).sqrt()).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean, error: (variance / count).sqrt() }
    }

    /// Is it as near to `expected` as a share of it plus three standard errors?
    #[must_use]
    pub fn agrees(&self, expected: f64, share: f64) -> bool {
        (self.mean - expected).abs() <= share * expected + 3.0 * self.error
    }
}

/// How much each batch says about the next one: near 0 where batches are long enough.
#[must_use]
pub fn correlation(runs: &[Vec<f64>]) -> f64 {
    let mean = Estimate::of(runs.iter().flatten().copied()).mean;
    let variance: f64 = runs.iter().flatten().map(|value| (value - mean).powi(2)).sum();
    let pairs = runs.iter().flat_map(|run| run.windows(2));
    pairs.map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>() / variance
}

/// The value that this share of values is not above (nearest rank). Sorts them.
///
/// ```
/// # use mesh_sim::statistics::percentile;
/// assert_eq!(percentile(&mut [3, 1, 2, 4], 0.5), Some(2));
/// assert_eq!(percentile(&mut [3, 1, 2, 4], 0.99), Some(4));
/// assert_eq!(percentile::<u8>(&mut [], 0.5), None);
/// ```
pub fn percentile<T: Ord + Copy>(values: &mut [T], share: f64) -> Option<T> {
    values.sort_unstable();
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_leave_out_the_warm_up_and_cut_the_rest_evenly() {
        let second = Duration::from_secs;
        let mut batches = Batches::over(second(10)..second(20), 2);
        for (at, value) in [(9, 100.0), (10, 1.0), (14, 3.0), (15, 5.0), (19, 7.0), (20, 100.0)] {
            batches.add(second(at), value);
        }
        assert_eq!(batches.means().collect::<Vec<_>>(), [2.0, 6.0]);
        assert_eq!(batches.count(), 4);
    }

    #[test]
    fn correlation_tells_runs_of_like_values_from_alternating_ones() {
        assert!(correlation(&[vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0]]) > 0.4);
        assert!(correlation(&[vec![1.0, 2.0, 1.0, 2.0, 1.0, 2.0]]) < -0.4);
    }
}
