//! One pair of workloads and the slots of the requests between them.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use arc_swap::ArcSwap;

use super::{ConnectionSecurity, EdgeLabels, histogram::Histogram, store::SlotKey};

/// The requests between two workloads, as one of them reports it. Made by [`Metrics::edge`](super::Metrics::edge) and kept
/// by whoever records to it.
#[derive(Debug)]
pub struct Edge {
    /// The twenty labels before `request_protocol`, rendered.
    pub(super) rendered: String,
    pub(super) security: ConnectionSecurity,
    /// Counts what found no place elsewhere; its slots are bounded by their coarse keys.
    pub(super) is_overflow: bool,
    /// The edge to count in when the cap is reached, found at the first need.
    pub(super) spill: OnceLock<Arc<Edge>>,
    labels: EdgeLabels,
    slots: ArcSwap<Vec<Arc<Slot>>>,
    growth: Mutex<()>,
}

/// One series of `istio_requests_total` with its histograms. The number of requests is the count of any of the
/// three, so it is not counted a fourth time.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: SlotKey,
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
}

impl Edge {
    pub(super) fn new(labels: EdgeLabels, is_overflow: bool) -> Self {
        Self {
            rendered: labels.render(),
            security: labels.security,
            is_overflow,
            spill: OnceLock::new(),
            labels,
            slots: ArcSwap::default(),
            growth: Mutex::new(()),
        }
    }

    /// The labels it was made of.
    #[must_use]
    pub fn labels(&self) -> &EdgeLabels {
        &self.labels
    }

    pub(super) fn slots(&self) -> Arc<Vec<Arc<Slot>>> {
        self.slots.load_full()
    }

    /// Record into the slot of `key`, adding it while `taken` is below `limit`. `false`: there was no place.
    pub(super) fn record(&self, key: SlotKey, taken: &AtomicUsize, limit: usize, record: impl Fn(&Slot)) -> bool {
        if let Some(slot) = self.slots.load().iter().find(|slot| slot.key == key) {
            record(slot);
            return true;
        }
        let _growing = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.slots.load_full();
        if let Some(slot) = slots.iter().find(|slot| slot.key == key) {
            record(slot);
            return true;
        }
        if !self.is_overflow
            && taken.fetch_update(Relaxed, Relaxed, |taken| (taken < limit).then_some(taken + 1)).is_err()
        {
            return false;
        }
        let slot = Slot {
            key,
            duration: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
        };
        record(&slot);
        let mut grown = Vec::with_capacity(slots.len() + 1);
        grown.extend(slots.iter().cloned());
        grown.push(Arc::new(slot));
        self.slots.store(Arc::new(grown));
        true
    }
}
