//! The decision: is there a token.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use super::{TokenBucket, buckets::Buckets};

/// A bucket, or one for each key, and what is in it. Reads no clock: whoever asks says what time it is.
///
/// ```
/// use std::time::Duration;
/// use mesh_routing::{Limiter, TokenBucket};
///
/// let now = tokio::time::Instant::now();
/// let limiter = Limiter::new(TokenBucket::new(2, 1, Duration::from_secs(10)).unwrap());
/// assert!(limiter.admit(now) && limiter.admit(now));
/// assert!(!limiter.admit(now + Duration::from_secs(9)));
/// assert!(limiter.admit(now + Duration::from_secs(10)));
/// assert!(!limiter.admit(now + Duration::from_secs(10)));
/// ```
#[derive(Debug)]
pub struct Limiter {
    start: OnceLock<Instant>,
    now: Told,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    One(RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>),
    Keyed(RateLimiter<u64, Buckets, Told, NoOpMiddleware<Nanos>>, Buckets),
}

impl Limiter {
    /// One bucket, full.
    #[must_use]
    pub fn new(bucket: TokenBucket) -> Self {
        let now = Told::default();
        let limiter = RateLimiter::new(bucket.quota(), InMemoryState::default(), now.clone());
        Self { start: OnceLock::new(), now, kind: Kind::One(limiter) }
    }

    /// A bucket for each key, up to so many; further keys share one.
    #[must_use]
    pub fn keyed(bucket: TokenBucket, max_keys: u32) -> Self {
        let now = Told::default();
        let buckets = Buckets::new(max_keys.max(1) as usize, now.clone());
        let limiter = RateLimiter::new(bucket.quota(), buckets.clone(), now.clone());
        Self { start: OnceLock::new(), now, kind: Kind::Keyed(limiter, buckets) }
    }

    /// Take a token at this time, if there is one. Times before one that was told already count as that.
    #[must_use]
    pub fn admit(&self, now: Instant) -> bool {
        self.admit_key(now, 0)
    }

    /// The same from the bucket of a key; without keys there is one for all.
    #[must_use]
    pub fn admit_key(&self, now: Instant, key: u64) -> bool {
        let since = now.saturating_duration_since(*self.start.get_or_init(|| now));
        self.now.tell(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        match &self.kind {
            Kind::One(limiter) => limiter.check().is_ok(),
            Kind::Keyed(limiter, _) => limiter.check_key(&key).is_ok(),
        }
    }

    /// Requests since the last call that came with keys there was no room for, and took their token from the bucket
    /// that those share.
    #[must_use]
    pub fn take_overflowed(&self) -> u64 {
        match &self.kind {
            Kind::One(_) => 0,
            Kind::Keyed(_, buckets) => buckets.take_overflowed(),
        }
    }

    /// Buckets kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        match &self.kind {
            Kind::One(_) => 1,
            Kind::Keyed(_, buckets) => buckets.len(),
        }
    }
}

/// governor's clock: the latest time that was told, in nanoseconds. It never goes back. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<AtomicU64>);

impl Told {
    fn tell(&self, nanos: u64) {
        // Most often somebody else told the same or later: then this only reads.
        if self.nanos() < nanos {
            self.0.fetch_max(nanos, Ordering::AcqRel);
        }
    }

    pub(super) fn nanos(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.nanos().into()
    }
}
