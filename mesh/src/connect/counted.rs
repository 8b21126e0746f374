//! What an endpoint's pool counts where `connectionPool` limits connections.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use mesh_lb::{Cluster, ConnectionPlace};
use tokio::sync::Notify;

/// An endpoint's limited connections of one version of HTTP.
///
/// Envoy has a pool for each version: connections of the other one serve none of its requests, so neither do they stand
/// in for its first one, nor does who waits for one hear of theirs.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Connections that are open or being made. Held while a place is asked for, never across an await.
    open: Mutex<usize>,
    /// Connections that could not be made.
    failed: AtomicU64,
    /// Whoever waits hears here of a connection that is free, or gone.
    pub(super) freed: Notify,
}

/// A limited connection's place: it goes with the stream of bytes, so what a connection was upgraded to counts too.
#[derive(Debug)]
pub(super) struct Held {
    counted: Arc<Counted>,
    _place: ConnectionPlace,
}

impl Counted {
    /// A place for one more connection, past the limit for the first one: asked and counted in one step, so that of a
    /// burst one is the first.
    pub(super) fn hold(self: &Arc<Self>, cluster: &Cluster) -> Option<Held> {
        let mut open = self.open();
        let place = cluster.open_connection(*open == 0)?;
        *open += 1;
        Some(Held { counted: Arc::clone(self), _place: place })
    }

    /// How many could not be made so far.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Acquire)
    }

    /// One could not be made: all who wait are told.
    pub(super) fn fail(&self) {
        self.failed.fetch_add(1, Ordering::AcqRel);
        self.freed.notify_waiters();
    }

    fn open(&self) -> MutexGuard<'_, usize> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.counted.open() -= 1;
        self.counted.freed.notify_one();
    }
}
