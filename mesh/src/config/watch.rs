//! Notices that configuration changed.
//!
//! The operating system's events make a change quick; a slow poll makes it certain, since no events come from
//! network mounts, and a symlink swap (Kubernetes' ConfigMaps) may be missed.

use std::{path::Path, time::Duration};

use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;

use super::{Reader, reader::Texts};

const POLL: Duration = Duration::from_secs(2);
/// A burst of events is one change: an editor writes, renames and touches.
const SETTLE: Duration = Duration::from_millis(20);

/// Yields the texts of all files whenever they differ from before.
#[derive(Debug)]
pub(crate) struct Watch {
    reader: Reader,
    events: mpsc::Receiver<()>,
    last: Texts,
    _watcher: Option<notify::RecommendedWatcher>,
}

/// Start watching. `last` is what has been taken in already.
pub(crate) fn watch(reader: Reader, last: Texts) -> Watch {
    let (sender, events) = mpsc::channel(1);
    let notify = move |event: notify::Result<notify::Event>| {
        // Our own reading is an event too.
        if event.is_ok_and(|event| is_read(event.kind)) {
            return;
        }
        // Full means that a change is waiting to be read already.
        let _ = sender.try_send(());
    };
    let watcher = notify::recommended_watcher(notify).map_err(|error| {
        tracing::warn!(target: "mesh::config", %error, "no file events: configuration is polled");
        error
    });
    let mut watcher = watcher.ok();
    if let Some(watcher) = &mut watcher {
        for path in reader.paths() {
            // Of a file, the directory: it may be replaced by a rename.
            let directory = if path.is_dir() { path } else { path.parent().unwrap_or_else(|| Path::new(".")) };
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::warn!(target: "mesh::config", path = %directory.display(), %error, "no file events: polled");
            }
        }
    }
    Watch { reader, events, last, _watcher: watcher }
}

fn is_read(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

impl Watch {
    /// The next change.
    pub(crate) async fn changed(&mut self) -> Texts {
        loop {
            match tokio::time::timeout(POLL, self.events.recv()).await {
                Ok(Some(())) => {
                    tokio::time::sleep(SETTLE).await;
                    while self.events.try_recv().is_ok() {}
                }
                // No watcher: poll alone.
                Ok(None) => tokio::time::sleep(POLL).await,
                Err(_) => {}
            }
            let mut texts = self.read().await;
            while texts != self.last {
                // A writer in the middle of its work: only what reads the same twice is a state that was meant.
                tokio::time::sleep(SETTLE).await;
                let again = self.read().await;
                if again == texts {
                    self.last = again;
                    return texts;
                }
                texts = again;
            }
        }
    }

    async fn read(&self) -> Texts {
        let reader = self.reader.clone();
        match tokio::task::spawn_blocking(move || reader.read()).await {
            Ok(texts) => texts,
            Err(_) => self.last.clone(),
        }
    }
}
