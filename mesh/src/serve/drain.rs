//! One switch for everything that serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// A client that has not heard yet comes back within this time when it is busy. News of a registry take milliseconds.
const QUIET: Duration = Duration::from_millis(250);

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Taking requests.
    #[default]
    Serving,
    /// Out of discovery; answering those who have not heard.
    Lingering,
    /// Finishing what is in flight.
    Closing,
    /// Out of patience.
    Aborted,
}

/// Shared by the accept loops and connections of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    connections: Arc<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    open: AtomicUsize,
    /// Ever, wrapping.
    opened: AtomicUsize,
    none_left: Notify,
}

/// Counts one open connection while it lives.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Connections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), connections: Arc::default() }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Resolves when at least `phase` is reached.
    pub(crate) async fn reached(&self, phase: Phase) {
        let mut watch = self.phase.subscribe();
        // The sender lives in self: the wait cannot fail.
        let _ = watch.wait_for(|now| *now >= phase).await;
    }

    /// Count a connection.
    pub(crate) fn open(&self) -> OpenConnection {
        self.connections.open.fetch_add(1, Ordering::AcqRel);
        self.connections.opened.fetch_add(1, Ordering::AcqRel);
        OpenConnection(Arc::clone(&self.connections))
    }

    async fn none_left(&self) {
        loop {
            let notified = self.connections.none_left.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.connections.open.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Resolves when nobody is connected, and nobody has come for a while. During the linger every answer closes its
    /// connection, so that under load there is none for a moment again and again.
    async fn quiet(&self) {
        let opened = || self.connections.opened.load(Ordering::Acquire);
        loop {
            self.none_left().await;
            let before = opened();
            sleep(QUIET).await;
            if opened() == before {
                return;
            }
        }
    }

    /// Linger, close, abort. Returns whether every connection ended by itself. A second call waits for the first.
    pub(crate) async fn run(&self, linger: Duration, grace: Duration) -> bool {
        let first = self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Serving;
            if first {
                *phase = Phase::Lingering;
            }
            first
        });
        if first {
            let _ = timeout(linger, self.quiet()).await;
            self.phase.send_replace(Phase::Closing);
        }
        let clean = timeout(grace, self.none_left()).await.is_ok();
        // What was upgraded is the application's by now: it ends with the process.
        self.phase.send_replace(Phase::Aborted);
        clean
    }
}
