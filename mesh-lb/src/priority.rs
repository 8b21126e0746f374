//! Priorities: how much goes to each level, by how many of its endpoints are healthy (Envoy's priority levels).
//!
//! A level takes what 1.4 times its healthy share carries, the next one the rest: with one endpoint of five ejected
//! nothing moves, with one of two 30 % goes on. Where all levels together cannot carry everything, those with too few
//! healthy endpoints use all of theirs: panic.

/// Endpoints of a level, and those in service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelHealth {
    /// Endpoints in service.
    pub healthy: u64,
    /// All.
    pub total: u64,
}

impl LevelHealth {
    /// So many of so many.
    #[must_use]
    pub fn new(healthy: u64, total: u64) -> Self {
        Self { healthy, total }
    }

    /// Envoy's overprovisioning factor, 140, in whole percents.
    fn availability(self) -> u64 {
        (140 * self.healthy).checked_div(self.total).unwrap_or(0).min(100)
    }

    /// A place's weight less what it cannot carry, in parts of 2^20: whoever has one endpoint in service has some, however
    /// many are out.
    ///
    /// envoy HostSetImpl::effectiveLocalityWeight: the ratio is a fraction there, not whole percents.
    pub(crate) fn scale(self, weight: u64) -> u64 {
        let whole = 1 << 20;
        let carries = (u128::from(self.healthy) * 140 * whole).checked_div(100 * u128::from(self.total)).unwrap_or(0);
        let carries = carries.clamp(u128::from(self.healthy > 0), whole);
        // A share of 2^32 fits, 4,096 times.
        weight.saturating_mul(carries as u64)
    }

    fn below(self, percent: u32) -> bool {
        self.healthy * 100 < u64::from(percent) * self.total || (self.total == 0 && percent > 0)
    }
}

/// What goes where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PriorityLoad {
    /// Percents of each level; they sum up to 100.
    pub load: Vec<u32>,
    /// Levels that use all of their endpoints, healthy or not.
    pub panic: Vec<bool>,
}

impl PriorityLoad {
    /// Worked out from the levels' health; below `panic_threshold` percent a level is in panic. 0: never.
    ///
    /// envoy LoadBalancerBase::recalculatePerPriorityState, recalculatePerPriorityPanic; measured on Envoy 1.40 (t5: one
    /// of two healthy is 70/30).
    ///
    /// ```
    /// use mesh_lb::{LevelHealth, PriorityLoad};
    /// let load = PriorityLoad::of(&[LevelHealth::new(1, 2), LevelHealth::new(2, 2)], 0);
    /// assert_eq!(load.load, [70, 30]);
    /// ```
    #[must_use]
    pub fn of(levels: &[LevelHealth], panic_threshold: u32) -> Self {
        let availability: Vec<u64> = levels.iter().map(|level| level.availability()).collect();
        let normalized = availability.iter().sum::<u64>().min(100);
        let panic: Vec<bool> = levels.iter().map(|level| normalized < 100 && level.below(panic_threshold)).collect();
        let load = if panic.iter().all(|panic| *panic) {
            // All in panic: by how many there are.
            let total = levels.iter().map(|level| level.total).sum();
            shared_out(levels.iter().map(|level| level.total), total)
        } else {
            shared_out(availability.into_iter(), normalized)
        };
        Self { load, panic }
    }

    /// The level that a number is for; levels are passed when the percents before them do not reach it.
    pub(crate) fn level(&self, draw: u64) -> usize {
        let percent = u32::try_from(draw % 100).unwrap_or_default();
        let mut sum = 0;
        let reached = |load: &u32| {
            sum += load;
            percent < sum
        };
        self.load.iter().position(reached).unwrap_or_default()
    }
}

/// A hundred in these proportions, in whole numbers; what rounding leaves goes to the first that has any. Nothing at all
/// is the first level's.
fn shared_out(parts: impl Iterator<Item = u64>, total: u64) -> Vec<u32> {
    let parts: Vec<u64> = parts.collect();
    let mut left = 100;
    let share = |part: &u64| {
        let share = (part * 100).checked_div(total).unwrap_or(0).min(left);
        left -= share;
        share as u32
    };
    let mut shares: Vec<u32> = parts.iter().map(share).collect();
    let first = parts.iter().position(|part| *part > 0).unwrap_or_default();
    if let Some(first) = shares.get_mut(first) {
        *first += left as u32;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn levels(counts: &[(u64, u64)]) -> Vec<LevelHealth> {
        counts.iter().map(|(healthy, total)| LevelHealth::new(*healthy, *total)).collect()
    }

    /// measured on Envoy 1.40: 700 to 2,000 requests over two levels each.
    #[test]
    fn loads_and_panic_as_measured() {
        for (counts, threshold, load, panic) in [
            (&[(1, 2), (1, 1)][..], 0, &[70, 30][..], &[false, false][..]),
            (&[(1, 4), (2, 4)], 50, &[35, 65], &[false, false]),
            (&[(1, 4), (1, 4)], 50, &[50, 50], &[true, true]),
            (&[(1, 4), (1, 4)], 0, &[50, 50], &[false, false]),
            (&[(0, 2), (1, 4)], 0, &[0, 100], &[false, false]),
            (&[(0, 2), (1, 4)], 30, &[34, 66], &[true, true]),
            (&[(1, 3)], 0, &[100], &[false]),
            (&[(1, 3)], 50, &[100], &[true]),
            // envoy: "Never set panic mode if normalized total health is 100%".
            (&[(3, 4)], 80, &[100], &[false]),
            (&[(2, 4)], 80, &[100], &[true]),
            (&[(0, 3)], 0, &[100], &[false]),
            (&[(0, 3), (0, 3)], 0, &[100, 0], &[false, false]),
            (&[(0, 0), (1, 1)], 0, &[0, 100], &[false, false]),
        ] {
            let found = PriorityLoad::of(&levels(counts), threshold);
            assert_eq!((&*found.load, &*found.panic), (load, panic), "{counts:?} {threshold}");
        }
    }

    /// envoy distributeLoad: whole percents, what rounding leaves is the first level's.
    #[test]
    fn three_levels() {
        for (percents, expected) in [
            (&[100_u64, 100, 100][..], &[100, 0, 0][..]),
            (&[72, 72, 100], &[100, 0, 0]),
            (&[71, 71, 100], &[99, 1, 0]),
            (&[50, 50, 100], &[70, 30, 0]),
            (&[25, 100, 100], &[35, 65, 0]),
            (&[25, 25, 100], &[35, 35, 30]),
            (&[25, 25, 20], &[37, 35, 28]),
        ] {
            let health: Vec<_> = percents.iter().map(|percent| LevelHealth::new(*percent, 100)).collect();
            assert_eq!(PriorityLoad::of(&health, 0).load, expected, "{percents:?}");
        }
    }

    proptest! {
        #[test]
        fn a_hundred_is_shared_out_and_nobody_without_health_has_any(
            counts in proptest::collection::vec((0_u64..20, 0_u64..20), 1..6),
            threshold in 0_u32..=100,
        ) {
            let health: Vec<_> = counts.iter().map(|(a, b)| LevelHealth::new(*a.min(b), *b)).collect();
            let found = PriorityLoad::of(&health, threshold);
            prop_assert_eq!(found.load.iter().sum::<u32>(), 100);
            let anybody = health.iter().any(|level| level.healthy > 0);
            for ((level, load), panic) in health.iter().zip(&found.load).zip(&found.panic) {
                prop_assert!(level.healthy > 0 || *load == 0 || *panic || !anybody);
            }
            for draw in 0..100 {
                prop_assert!(found.load[found.level(draw)] > 0);
            }
        }
    }
}
