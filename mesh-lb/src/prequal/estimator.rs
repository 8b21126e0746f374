//! The server's side: how many requests it has, and how long one takes at that number.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::LoadReport;
use crate::outlier::nanos;

/// Samples that are looked at: the last ones.
const KEPT: usize = 256;
/// Samples that a latency is the median of: those whose RIF was nearest.
const NEAREST: usize = 25;
/// Samples above this age say nothing of today.
const OLDEST: u64 = Duration::from_secs(10).as_nanos() as u64;

/// What a server knows of its load.
///
/// NSDI'24 Prequal, 4: RIF is a counter; the latency is the median of recent latencies of queries whose RIF on arrival was at or
/// near the present one. Here: of the 25 nearest of the last 256 (load-balancing.md 2.1: 9 of 64 are too few at 1.74
/// times the allocation), of at most 10 s ago. A handler that is dropped counts as at least as long as it took so far.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use mesh_lb::LoadEstimator;
///
/// let now = mesh_core::clock::now();
/// let load = Arc::new(LoadEstimator::new(now));
/// let request = load.begin(now);
/// assert_eq!(load.report(now).rif, 1);
/// let later = now + Duration::from_millis(12);
/// request.answered(later);
/// assert_eq!((load.report(later).rif, load.report(later).latency), (0, Duration::from_millis(12)));
/// ```
#[derive(Debug)]
pub struct LoadEstimator {
    epoch: Instant,
    rif: AtomicU32,
    /// The last answer, or the first request after it: since when nothing was heard.
    since: AtomicU64,
    samples: Mutex<Samples>,
}

#[derive(Debug)]
struct Samples {
    ring: Box<[Sample; KEPT]>,
    next: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    latency: u64,
    at: u64,
    rif: u32,
}

/// A request that the server works on: it counts while this exists.
#[derive(Debug)]
#[must_use = "dropped, it does not count any more"]
pub struct InHand {
    load: Arc<LoadEstimator>,
    began: u64,
    /// On arrival, itself not counted.
    rif: u32,
}

impl LoadEstimator {
    /// Nothing is known yet. Times before `epoch` count as it.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        let samples = Samples { ring: Box::new([Sample::default(); KEPT]), next: 0, len: 0 };
        Self { epoch, rif: AtomicU32::new(0), since: AtomicU64::new(0), samples: Mutex::new(samples) }
    }

    /// A request arrived.
    pub fn begin(self: &Arc<Self>, now: Instant) -> InHand {
        let began = self.since_epoch(now);
        if self.rif.load(Ordering::Relaxed) == 0 {
            self.since.fetch_max(began, Ordering::Relaxed);
        }
        let rif = self.rif.fetch_add(1, Ordering::Relaxed);
        InHand { load: Arc::clone(self), began, rif }
    }

    /// Its requests in flight, and the latency to expect at that number: no less than the time since the last answer while
    /// there is a request, and zero while nothing is known.
    #[must_use]
    pub fn report(&self, now: Instant) -> LoadReport {
        let (rif, now) = (self.rif.load(Ordering::Relaxed), self.since_epoch(now));
        let silence = if rif == 0 { 0 } else { now.saturating_sub(self.since.load(Ordering::Relaxed)) };
        let latency = self.latency(rif, now).max(silence);
        LoadReport::new(rif, Duration::from_nanos(latency))
    }

    /// The median of the nearest; of an even number the greater of the middle ones.
    fn latency(&self, rif: u32, now: u64) -> u64 {
        // The newest first: of equally near ones these count. The lock is held for the copy.
        let mut recent = [Sample::default(); KEPT];
        let mut len = 0;
        for sample in self.samples().newest_first().filter(|sample| now.saturating_sub(sample.at) <= OLDEST) {
            recent[len] = *sample;
            len += 1;
        }
        let recent = &recent[..len];
        // Distances are small numbers nearly always: counted, they need not be sorted.
        let distance = |sample: &Sample| sample.rif.abs_diff(rif).min(FAR - 1) as usize;
        let mut counts = [0_usize; FAR as usize];
        recent.iter().for_each(|sample| counts[distance(sample)] += 1);
        let (mut within, mut last) = (0, 0);
        while last < counts.len() && within + counts[last] < NEAREST {
            within += counts[last];
            last += 1;
        }
        // All nearer than `last`, and of those at `last` the newest.
        let (mut nearest, mut found, mut at_last) = ([0_u64; NEAREST], 0, NEAREST - within.min(NEAREST));
        for sample in recent {
            let taken = match distance(sample).cmp(&last) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal if at_last > 0 => {
                    at_last -= 1;
                    true
                }
                _ => false,
            };
            if taken {
                nearest[found] = sample.latency;
                found += 1;
            }
        }
        if found == 0 {
            return 0;
        }
        *nearest[..found].select_nth_unstable(found / 2).1
    }

    fn ended(&self, request: &InHand, now: Instant, answered: bool) {
        let now = self.since_epoch(now);
        let latency = now.saturating_sub(request.began);
        if answered {
            self.since.fetch_max(now, Ordering::Relaxed);
        } else if latency <= self.latency(request.rif, now) {
            // At least this long: it says nothing below what is expected.
            return;
        }
        self.samples().push(Sample { latency, at: now, rif: request.rif });
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Distances from here on are one.
const FAR: u32 = 1024;

impl Samples {
    fn push(&mut self, sample: Sample) {
        self.ring[self.next] = sample;
        self.next = (self.next + 1) % KEPT;
        self.len = (self.len + 1).min(KEPT);
    }

    fn newest_first(&self) -> impl Iterator<Item = &Sample> {
        let (new, old) = self.ring.split_at(self.next);
        new.iter().rev().chain(old.iter().rev()).take(self.len)
    }
}

impl InHand {
    /// It was answered.
    pub fn answered(self, now: Instant) {
        self.load.ended(&self, now, true);
    }

    /// Its caller went away, or its time was up: a censored sample.
    pub fn abandoned(self, now: Instant) {
        self.load.ended(&self, now, false);
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.load.rif.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
