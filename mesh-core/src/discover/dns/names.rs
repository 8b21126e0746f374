//! The names that somebody wants: each is asked for once, however many want it, and only as long as anybody does.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{sleep_until, timeout},
};

use super::{Answers, listener::Listener};
use crate::{
    clock,
    registry::{Found, Resolve},
};

/// A lookup that takes longer has failed.
const LOOKUP: Duration = Duration::from_secs(10);
/// So many names are looked up at a time: each takes two sockets while it is.
const AT_A_TIME: usize = 128;

/// The names that are looked up.
pub(super) struct Names {
    resolve: Arc<dyn Resolve>,
    places: Arc<Semaphore>,
    by_name: Mutex<HashMap<Arc<str>, Weak<Name>>>,
}

/// One name; looked up until the last who has it lets go.
#[derive(Debug)]
pub(super) struct Name {
    name: Arc<str>,
    state: Mutex<State>,
    of: Weak<Names>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Arc<[Found]>>,
    listeners: Vec<Weak<Listener>>,
    task: Option<AbortHandle>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("resolve", &self.resolve).finish_non_exhaustive()
    }
}

impl Names {
    pub(super) fn new(resolve: Arc<dyn Resolve>) -> Arc<Self> {
        Arc::new(Self { resolve, places: Arc::new(Semaphore::new(AT_A_TIME)), by_name: Mutex::default() })
    }

    /// Follow a name, and wake the listener whenever something else is known of it. Begins to look it up where nobody has.
    pub(super) fn follow(self: &Arc<Self>, name: &Arc<str>, listener: &Arc<Listener>) -> Arc<Name> {
        let mut by_name = self.by_name();
        let followed = by_name.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let begun = Arc::new(Name { name: Arc::clone(name), state: Mutex::default(), of: Arc::downgrade(self) });
            let task =
                tokio::spawn(look_up(Arc::downgrade(&begun), Arc::clone(&self.resolve), Arc::clone(&self.places)));
            begun.state().task = Some(task.abort_handle());
            by_name.insert(Arc::clone(name), Arc::downgrade(&begun));
            begun
        });
        drop(by_name);
        let mut state = followed.state();
        state.listeners.retain(|listener| listener.strong_count() > 0);
        state.listeners.push(Arc::downgrade(listener));
        drop(state);
        followed
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Name>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name().len()
    }
}

impl Name {
    /// What is in force; `None` when it was never answered.
    pub(super) fn known(&self) -> Option<Arc<[Found]>> {
        self.state().known.clone()
    }

    fn publish(&self, known: &[Found]) {
        let mut state = self.state();
        state.known = Some(known.into());
        let listeners: Vec<_> = state.listeners.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        listeners.iter().for_each(|listener| listener.wake());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(task) = self.state().task.take() {
            task.abort();
        }
        let Some(names) = self.of.upgrade() else { return };
        let mut by_name = names.by_name();
        // Somebody may follow the name anew already.
        if by_name.get(&self.name).is_some_and(|name| name.strong_count() == 0) {
            by_name.remove(&self.name);
        }
    }
}

async fn look_up(name: Weak<Name>, resolve: Arc<dyn Resolve>, places: Arc<Semaphore>) {
    let Some(host) = name.upgrade().map(|name| Arc::clone(&name.name)) else { return };
    let mut answers = Answers::default();
    loop {
        let answer = {
            let _place = places.acquire().await;
            let answer = timeout(LOOKUP, resolve.resolve(&host)).await;
            answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        let now = clock::now();
        let ask = match answer {
            Ok(answer) => {
                let judged = answers.answered(answer, now, &mut rand::rng());
                if judged.doubted {
                    tracing::warn!(
                        target: "mesh::dns", %host,
                        "an answer removes more than half of the endpoints: waiting for a second that is equal"
                    );
                }
                if judged.changed {
                    let Some(name) = name.upgrade() else { return };
                    let known = answers.known().unwrap_or_default();
                    tracing::debug!(target: "mesh::dns", %host, places = known.len(), "answered");
                    name.publish(known);
                }
                judged.ask
            }
            Err(error) => {
                let ask = answers.failed(now, &mut rand::rng());
                // Said once, not every few seconds.
                if answers.failures() == 1 {
                    tracing::warn!(target: "mesh::dns", %host, %error, "lookup failed: the last answer stays");
                }
                ask
            }
        };
        sleep_until(ask).await;
    }
}
