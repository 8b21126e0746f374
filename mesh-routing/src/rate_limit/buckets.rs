//! A bucket for each key, and never more of them than allowed.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use governor::{
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};

use super::limiter::Told;

/// governor's state by key. A bucket is the time at which it will be full: one of the past is full now. Clones are
/// the same.
#[derive(Clone, Debug)]
pub(super) struct Buckets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Box<[Mutex<Shard>]>,
    /// Keys in each shard.
    cap: usize,
    /// The bucket of all keys that there is no room for.
    overflow: InMemoryState,
    overflowed: AtomicU64,
    now: Told,
}

#[derive(Debug, Default)]
struct Shard {
    full_at: HashMap<u64, u64, BuildHasherDefault<AsItIs>>,
    /// Before that no bucket is full.
    crowded_until: u64,
}

/// A shard for so many keys, up to a number of shards.
const KEYS_PER_SHARD: usize = 1024;
const MAX_SHARDS: usize = 64;

impl Buckets {
    pub(super) fn new(max_keys: usize, now: Told) -> Self {
        let shards = (max_keys / KEYS_PER_SHARD).clamp(1, MAX_SHARDS);
        Self(Arc::new(Inner {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            cap: max_keys / shards,
            overflow: InMemoryState::default(),
            overflowed: AtomicU64::new(0),
            now,
        }))
    }

    /// Requests since the last call that there was no bucket for.
    pub(super) fn take_overflowed(&self) -> u64 {
        self.0.overflowed.swap(0, Ordering::Relaxed)
    }

    /// Buckets kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).full_at.len();
        self.0.shards.iter().map(len).sum()
    }

    fn shard(&self, key: u64) -> &Mutex<Shard> {
        // The map takes its place from the low bits and a tag from the highest: this takes what is between.
        &self.0.shards[(key >> 32) as usize % self.0.shards.len()]
    }
}

impl Shard {
    /// Is there room for one more, if buckets that are full go?
    fn make_room(&mut self, cap: usize, now: u64) -> bool {
        if self.full_at.len() >= cap && now >= self.crowded_until {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.crowded_until = self.full_at.values().copied().min().unwrap_or(0);
        }
        self.full_at.len() < cap
    }
}

impl StateStore for Buckets {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(*key).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = shard.full_at.get_mut(key) {
            let (admitted, next) = decide(Some((*full_at).into()))?;
            *full_at = next.into();
            return Ok(admitted);
        }
        if !shard.make_room(self.0.cap, self.0.now.nanos()) {
            drop(shard);
            self.0.overflowed.fetch_add(1, Ordering::Relaxed);
            return self.0.overflow.measure_and_replace(&NotKeyed::NonKey, decide);
        }
        let (admitted, next) = decide(None)?;
        shard.full_at.insert(*key, next.into());
        shard.crowded_until = shard.crowded_until.min(next.into());
        Ok(admitted)
    }
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
