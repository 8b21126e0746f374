//! Sampling by weight in constant time: the alias method (Vose 1991), in whole numbers and so without rounding.

use rand::Rng;

use crate::random::below;

/// A table to draw indices from, in proportion to their weights.
#[derive(Debug)]
pub(super) struct Alias {
    /// Per column: below the threshold it is the column's own index, else the other.
    columns: Box<[(u64, u32)]>,
    total: u64,
}

impl Alias {
    /// Weights are at least 1; their sum may be beyond 2^32.
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let count = weights.len() as u64;
        // Scaled by the number of columns, so that the average is `total`. 2^32 columns of 2^32 still fit.
        let mut scaled: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * count).collect();
        let mut columns: Vec<(u64, u32)> = (0..weights.len()).map(|index| (total, index as u32)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|index| scaled[*index] < total);
        while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
            columns[poor] = (scaled[poor], rich as u32);
            scaled[rich] -= total - scaled[poor];
            if scaled[rich] < total { small.push(rich) } else { large.push(rich) }
        }
        Self { columns: columns.into(), total }
    }

    pub(super) fn sample(&self, rng: &mut impl Rng) -> usize {
        // Below the length, which is a usize.
        let column = below(rng, self.columns.len() as u64) as usize;
        let (threshold, other) = self.columns[column];
        if below(rng, self.total) < threshold { column } else { other as usize }
    }

    /// The sum of all weights.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The weight that each index has in the table, times the number of columns.
    #[cfg(test)]
    fn shares(&self) -> Vec<u64> {
        let mut shares = vec![0; self.columns.len()];
        for (column, (threshold, other)) in self.columns.iter().enumerate() {
            shares[column] += threshold;
            shares[*other as usize] += self.total - threshold;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_are_the_weights_exactly(weights in proptest::collection::vec(1_u32.., 1..50)) {
            let expected: Vec<u64> = weights.iter().map(|w| u64::from(*w) * weights.len() as u64).collect();
            prop_assert_eq!(Alias::new(&weights).shares(), expected);
        }
    }
}
