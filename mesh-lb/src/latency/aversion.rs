//! Error aversion: who fails looks idle and fast, and must not attract more for it (a "sinkhole").
//!
//! Prequal's paper asks for this and gives no formula (section 4, "error aversion"); this one is ours.
//!
//! - A failure is a reason to avoid an endpoint as far as it is unusual. With `p` the share of requests that fail here and
//!   there (a failure counts in it once the endpoint succeeds again), a row of `k` failures would come about by chance
//!   with probability `p^k`; at 1 in 1,000 or less the endpoint is avoided. Where hardly anything fails that is the first
//!   failure, at 1 % the second, at 10 % the third.
//! - It is avoided for as long as it would have got 128 requests (the service answered 128 times as many as it has
//!   endpoints), and at most for a minute. Then one request tries it, and nobody else until that one came back. A
//!   success ends the matter; a failure doubles the time. So of its share of requests less than 1 % fail.
//! - It is avoided, not excluded: where nobody else can be chosen it is.
//!
//! Unlike an ejection it knows no cap, because it takes nobody out of service, and it forgets at the first success.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::Moment;

/// What rows of failures of this probability are not explained by chance.
const CHANCE: f64 = 1e-3;
/// Requests that an endpoint would have had while it is avoided for the first time.
const SHARE: u64 = 128;
/// Doublings at most.
const STRIKES: u32 = 16;
/// The longest time in a row, in nanoseconds.
const LONGEST: u64 = Duration::from_secs(60).as_nanos() as u64;
/// Successes of an endpoint that are counted for its service as one step: all requests share that counter.
const STEP: u32 = 16;
/// Requests that the share of failures looks back on.
const WINDOW: u32 = 1 << 16;

/// What a service's requests came to, over all endpoints.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    ended: AtomicU64,
    recent: AtomicU32,
    failed: AtomicU32,
}

impl Outcomes {
    /// Requests that ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    fn succeeded(&self) {
        self.ended.fetch_add(u64::from(STEP), Ordering::Relaxed);
        if self.recent.fetch_add(STEP, Ordering::Relaxed) >= WINDOW {
            // Two at once halve twice: the share is the same.
            self.recent.store(WINDOW / 2, Ordering::Relaxed);
            self.failed.store(self.failed.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
    }

    /// So many in a row failed at an endpoint that is in order.
    fn failed_by_chance(&self, row: u32) {
        self.failed.fetch_add(row, Ordering::Relaxed);
        self.recent.fetch_add(row, Ordering::Relaxed);
    }

    /// So many failures in a row are more than chance.
    fn unusual(&self) -> f64 {
        let (failed, recent) = (self.failed.load(Ordering::Relaxed), self.recent.load(Ordering::Relaxed));
        // Before anything is known: one in 1,024.
        let share = (f64::from(failed) + 1.0) / (f64::from(recent) + 1024.0);
        if share >= 1.0 { f64::INFINITY } else { (CHANCE.ln() / share.ln()).ceil() }
    }
}

/// What is held against one endpoint.
#[derive(Debug, Default)]
pub(super) struct Aversion {
    /// Failures in a row.
    row: AtomicU32,
    /// How often it was avoided since its last success.
    strikes: AtomicU32,
    /// Until the service's requests are so many,
    ended: AtomicU64,
    /// and at most until then.
    until: AtomicU64,
    /// When that was decided: requests that were sent before say nothing new.
    since: AtomicU64,
    succeeded: AtomicU32,
}

impl Aversion {
    pub(super) fn avoids(&self, at: Moment) -> bool {
        self.strikes.load(Ordering::Relaxed) > 0
            && at.ended < self.ended.load(Ordering::Relaxed)
            && at.now < self.until.load(Ordering::Relaxed)
    }

    /// Somebody tries it: the others wait for the answer.
    pub(super) fn sent(&self, at: Moment, members: impl FnOnce() -> usize) {
        let strikes = self.strikes.load(Ordering::Relaxed);
        if strikes > 0 && !self.avoids(at) {
            self.avoid(strikes, at, members());
        }
    }

    pub(super) fn succeeded(&self, outcomes: &Outcomes) {
        if self.row.load(Ordering::Relaxed) > 0 {
            outcomes.failed_by_chance(self.row.swap(0, Ordering::Relaxed));
            self.strikes.store(0, Ordering::Relaxed);
        }
        if self.succeeded.fetch_add(1, Ordering::Relaxed) % STEP == STEP - 1 {
            outcomes.succeeded();
        }
    }

    /// `sent`: when the request was.
    pub(super) fn failed(&self, sent: u64, at: Moment, outcomes: &Outcomes, members: impl FnOnce() -> usize) {
        let row = self.row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let strikes = self.strikes.load(Ordering::Relaxed);
        if f64::from(row) < outcomes.unusual() || (strikes > 0 && sent < self.since.load(Ordering::Relaxed)) {
            return;
        }
        let strikes = strikes.saturating_add(1).min(STRIKES);
        self.strikes.store(strikes, Ordering::Relaxed);
        self.avoid(strikes, at, members());
    }

    fn avoid(&self, strikes: u32, at: Moment, members: usize) {
        let share = SHARE.saturating_mul(members as u64).saturating_mul(1 << strikes.saturating_sub(1).min(STRIKES));
        self.ended.store(at.ended.saturating_add(share), Ordering::Relaxed);
        self.until.store(at.now.saturating_add(LONGEST), Ordering::Relaxed);
        self.since.store(at.now, Ordering::Relaxed);
    }
}
