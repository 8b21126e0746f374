//! Weights as Envoy's hashing balancers see them: shares of 1, in floating point, in the order given.

/// Hosts that take part, with their shares.
#[derive(Debug)]
pub(super) struct Shares {
    /// Index into what was given, and share.
    pub(super) each: Vec<(u32, f64)>,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Shares {
    /// A weight of 0 takes a host out, unless that would be all of them.
    ///
    /// envoy thread_aware_lb_impl normalizeHostWeights: weight / sum, in double precision. The tables are built from
    /// these numbers, so they are computed in the same way, rounding and all. There the sum must fit 32 bits; here it
    /// need not.
    pub(super) fn of(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<u32> = weights.collect();
        let any = weights.iter().any(|weight| *weight > 0);
        let weights = (0..).zip(weights).filter(|(_, weight)| !any || *weight > 0).collect();
        Self::of_places([(1.0, weights)].into_iter())
    }

    /// Shares within places that have shares of their own: hosts by place, with their weights. A place's share is lost
    /// when nobody is there.
    ///
    /// envoy thread_aware_lb_impl normalizeLocalityWeights: a locality's weight by the sum of all, then each host's by
    /// the sum within.
    pub(super) fn of_places(places: impl Iterator<Item = (f64, Vec<(u32, u32)>)>) -> Self {
        let mut each = Vec::new();
        for (place, hosts) in places {
            let sum: u64 = hosts.iter().map(|(_, weight)| u64::from((*weight).max(1))).sum();
            let share = |weight: u32| f64::from(weight.max(1)) * place / sum as f64;
            each.extend(hosts.into_iter().map(|(host, weight)| (host, share(weight))));
        }
        let min = each.iter().map(|(_, share)| *share).fold(1.0, f64::min);
        let max = each.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        Self { each, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[u32]) -> (Vec<(u32, f64)>, f64, f64) {
        let shares = Shares::of(weights.iter().copied());
        (shares.each, shares.min, shares.max)
    }

    #[test]
    fn shares_of_one() {
        assert_eq!(shares(&[1, 3]), (vec![(0, 0.25), (1, 0.75)], 0.25, 0.75));
        assert_eq!(shares(&[2, 0, 2]), (vec![(0, 0.5), (2, 0.5)], 0.5, 0.5));
        assert_eq!(shares(&[0, 0]), (vec![(0, 0.5), (1, 0.5)], 0.5, 0.5));
        assert_eq!(shares(&[u32::MAX, u32::MAX]).1, 0.5);
        assert!(shares(&[]).0.is_empty());
    }

    #[test]
    fn shares_of_places() {
        let places = [(0.25, vec![(3, 1), (0, 3)]), (0.5, Vec::new()), (0.25, vec![(1, 9)])];
        let shares = Shares::of_places(places.into_iter());
        assert_eq!(shares.each, [(3, 0.0625), (0, 0.1875), (1, 0.25)]);
        assert_eq!((shares.min, shares.max), (0.0625, 0.25));
    }
}
