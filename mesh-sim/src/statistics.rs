//! Means with their standard errors, and percentiles.

use std::{ops::Range, time::Duration};

use crate::{End, Ended};

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

/// How long clients waited, and for how many it was in vain.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    micros: Vec<u32>,
    /// Answered with an error.
    pub failed: u64,
    /// Not answered in time.
    pub given_up: u64,
}

impl Waits {
    /// One more.
    pub fn add(&mut self, ended: &Ended) {
        self.micros.push(u32::try_from(ended.took.as_micros()).unwrap_or(u32::MAX));
        self.failed += u64::from(ended.end == End::Failed);
        self.given_up += u64::from(ended.end == End::GivenUp);
    }

    /// All of these together.
    #[must_use]
    pub fn join<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut joined = Self::default();
        for waits in all {
            joined.micros.extend_from_slice(&waits.micros);
            joined.failed += waits.failed;
            joined.given_up += waits.given_up;
        }
        joined
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.micros.len() as u64
    }

    /// Neither answered in time nor well.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.failed + self.given_up
    }

    /// This share of them waited that long at most (nearest rank). Nobody waits longer than until giving up.
    ///
    /// # Panics
    ///
    /// When there was nobody.
    pub fn percentile(&mut self, share: f64) -> Duration {
        let rank = ((share * self.micros.len() as f64).ceil() as usize).max(1) - 1;
        let (_, value, _) = self.micros.select_nth_unstable(rank);
        Duration::from_micros(u64::from(*value))
    }
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
    fn waits_have_percentiles_by_nearest_rank_and_know_their_errors() {
        let mut waits = Waits::default();
        for (millis, end) in [(30, End::Answered), (10, End::Failed), (40, End::GivenUp), (20, End::Answered)] {
            let took = Duration::from_millis(millis);
            waits.add(&Ended { arrived: Duration::ZERO, took, server: 0, end });
        }
        let all = [0.25, 0.26, 0.75, 1.0].map(|share| waits.percentile(share).as_millis());
        assert_eq!((all, waits.count(), waits.errors()), ([10, 20, 30, 40], 4, 2));
        assert_eq!(Waits::join([&waits, &waits]).errors(), 4);
    }

    #[test]
    fn correlation_tells_runs_of_like_values_from_alternating_ones() {
        assert!(correlation(&[vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0]]) > 0.4);
        assert!(correlation(&[vec![1.0, 2.0, 1.0, 2.0, 1.0, 2.0]]) < -0.4);
    }
}
