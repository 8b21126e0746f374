//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018): a key that many ask for does
//! not bury its endpoint.

use std::num::NonZeroU32;

/// How far above the average an endpoint's load may be.
///
/// A request whose endpoint has as many in flight as it may goes on to the next one of its key. With enough room there
/// is always one: the caps add up to at least the requests in flight.
///
/// ```
/// use mesh_lb::BoundedLoad;
///
/// let bound = BoundedLoad::percent(125).unwrap();
/// // 99 in flight and this one, over 10 endpoints: 10 on average.
/// assert_eq!(bound.cap(99, 1, 10), 13);
/// // Of a quarter of the weight.
/// assert_eq!(bound.cap(99, 5, 20), 32);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BoundedLoad(NonZeroU32);

impl BoundedLoad {
    /// Percent of the average, 100 or more: `None` below. Envoy's hash_balance_factor; 120 to 200 are usual, and the
    /// closer to 100, the more requests are passed on.
    #[must_use]
    pub fn percent(percent: u32) -> Option<Self> {
        NonZeroU32::new(percent).filter(|percent| percent.get() >= 100).map(Self)
    }

    /// The most requests that an endpoint of this weight may have in flight, the one that asks included:
    /// ceil(c x (in flight + 1) x weight / weights).
    #[must_use]
    pub fn cap(self, in_flight: u32, weight: u32, weights: u64) -> u32 {
        let load = u128::from(self.0.get()) * (u128::from(in_flight) + 1) * u128::from(weight);
        u32::try_from(load.div_ceil(100 * u128::from(weights.max(1)))).unwrap_or(u32::MAX)
    }

    /// Is there room for one more on an endpoint that has `load` in flight?
    #[must_use]
    pub fn admits(self, load: u32, in_flight: u32, weight: u32, weights: u64) -> bool {
        load < self.cap(in_flight, weight, weights)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn less_than_the_average_is_no_bound() {
        assert_eq!(BoundedLoad::percent(99), None);
        assert_eq!(BoundedLoad::percent(100).map(|bound| bound.cap(0, 1, 3)), Some(1), "one request has a place");
        assert_eq!(BoundedLoad::percent(100).map(|bound| bound.cap(5, 1, 3)), Some(2));
    }

    proptest! {
        /// The paper's reason why a place is always found: the caps hold all requests in flight and the one that asks.
        #[test]
        fn caps_hold_every_request(
            percent in 100_u32..1000,
            in_flight in 0_u32..1_000_000,
            weights in proptest::collection::vec(1_u32.., 1..100),
        ) {
            let bound = BoundedLoad::percent(percent).unwrap();
            let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let caps: u64 = weights.iter().map(|weight| u64::from(bound.cap(in_flight, *weight, sum))).sum();
            prop_assert!(caps > u64::from(in_flight));
        }
    }
}
