//! How names wake the streams that want them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

/// Remembers that something changed, and wakes whoever polls for it.
#[derive(Debug)]
pub(super) struct Listener {
    changed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Listener {
    /// There is something to look at from the start.
    pub(super) fn new() -> Self {
        Self { changed: AtomicBool::new(true), waker: Mutex::default() }
    }

    pub(super) fn wake(&self) {
        self.changed.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has anything changed since the last call? If not, the waker is woken when something does.
    pub(super) fn changed(&self, waker: &Waker) -> bool {
        let mut waiting = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a change is either seen here, or finds the waker.
        let changed = self.changed.swap(false, Ordering::Acquire);
        if !changed && waiting.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *waiting = Some(waker.clone());
        }
        changed
    }
}
