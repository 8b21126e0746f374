//! Slow start: a new endpoint's share grows while it warms up.

use std::time::Duration;

/// `loadBalancer.warmup`: for how long, and how fast.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Warmup {
    /// From when the endpoint became known until it has its whole share.
    pub duration: Duration,
    /// The least share, in percent of the whole one. Default 10.
    pub minimum_percent: f64,
    /// 1, the default: the share grows evenly; above: faster at first.
    pub aggression: f64,
}

impl Warmup {
    /// So long, with Istio's defaults.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self { duration, minimum_percent: 10.0, aggression: 1.0 }
    }

    /// The part of its weight that an endpoint has at this age.
    ///
    /// envoy slow_start.rst: "NewWeight = Weight * Max(MinWeightPercent, TimeFactor ^ (1 / Aggression))", where
    /// "TimeFactor = Max(TimeSinceStartInSeconds, 1) / SlowStartWindow"; its code counts in milliseconds.
    ///
    /// ```
    /// use std::time::Duration;
    /// let minute = mesh_lb::Warmup::new(Duration::from_secs(60));
    /// assert_eq!(minute.factor(Duration::ZERO), 0.1);
    /// assert_eq!(minute.factor(Duration::from_secs(30)), 0.5);
    /// assert_eq!(minute.factor(Duration::from_secs(60)), 1.0);
    /// ```
    #[must_use]
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.duration {
            return 1.0;
        }
        let time = age.max(Duration::from_millis(1)).as_secs_f64() / self.duration.as_secs_f64();
        let grown = if self.aggression == 1.0 { time } else { time.powf(1.0 / self.aggression) };
        grown.max(self.minimum_percent / 100.0).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_to_the_whole() {
        let seconds = Duration::from_secs;
        let fast = Warmup { aggression: 2.0, minimum_percent: 0.0, ..Warmup::new(seconds(100)) };
        assert_eq!(fast.factor(seconds(25)), 0.5);
        assert!(fast.factor(Duration::ZERO) > 0.0, "at least a millisecond");
        let mut last = 0.0;
        for age in 0..=120 {
            let factor = Warmup::new(seconds(100)).factor(seconds(age));
            assert!((last..=1.0).contains(&factor) && factor >= 0.1);
            last = factor;
        }
        assert_eq!(last, 1.0);
        assert_eq!(Warmup::new(Duration::from_micros(1)).factor(Duration::ZERO), 1.0, "shorter than a millisecond");
    }
}
