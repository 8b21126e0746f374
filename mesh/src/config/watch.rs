//! Notices that configuration changed.
//!
//! The operating system's events make a change quick; a slow poll makes it certain, since no events come from
//! network mounts, and a symlink swap (Kubernetes' ConfigMaps) may be missed.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::sync::mpsc;

use super::{Reader, reader::Texts};

const POLL: Duration = Duration::from_secs(2);
/// A burst of events is one change while somebody is writing: an editor writes, renames and touches.
const SETTLE: Duration = Duration::from_millis(20);
/// Where every writer has closed its file, or moved it into place: a change is in force within 10 ms of the event.
const FINISHED: Duration = Duration::from_millis(2);

/// Yields the texts of all files whenever they differ from before.
#[derive(Debug)]
pub(crate) struct Watch {
    reader: Reader,
    events: mpsc::Receiver<()>,
    writing: Writing,
    last: Texts,
    _watcher: Option<notify::RecommendedWatcher>,
}

/// The files that somebody began to write and has not closed, as far as the operating system says.
#[derive(Clone, Debug, Default)]
struct Writing(Arc<Mutex<HashSet<PathBuf>>>);

impl Writing {
    /// Take in an event; false when it tells of no change.
    fn saw(&self, event: &notify::Event) -> bool {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => open.retain(|path| !event.paths.contains(path)),
            // Our own reading is an event too.
            EventKind::Access(_) => return false,
            EventKind::Create(CreateKind::Folder) | EventKind::Modify(ModifyKind::Metadata(_)) => {}
            _ => open.extend(event.paths.iter().cloned()),
        }
        true
    }

    /// How long to wait for more.
    fn pause(&self) -> Duration {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_empty() { FINISHED } else { SETTLE }
    }

    /// What reads the same twice is finished, whoever has it open still; a link is never closed.
    fn settled(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Start watching. `last` is what has been taken in already.
pub(crate) fn watch(reader: Reader, last: Texts) -> Watch {
    let (sender, events) = mpsc::channel(1);
    let writing = Writing::default();
    let seen = writing.clone();
    let notify = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !seen.saw(&event)) {
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
    Watch { reader, events, writing, last, _watcher: watcher }
}

impl Watch {
    /// The next change.
    pub(crate) async fn changed(&mut self) -> Texts {
        loop {
            let told = match tokio::time::timeout(POLL, self.events.recv()).await {
                Ok(Some(())) => {
                    tokio::time::sleep(self.writing.pause()).await;
                    while self.events.try_recv().is_ok() {}
                    true
                }
                // No watcher: poll alone.
                Ok(None) => {
                    tokio::time::sleep(POLL).await;
                    false
                }
                Err(_) => false,
            };
            let mut texts = self.read().await;
            while texts != self.last {
                // A writer in the middle of its work: only what reads the same twice is a state that was meant.
                // Where nobody is told of writers, there may be one.
                let pause = if told { self.writing.pause() } else { SETTLE };
                tokio::time::sleep(pause).await;
                let again = self.read().await;
                // Nobody began to write meanwhile, either.
                if again == texts && self.writing.pause() <= pause {
                    self.writing.settled();
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

#[cfg(test)]
mod tests {
    use mesh_test::Scratch;
    use notify::event::{DataChange, RenameMode};
    use tokio::time::Instant;

    use super::*;
    use crate::config::Source;

    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    fn event(kind: EventKind, path: &Path) -> notify::Event {
        notify::Event::new(kind).add_path(path.to_owned())
    }

    /// A watch whose events a test makes.
    fn watched(scratch: &Scratch) -> (Watch, mpsc::Sender<()>) {
        let reader = Reader { sources: vec![Source::Path(scratch.path().to_owned())] };
        let (sender, events) = mpsc::channel(1);
        let last = reader.read();
        (Watch { reader, events, writing: Writing::default(), last, _watcher: None }, sender)
    }

    /// On a network mount nobody says that a file is open: what was found by looking is looked at again only later.
    #[tokio::test(start_paused = true)]
    async fn a_change_that_nobody_told_of_gets_time_to_be_finished() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", "kind: A");
        let (mut watch, _sender) = watched(&scratch);
        scratch.write("a.yaml", "kind: B");
        let began = Instant::now();
        watch.changed().await;
        assert!(began.elapsed() >= POLL + SETTLE, "{:?}", began.elapsed());
    }

    #[test]
    fn a_file_is_being_written_until_it_is_closed_or_moved() {
        let (a, b) = (Path::new("a.yaml"), Path::new("b.yaml"));
        let writing = Writing::default();
        for (kind, path, tells, pause) in [
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), a, false, FINISHED),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), a, false, FINISHED),
            (EventKind::Create(CreateKind::File), a, true, SETTLE),
            (WRITE, a, true, SETTLE),
            (WRITE, b, true, SETTLE),
            (CLOSE, a, true, SETTLE),
            (EventKind::Modify(ModifyKind::Name(RenameMode::From)), b, true, FINISHED),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), a, true, FINISHED),
            (EventKind::Remove(notify::event::RemoveKind::File), a, true, FINISHED),
            (EventKind::Any, a, true, SETTLE),
        ] {
            assert_eq!((writing.saw(&event(kind, path)), writing.pause()), (tells, pause), "{kind:?}");
        }
        writing.settled();
        assert_eq!(writing.pause(), FINISHED);
    }

    /// Issue "Discovery": "A change is in effect for the next pick within 10 ms of the source seeing it". These are all the
    /// timers between the event and the models.
    #[tokio::test(start_paused = true)]
    async fn a_finished_write_is_told_within_ten_milliseconds() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", "kind: A");
        let (mut watch, sender) = watched(&scratch);
        for text in ["kind: B", "kind: C"] {
            let path = scratch.write("a.yaml", text);
            watch.writing.saw(&event(WRITE, &path));
            watch.writing.saw(&event(CLOSE, &path));
            let seen = Instant::now();
            sender.send(()).await.unwrap();
            watch.changed().await;
            assert!(seen.elapsed() <= Duration::from_millis(10), "{:?}", seen.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_in_the_middle_of_its_work_is_waited_for() {
        let scratch = Scratch::new();
        let (mut watch, sender) = watched(&scratch);
        let path = scratch.write("a.yaml", "kind: B");
        watch.writing.saw(&event(WRITE, &path));
        let seen = Instant::now();
        sender.send(()).await.unwrap();
        watch.changed().await;
        assert!(seen.elapsed() >= 2 * SETTLE, "{:?}", seen.elapsed());
    }
}
