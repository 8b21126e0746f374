//! What is known of an endpoint from how long its answers take: for [`PeakEwma`](crate::PeakEwma) and
//! [`Prequal`](crate::Prequal).
//!
//! It belongs to the address, as the count of requests in flight does: it outlives snapshots, and the clusters of a service
//! share it. Only atomics: a pick reads them while requests end.
//!
//! What ended how counts as:
//!
//! | | latency | failure |
//! |---|---|---|
//! | [`Answered`](Ended::Answered) | a sample | ends a row of failures; under Prequal it is one when it took 10 times what the endpoint had promised |
//! | [`Failed`](Ended::Failed) | a sample, but no less than the present estimate | yes |
//! | [`TimedOut`](Ended::TimedOut) | a censored sample: at least this long | yes |
//! | [`Abandoned`](Ended::Abandoned) | a censored sample | no |
//!
//! Requests that still wait are censored samples too ([`Silence`]): load-balancing.md 2.1, "always record timeouts and
//! cancels as (censored) latency samples". What failures lead to is [`aversion`].

mod aversion;
mod silence;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) use self::aversion::Outcomes;
use self::{aversion::Aversion, silence::Silence};
use crate::{
    PeakEwma,
    ewma::{Cost, PENALTY, left_after},
};

/// How a request ended, to the policies that learn from latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// With a response that is not the endpoint's failure.
    Answered,
    /// With a failure: a 5xx, a reset, no connection.
    Failed,
    /// With no response in the time that it had.
    TimedOut,
    /// Its caller went away.
    Abandoned,
}

/// When something happens to an endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// Nanoseconds since the cluster's epoch.
    pub(crate) now: u64,
    /// Requests of the service that ended before.
    pub(crate) ended: u64,
}

/// An answer that took so many times what was promised was not what was promised.
const BROKEN: u64 = 10;
/// Promises below this, in nanoseconds, are taken for it: nobody measures that well.
const SHORTEST: u64 = 1_000_000;

/// The latency of one endpoint. Times are nanoseconds since an epoch.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    cost: Cost,
    silence: Silence,
    aversion: Aversion,
    /// The latency of its last report, in nanoseconds; 0: there was none.
    promised: AtomicU64,
    /// Requests that are sent from then on were promised nothing: the report is too old, or nobody asks for any more.
    promised_until: AtomicU64,
    /// Where its member was found last among those of its picker: a place to look first.
    found_at: AtomicU32,
}

impl Latency {
    pub(crate) fn found_at(&self) -> &AtomicU32 {
        &self.found_at
    }

    /// A request goes there.
    pub(crate) fn sent(&self, at: Moment, tau: f64, members: impl FnOnce() -> usize) {
        // The cast saturates.
        self.silence.sent(at.now, tau as u64);
        self.aversion.sent(at, members);
    }

    /// It ended.
    pub(crate) fn ended(
        &self,
        how: Ended,
        sent: u64,
        at: Moment,
        tau: f64,
        outcomes: &Outcomes,
        members: impl FnOnce() -> usize,
    ) {
        let took = at.now.saturating_sub(sent);
        match how {
            Ended::Answered => {
                self.silence.answered(at.now);
                self.cost.answered(took, at.now, tau);
            }
            Ended::Failed => {
                self.silence.answered(at.now);
                self.cost.failed(took, at.now, tau);
            }
            Ended::TimedOut | Ended::Abandoned => {
                self.silence.gone();
                self.cost.at_least(took, at.now, tau);
            }
        }
        match how {
            Ended::Answered if !self.broke_promise(took, sent) => self.aversion.succeeded(outcomes),
            Ended::Abandoned => {}
            _ => self.aversion.failed(sent, at, outcomes, members),
        }
    }

    /// Nobody says how it ended.
    pub(crate) fn forgotten(&self) {
        self.silence.gone();
    }

    /// The endpoint said how long its answers take; it is believed for a while.
    pub(crate) fn promise(&self, nanos: u64, until: u64) {
        self.promised.store(nanos, Ordering::Relaxed);
        self.promised_until.store(until, Ordering::Relaxed);
    }

    fn broke_promise(&self, took: u64, sent: u64) -> bool {
        let promised = self.promised.load(Ordering::Relaxed);
        promised > 0
            && sent < self.promised_until.load(Ordering::Relaxed)
            && took > promised.max(SHORTEST).saturating_mul(BROKEN)
    }

    /// Should somebody else be asked?
    pub(crate) fn is_avoided(&self, at: Moment) -> bool {
        self.aversion.avoids(at)
    }

    /// For how long it has been asked in vain, in nanoseconds.
    pub(crate) fn silence(&self, now: u64, tau: f64) -> f64 {
        self.silence.length(now, tau)
    }

    /// What a request more would cost: peak EWMA's load. `since` is when the endpoint became known, and `weight` its weight
    /// in units of the mean.
    ///
    /// Requests in flight count by weight, and the one that is to be sent does not: endpoints are drawn by weight, and at
    /// rest a heavier one would otherwise be preferred twice.
    pub(crate) fn load(&self, settings: &PeakEwma, now: u64, since: u64, in_flight: u32, weight: f64) -> f64 {
        let tau = settings.tau();
        let in_flight = f64::from(in_flight);
        let cost = match self.cost.at(now, tau) {
            Some(cost) => cost,
            // finagle PeakEwma: "If we don't have any latency history, we penalize the host on the first probe."
            None if in_flight > 0.0 => return PENALTY + in_flight / weight,
            None => crate::outlier::nanos(settings.default_rtt()) as f64 * left_after(now.saturating_sub(since), tau),
        };
        cost.max(self.silence(now, tau)) * (in_flight / weight + 1.0)
    }
}

#[cfg(test)]
mod tests;
