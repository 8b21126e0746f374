//! Randomness: drawn from an argument, so that every decision can be replayed.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::{Rng, rand_core::TryRng};

/// Where a layer's random numbers come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The thread's generator, seeded by the operating system.
    Thread,
    /// A counter that all clones share: the same seed gives the same decisions in the same order.
    Seeded(Arc<AtomicU64>),
}

impl Source {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(AtomicU64::new(seed)))
    }

    /// A generator for one decision.
    pub(crate) fn rng(&self) -> SplitMix64 {
        SplitMix64(match self {
            Self::Thread => rand::random(),
            Self::Seeded(state) => mix(state.fetch_add(GAMMA, Ordering::Relaxed)),
        })
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl TryRng for SplitMix64 {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|n| (n >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(GAMMA);
        Ok(mix(self.0))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

/// A number below `bound`, by Lemire's multiplication: the bias is below bound / 2^64.
pub(crate) fn below(rng: &mut impl Rng, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}
