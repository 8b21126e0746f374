//! Maglev (Eisenbud and others, NSDI 2016), slot for slot Envoy's.
//!
//! A table of a prime size; each host has an order of its own in which it would like the slots, and they take turns.
//! A pick is one look into the table, and shares are even to a slot. When a host leaves, a few requests of others move
//! too.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{hash, hash_seeded, shares::Shares};

/// A Maglev table of hosts: built once, then only read.
///
/// ```
/// use mesh_lb::Maglev;
///
/// let table = Maglev::new(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)], Maglev::DEFAULT_SIZE);
/// assert!(table.pick(mesh_lb::hash(b"some user"), 0).unwrap() < 2);
/// ```
#[derive(Debug)]
pub struct Maglev {
    slots: Slots,
    size: Divisor,
}

/// Half the memory is more of the table in the cache.
#[derive(Debug)]
enum Slots {
    Few(Box<[u16]>),
    Many(Box<[u32]>),
}

impl Maglev {
    /// Envoy's default table size.
    pub const DEFAULT_SIZE: u32 = 65_537;
    /// Sizes are below this prime (envoy MaglevLbConfig.table_size, istio validation).
    pub const MAX_SIZE: u32 = 5_000_011;

    /// A table over hosts, each an address as `ip:port` and a weight. The size should be prime, and is at least 2: a
    /// host's order reaches every slot of a prime table.
    ///
    /// envoy maglev_lb: hosts sorted by address, so that every client builds the same table; a host starts at
    /// hash(address) and steps by hash(address, seed 1); in round n a host takes a slot when n times its share has come
    /// to what it has taken, counted in shares of the heaviest.
    ///
    /// It costs 2 bytes for a slot, 4 with more than 65,536 hosts.
    pub fn new<A: AsRef<str>>(hosts: &[(A, u32)], size: u32) -> Self {
        Self::of(hosts, Shares::of(hosts.iter().map(|(_, weight)| *weight)), size)
    }

    pub(super) fn of<A: AsRef<str>, W>(hosts: &[(A, W)], shares: Shares, size: u32) -> Self {
        let size = size.max(2);
        let mut sorted = shares.each;
        sorted.sort_by(|(a, _), (b, _)| hosts[*a as usize].0.as_ref().cmp(hosts[*b as usize].0.as_ref()));
        let mut table = if sorted.is_empty() { Vec::new() } else { vec![FREE; size as usize] };
        let mut orders: Vec<Order> =
            sorted.iter().map(|(host, _)| Order::new(hosts[*host as usize].0.as_ref().as_bytes(), size)).collect();
        let mut free = table.len();
        let mut take = |turn: usize| {
            let slot = orders[turn].next_free(&table, size);
            table[slot] = sorted[turn].0;
            free -= 1;
            free > 0
        };
        if !sorted.is_empty() {
            if shares.min == shares.max {
                while (0..sorted.len()).all(&mut take) {}
            } else {
                in_rounds(&sorted, shares.max, take);
            }
        }
        Self { slots: Slots::new(table, hosts.len()), size: Divisor::new(size) }
    }

    /// The host for a hash, as an index into what the table was made from.
    ///
    /// Envoy's n-th attempt at the same request, where an earlier host is to be avoided, looks with another hash.
    #[must_use]
    pub fn pick(&self, hash: u64, attempt: usize) -> Option<usize> {
        // envoy: "By using value with most bits set for the retry attempts, we achieve a larger change in the hash".
        let hash = if attempt == 0 { hash } else { hash ^ (attempt as u64).wrapping_neg() };
        // Below the size, which is a u32.
        let slot = self.size.remainder(hash) as usize;
        match &self.slots {
            Slots::Few(slots) => slots.get(slot).map(|host| usize::from(*host)),
            Slots::Many(slots) => slots.get(slot).map(|host| *host as usize),
        }
    }

    /// Are there no hosts?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.slots {
            Slots::Few(slots) => slots.is_empty(),
            Slots::Many(slots) => slots.is_empty(),
        }
    }

    /// The same table with its hosts counted differently, below `hosts`.
    pub(super) fn renumber(&mut self, number: &[u32], hosts: usize) {
        let of = |host: usize| number[host];
        let table = match &self.slots {
            Slots::Few(slots) => slots.iter().map(|host| of(usize::from(*host))).collect(),
            Slots::Many(slots) => slots.iter().map(|host| of(*host as usize)).collect(),
        };
        self.slots = Slots::new(table, hosts);
    }
}

const FREE: u32 = u32::MAX;

impl Slots {
    fn new(table: Vec<u32>, hosts: usize) -> Self {
        if hosts <= 1 << 16 {
            // Below the number of hosts.
            Self::Few(table.into_iter().map(|host| host as u16).collect())
        } else {
            Self::Many(table.into())
        }
    }
}

/// The order in which a host would like the slots: `(offset + n * skip) % size`.
struct Order {
    at: u32,
    skip: u32,
}

impl Order {
    fn new(address: &[u8], size: u32) -> Self {
        let size = u64::from(size);
        // Both below the size.
        Self { at: (hash(address) % size) as u32, skip: (hash_seeded(address, 1) % (size - 1)) as u32 + 1 }
    }

    fn next_free(&mut self, table: &[u32], size: u32) -> usize {
        let mut passed = 0;
        loop {
            let slot = self.at as usize;
            self.at += self.skip;
            if self.at >= size {
                self.at -= size;
            }
            if table[slot] == FREE {
                return slot;
            }
            passed += 1;
            if passed == size {
                // It has come round: the size is no prime, and the free ones are elsewhere.
                self.skip = 1;
            }
        }
    }
}

/// The turns of unequal hosts: in round n those whose share times n is not below their target, which then grows by the
/// heaviest share. A queue of who is next instead of a walk over all in every round: when one host outweighs ten
/// thousand there are as many rounds as slots.
fn in_rounds(hosts: &[(u32, f64)], heaviest: f64, mut take: impl FnMut(usize) -> bool) {
    let mut targets = vec![0.0; hosts.len()];
    let mut queue: BinaryHeap<_> = (0..hosts.len()).map(|turn| Reverse((1_u32, turn))).collect();
    while let Some(mut next) = queue.peek_mut() {
        let Reverse((round, turn)) = *next;
        if !take(turn) {
            return;
        }
        targets[turn] += heaviest;
        next.0.0 = round_of(targets[turn], hosts[turn].1).max(round + 1);
    }
}

/// The first round n with `n * share >= target`, in floating point as Envoy compares.
fn round_of(target: f64, share: f64) -> u32 {
    // Saturates; no table has as many rounds.
    let mut round = (target / share) as u32;
    while f64::from(round) * share >= target && round > 0 {
        round -= 1;
    }
    while f64::from(round) * share < target && round < u32::MAX {
        round += 1;
    }
    round
}

/// Remainders by a number that is known long before: Lemire, Kaser, Kurz, "Faster remainder by direct computation"
/// (2019). The processor's own division costs more than the look into the table.
#[derive(Debug)]
struct Divisor {
    divisor: u32,
    /// 2^128 / divisor, rounded up: exact for divisors below 2^64 and 64-bit numbers.
    inverse: u128,
}

impl Divisor {
    fn new(divisor: u32) -> Self {
        Self { divisor, inverse: u128::MAX / u128::from(divisor) + 1 }
    }

    fn remainder(&self, number: u64) -> u64 {
        let fraction = self.inverse.wrapping_mul(u128::from(number));
        let (high, low) = ((fraction >> 64) as u64, fraction as u64);
        let divisor = u128::from(self.divisor);
        // (fraction * divisor) / 2^128, without a product of 160 bits.
        ((u128::from(high) * divisor + ((u128::from(low) * divisor) >> 64)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(weights: &[u32]) -> Vec<(String, u32)> {
        weights
            .iter()
            .enumerate()
            .map(|(n, weight)| (format!("10.0.{}.{}:80", n / 250, n % 250 + 1), *weight))
            .collect()
    }

    fn slots_of(table: &Maglev, hosts: usize) -> Vec<usize> {
        let mut counts = vec![0; hosts];
        // The remainder of a number below the size is the number.
        (0..u64::from(table.size.divisor)).for_each(|slot| counts[table.pick(slot, 0).unwrap()] += 1);
        counts
    }

    #[test]
    fn slots_follow_weights_to_a_slot() {
        for weights in [&[1_u32, 1, 1][..], &[1, 2, 5, 3, 7], &[1, 1000], &[u32::MAX, 1 << 30], &[0, 3]] {
            let slots = slots_of(&Maglev::new(&hosts(weights), 65_537), weights.len());
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            assert_eq!(slots.iter().sum::<usize>(), 65_537);
            for (slots, weight) in slots.iter().zip(weights) {
                let expected = 65_537.0 * f64::from(*weight) / sum;
                assert!((*slots as f64 - expected).abs() <= 2.0, "{weights:?}: {slots} of {expected}");
            }
        }
    }

    /// istio.md 1.4: "**Hosts are sorted by address string first**"
    #[test]
    fn the_order_given_does_not_matter() {
        let forward = hosts(&[1, 2, 5, 3, 7]);
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        let (one, other) = (Maglev::new(&forward, 1009), Maglev::new(&backward, 1009));
        assert!((0..1009).all(|slot| one.pick(slot, 0) == other.pick(slot, 0).map(|host| 4 - host)));
    }

    #[test]
    fn one_host_and_none() {
        let table = Maglev::new(&hosts(&[7]), 65_537);
        assert!((0..1000).all(|n| table.pick(n << 40, n as usize) == Some(0)));
        let none = Maglev::new::<&str>(&[], 65_537);
        assert!(none.is_empty() && none.pick(1, 0).is_none());
        assert_eq!(Maglev::new(&hosts(&[1, 1]), 0).pick(3, 0).map(|host| host < 2), Some(true), "2 slots at least");
    }

    /// From code a size may be anything: an order that does not reach every slot goes on slot by slot.
    #[test]
    fn a_size_that_is_no_prime_has_a_table_all_the_same() {
        for size in 2..200 {
            for weights in [&[1, 1][..], &[1, 3, 2], &[1; 40]] {
                let table = Maglev::new(&hosts(weights), size);
                assert!((0..u64::from(size)).all(|slot| table.pick(slot, 0).is_some_and(|host| host < weights.len())));
            }
        }
    }

    /// Envoy's loop over all hosts in every round, for weights of any kind.
    fn rounds_one_by_one(hosts: &[(u32, f64)], heaviest: f64, mut take: impl FnMut(usize) -> bool) {
        let mut targets = vec![0.0; hosts.len()];
        for round in 1_u32.. {
            for (turn, (_, share)) in hosts.iter().enumerate() {
                if f64::from(round) * share < targets[turn] {
                    continue;
                }
                targets[turn] += heaviest;
                if !take(turn) {
                    return;
                }
            }
        }
    }

    type Rounds = fn(&[(u32, f64)], f64, &mut dyn FnMut(usize) -> bool);

    proptest! {
        /// istio.md 1.4: "in each round a host takes its next free slot only while `round*w >= target`, then target += w_max"
        #[test]
        fn turns_are_those_of_envoys_loop(weights in proptest::collection::vec(1_u32..2000, 1..60)) {
            let shares = Shares::of(weights.iter().copied());
            let turns = |rounds: Rounds| {
                let mut turns = Vec::new();
                rounds(&shares.each, shares.max, &mut |turn| {
                    turns.push(turn);
                    turns.len() < 3000
                });
                turns
            };
            prop_assert_eq!(turns(|a, b, c| in_rounds(a, b, c)), turns(|a, b, c| rounds_one_by_one(a, b, c)));
        }

        #[test]
        fn remainders_are_exact(number: u64, divisor in 2_u32..) {
            for number in [number, 0, u64::MAX, u64::from(divisor) - 1, u64::from(divisor)] {
                prop_assert_eq!(Divisor::new(divisor).remainder(number), number % u64::from(divisor));
            }
        }
    }
}
