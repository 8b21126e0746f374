//! Buckets that a request led to already.

use std::collections::HashSet;

use super::Bucket;

/// A request may say the same thing thousands of times, in its path, its query or its headers. Each bucket is visited
/// once: otherwise whoever writes the request decides how often the routes in it are asked.
#[derive(Debug)]
pub(super) struct Seen {
    few: [Bucket; FEW],
    count: usize,
    /// Those that there is no room for.
    more: Option<HashSet<u32>>,
}

/// What is not made to be slow leads to no more, and costs no allocation.
const FEW: usize = 16;

impl Seen {
    pub(super) fn new() -> Self {
        Self { few: [Bucket::NONE; FEW], count: 0, more: None }
    }

    /// Is it met for the first time?
    pub(super) fn is_first(&mut self, bucket: Bucket) -> bool {
        if self.few[..self.count].contains(&bucket) {
            return false;
        }
        match self.few.get_mut(self.count) {
            Some(place) => {
                *place = bucket;
                self.count += 1;
                true
            }
            None => self.more.get_or_insert_default().insert(bucket.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_is_new_once() {
        let mut seen = Seen::new();
        for number in (0..200).rev().map(|n| n * 7) {
            assert!(seen.is_first(Bucket(number)) && !seen.is_first(Bucket(number)), "{number}");
        }
        assert!((0..1_400).all(|n| seen.is_first(Bucket(n)) == (n % 7 != 0)));
    }
}
