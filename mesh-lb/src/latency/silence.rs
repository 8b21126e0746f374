use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::ewma::left_after;

/// For how long an endpoint that is being asked has said nothing.
///
/// Requests that wait for an answer say something too: "at least this long". The oldest of them waits at least since the last
/// answer, or since the endpoint was asked for the first time after that; to know this needs no list of requests.
#[derive(Debug, Default)]
pub(super) struct Silence {
    waiting: AtomicU32,
    since: AtomicU64,
}

impl Silence {
    /// A request was sent. Whoever asks again after a silence longer than `forgotten` starts a new one.
    pub(super) fn sent(&self, now: u64, forgotten: u64) {
        let since = self.since.load(Ordering::Relaxed);
        if self.waiting.load(Ordering::Relaxed) == 0 || now.saturating_sub(since) > forgotten {
            self.since.fetch_max(now, Ordering::Relaxed);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// It was answered.
    pub(super) fn answered(&self, now: u64) {
        self.since.fetch_max(now, Ordering::Relaxed);
        self.gone();
    }

    /// Nobody waits for it any more.
    pub(super) fn gone(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// In nanoseconds. It counts in full up to `tau`, and is forgotten from there as an answer that had taken `tau` would be: one
    /// request that hangs does not take its endpoint out of service for ever.
    pub(super) fn length(&self, now: u64, tau: f64) -> f64 {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return 0.0;
        }
        let length = now.saturating_sub(self.since.load(Ordering::Relaxed));
        // The cast saturates.
        let beyond = length.saturating_sub(tau as u64);
        if beyond == 0 { length as f64 } else { tau * left_after(beyond, tau) }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}
