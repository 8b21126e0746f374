//! One draw in the place of all that a request makes.

use crate::percent::Percent;

/// A number from 0 up to 1, or no draw at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw(Option<f64>);

impl Draw {
    /// What is below 0 is 0. 1 and more is the largest number below 1.
    pub(super) fn new(roll: Option<f64>) -> Self {
        Self(roll.map(|roll| if roll < 1.0 { roll.max(0.0) } else { 1.0_f64.next_down() }))
    }

    /// `floor(roll * total)`.
    pub(super) fn below(self, total: u64) -> Option<u64> {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "weights are small, and the product is not negative"
        )]
        self.0.map(|roll| ((roll * total as f64) as u64).min(total.saturating_sub(1)))
    }

    /// Does a share apply: by the draw, `roll * 100 < percent`; without one, to every request?
    pub(super) fn certain(self, share: Percent) -> bool {
        share == Percent::ALL || self.0.is_some_and(|roll| roll * 100.0 < share.value())
    }

    /// May it?
    pub(super) fn possible(self, share: Percent) -> bool {
        if self.0.is_some() { self.certain(share) } else { !share.is_none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_intervals_and_shares_are_below() {
        // issue: "cumulative weight of floor(roll x sum); a percentage p applies if roll x 100 < p"
        let below = |roll| Draw::new(Some(roll)).below(100);
        for (roll, number) in
            [(0.0, 0), (0.009, 0), (0.01, 1), (0.29, 28), (0.7, 70), (0.999_999, 99), (1.0, 99), (2.0, 99), (-1.0, 0)]
        {
            assert_eq!(below(roll), Some(number), "{roll}");
        }
        assert_eq!(Draw::new(Some(f64::NAN)).below(100), Some(99));
        assert!(Draw::new(Some(1.0)).below(u64::MAX) < Some(u64::MAX));
        assert_eq!(Draw::new(None).below(100), None);
        let half = Percent::new(50.0).unwrap();
        for (roll, applies) in [(Some(0.0), true), (Some(0.499_999), true), (Some(0.5), false), (Some(1.0), false)] {
            assert_eq!((Draw::new(roll).certain(half), Draw::new(roll).possible(half)), (applies, applies), "{roll:?}");
        }
        assert!(!Draw::new(None).certain(half) && Draw::new(None).possible(half));
        for roll in [None, Some(0.0), Some(0.5), Some(1.0)] {
            assert!(Draw::new(roll).certain(Percent::ALL) && Draw::new(roll).possible(Percent::ALL));
            assert!(!Draw::new(roll).possible(Percent::default()));
        }
    }
}
