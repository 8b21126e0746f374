//! Ring hash (ketama), entry for entry Envoy's.
//!
//! Every host has several places on a circle of 2^64; a request goes to the next place clockwise of its hash. When a
//! host leaves, only its own requests move. Shares are uneven where the ring is small: with 1,024 places and 5 hosts
//! of the same weight, by about a tenth.

use super::{hash, shares::Shares};

/// A ring of hosts: built once, then only read.
///
/// ```
/// use mesh_lb::Ring;
///
/// let ring = Ring::new(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 2)], 1024);
/// let chosen = ring.pick(mesh_lb::hash(b"some user"), 0).unwrap();
/// assert!(chosen < 3);
/// ```
#[derive(Debug)]
pub struct Ring {
    places: Box<[Place]>,
    /// For each value that a hash's top bits can have, the first place at or past it: hashes are spread evenly, so a
    /// search starts about where it ends.
    starts: Box<[u32]>,
    shift: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u64,
    host: u32,
}

impl Ring {
    /// Envoy's default minimum_ring_size, and Istio's.
    pub const DEFAULT_MINIMUM_SIZE: u64 = 1024;
    /// Envoy's maximum_ring_size: what a ring is scaled down to when weights are very uneven.
    pub const MAX_SIZE: u64 = 8 * 1024 * 1024;

    /// A ring over hosts, each an address as `ip:port` and a weight, with at least about `minimum_size` places.
    ///
    /// envoy ring_hash_lb Ring: enough places that the lightest host has a whole number of them; the others may not,
    /// so what is placed and what should be are running sums over all hosts, in the order given. Place i of a host is
    /// at the hash of `address_i`.
    ///
    /// It costs 16 bytes for a place, and 4 to 8 more to find it.
    pub fn new<A: AsRef<str>>(hosts: &[(A, u32)], minimum_size: u64) -> Self {
        Self::of(hosts, &Shares::of(hosts.iter().map(|(_, weight)| *weight)), minimum_size)
    }

    pub(super) fn of<A: AsRef<str>, W>(hosts: &[(A, W)], shares: &Shares, minimum_size: u64) -> Self {
        let scale = ((shares.min * minimum_size as f64).ceil() / shares.min).min(Self::MAX_SIZE as f64);
        // At most MAX_SIZE.
        let mut places = Vec::with_capacity(if shares.each.is_empty() { 0 } else { scale.ceil() as usize });
        let (mut placed, mut target) = (0.0, 0.0);
        let mut key = Vec::new();
        for (host, share) in &shares.each {
            key.clear();
            key.extend_from_slice(hosts[*host as usize].0.as_ref().as_bytes());
            key.push(b'_');
            let prefix = key.len();
            target += scale * share;
            let mut number = 0;
            while placed < target {
                key.truncate(prefix);
                push_decimal(&mut key, number);
                places.push(Place { hash: hash(&key), host: *host });
                number += 1;
                placed += 1.0;
            }
        }
        places.sort_unstable_by_key(|place| place.hash);
        let bits = places.len().next_power_of_two().trailing_zeros().max(1);
        let shift = u64::BITS - bits;
        Self { starts: starts(&places, bits, shift), places: places.into(), shift }
    }

    /// The host for a hash, as an index into what the ring was made from: the first place at or past the hash.
    ///
    /// Envoy's n-th attempt at the same request, where an earlier host is to be avoided, goes n places further.
    #[must_use]
    pub fn pick(&self, hash: u64, attempt: usize) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        // Below 2^bits, and one more start than that.
        let bucket = (hash >> self.shift) as usize;
        let (from, to) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let at = from + self.places[from..to].partition_point(|place| place.hash < hash);
        let mut at = at + attempt;
        if at >= self.places.len() {
            at %= self.places.len();
        }
        Some(self.places[at].host as usize)
    }

    /// Places on the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Are there no hosts?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The same ring with its hosts counted differently.
    pub(super) fn renumber(&mut self, number: &[u32]) {
        self.places.iter_mut().for_each(|place| place.host = number[place.host as usize]);
    }
}

fn starts(places: &[Place], bits: u32, shift: u32) -> Box<[u32]> {
    let mut starts = Vec::with_capacity((1 << bits) + 1);
    let mut at = 0;
    for bucket in 0..1_u64 << bits {
        while places.get(at).is_some_and(|place| place.hash >> shift < bucket) {
            at += 1;
        }
        // A ring has at most MAX_SIZE places.
        starts.push(at as u32);
    }
    starts.push(places.len() as u32);
    starts.into()
}

fn push_decimal(key: &mut Vec<u8>, number: u32) {
    let mut digits = [0; 10];
    let (mut from, mut left) = (digits.len(), number);
    loop {
        from -= 1;
        // Below 10.
        digits[from] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    key.extend_from_slice(&digits[from..]);
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

    fn places_of(ring: &Ring, hosts: usize) -> Vec<usize> {
        (0..hosts).map(|host| ring.places.iter().filter(|place| place.host as usize == host).count()).collect()
    }

    /// envoy ring_hash_lb: "Scale up the number of hashes per host such that the least-weighted host gets a whole
    /// number of hashes on the ring."
    /// istio.md 1.4: "scale=ceil(w_min*1024)/w_min, over all hosts in configured order"
    #[test]
    fn the_lightest_has_a_whole_number_of_places() {
        for (weights, minimum, expected) in [
            (&[1_u32, 1, 1, 1, 1][..], 1024, &[205_usize, 205, 205, 205, 205][..]),
            (&[1, 3], 1024, &[256, 768]),
            (&[1, 1000], 1024, &[2, 2000]),
            (&[1], 1024, &[1024]),
            (&[0, 1], 1024, &[0, 1024]),
            (&[1, 1, 1], 1, &[1, 1, 1]),
        ] {
            let ring = Ring::new(&hosts(weights), minimum);
            assert_eq!(places_of(&ring, weights.len()), expected, "{weights:?}");
        }
        // 1,025 places for a share of 3/8 each and 1/4: running sums, so that none is lost.
        let ring = Ring::new(&hosts(&[3, 2, 3]), 1022);
        assert_eq!((ring.len(), places_of(&ring, 3)), (1024, vec![384, 256, 384]));
    }

    #[test]
    fn one_host_and_none() {
        let ring = Ring::new(&hosts(&[7]), 1024);
        assert!((0..1000).all(|n| ring.pick(hash(&[n as u8]), n) == Some(0)));
        let none = Ring::new::<&str>(&[], 1024);
        assert!(none.is_empty() && none.pick(1, 0).is_none());
    }

    /// envoy RingHashLbConfig.maximum_ring_size: "Defaults to 8M entries".
    #[test]
    fn very_uneven_weights_make_no_ring_beyond_the_maximum() {
        let ring = Ring::new(&hosts(&[1, 100_000_000]), 1024);
        assert_eq!(ring.len() as u64, Ring::MAX_SIZE);
        assert_eq!(ring.pick(1, 0), Some(1));
    }

    #[test]
    fn a_host_that_leaves_moves_only_its_own_requests() {
        // With a whole number of places for each, whatever their number.
        let before = Ring::new(&hosts(&[1; 8]), 8);
        let after = Ring::new(&hosts(&[1; 8])[..7], 7);
        for n in 0..1000_u32 {
            let hash = hash(&n.to_le_bytes());
            let (was, is) = (before.pick(hash, 0), after.pick(hash, 0));
            assert!(was == is || was == Some(7), "{n}");
        }
    }

    proptest! {
        /// envoy Ring::chooseHost: the first place whose hash is not below the request's, or else the first of all.
        #[test]
        fn a_search_finds_the_next_place(
            weights in proptest::collection::vec(0_u32..9, 1..50),
            minimum in 1_u64..600,
            hashes in proptest::collection::vec(any::<u64>(), 1..50),
            attempt in 0_usize..2000,
        ) {
            let ring = Ring::new(&hosts(&weights), minimum);
            let ends = [0, 1, u64::MAX].into_iter();
            let exact = ring.places.iter().map(|place| place.hash).collect::<Vec<_>>();
            for hash in hashes.into_iter().chain(ends).chain(exact) {
                let next = ring.places.iter().position(|place| place.hash >= hash).unwrap_or(0);
                let expected = ring.places[(next + attempt) % ring.len()].host as usize;
                prop_assert_eq!(ring.pick(hash, attempt), Some(expected));
            }
        }
    }
}
