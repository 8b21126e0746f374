//! The names that somebody wants: each is asked for once, however many want it, and only as long as anybody does.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{Answers, Judged, listener::Listener};
use crate::{
    clock,
    registry::{Answer, Found, Resolve},
};

/// A lookup that takes longer has failed.
const LOOKUP: Duration = Duration::from_secs(10);
/// So many names are looked up at a time: each takes two sockets while it is.
const AT_A_TIME: usize = 128;

/// Of so many names that nobody follows any more it is remembered what they stood for.
const REMEMBERED: usize = 256;

/// The names that are looked up.
pub(super) struct Names {
    resolve: Arc<dyn Resolve>,
    places: Arc<Semaphore>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<Arc<str>, Weak<Name>>,
    /// Of services that are idle, what was told last is in force still: the first answer after that is judged by it, and
    /// told to nobody before.
    remembered: VecDeque<(Arc<str>, Answers)>,
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
    answers: Answers,
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
        Arc::new(Self { resolve, places: Arc::new(Semaphore::new(AT_A_TIME)), known: Mutex::default() })
    }

    /// Follow a name, and wake the listener whenever something else is known of it. Begins to look it up where nobody has.
    pub(super) fn follow(self: &Arc<Self>, name: &Arc<str>, listener: &Arc<Listener>) -> Arc<Name> {
        let mut known = self.known();
        let followed = known.by_name.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let state = State { answers: known.recall(name), ..State::default() };
            let begun = Arc::new(Name { name: Arc::clone(name), state: Mutex::new(state), of: Arc::downgrade(self) });
            let task =
                tokio::spawn(look_up(Arc::downgrade(&begun), Arc::clone(&self.resolve), Arc::clone(&self.places)));
            begun.state().task = Some(task.abort_handle());
            known.by_name.insert(Arc::clone(name), Arc::downgrade(&begun));
            begun
        });
        drop(known);
        let mut state = followed.state();
        state.listeners.retain(|listener| listener.strong_count() > 0);
        state.listeners.push(Arc::downgrade(listener));
        drop(state);
        followed
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known().by_name.len()
    }
}

impl Known {
    fn recall(&mut self, name: &Arc<str>) -> Answers {
        let remembered = self.remembered.iter().position(|(remembered, _)| remembered == name);
        let remembered = remembered.and_then(|index| self.remembered.remove(index));
        remembered.map(|(_, answers)| answers).unwrap_or_default()
    }

    fn remember(&mut self, name: &Arc<str>, answers: Answers) {
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((Arc::clone(name), answers));
    }
}

impl Name {
    /// What is in force; `None` when it was never answered.
    pub(super) fn known(&self) -> Option<Arc<[Found]>> {
        self.state().known.clone()
    }

    /// Take in an answer, and tell who listens when something else is in force.
    fn answered(&self, answer: Answer, now: Instant) -> Judged {
        let mut state = self.state();
        let judged = state.answers.answered(answer, now, &mut rand::rng());
        if judged.doubted || (!judged.changed && state.known.is_some()) {
            return judged;
        }
        state.known = state.answers.known().map(Into::into);
        let listeners: Vec<_> = state.listeners.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        listeners.iter().for_each(|listener| listener.wake());
        judged
    }

    /// Take in a failure. Returns how many in a row there were, and when to ask again.
    fn failed(&self, now: Instant) -> (u32, Instant) {
        let mut state = self.state();
        let ask = state.answers.failed(now, &mut rand::rng());
        (state.answers.failures(), ask)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let (task, answers) = {
            let mut state = self.state();
            (state.task.take(), std::mem::take(&mut state.answers))
        };
        if let Some(task) = task {
            task.abort();
        }
        let Some(names) = self.of.upgrade() else { return };
        let mut known = names.known();
        // Somebody may follow the name anew already.
        if known.by_name.get(&self.name).is_some_and(|name| name.strong_count() == 0) {
            known.by_name.remove(&self.name);
            if answers.known().is_some() {
                known.remember(&self.name, answers);
            }
        }
    }
}

async fn look_up(name: Weak<Name>, resolve: Arc<dyn Resolve>, places: Arc<Semaphore>) {
    let Some(host) = name.upgrade().map(|name| Arc::clone(&name.name)) else { return };
    loop {
        let answer = {
            let _place = places.acquire().await;
            let answer = timeout(LOOKUP, resolve.resolve(&host)).await;
            answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        // Nobody is kept by a lookup, nor by the pause after it.
        let Some(name) = name.upgrade() else { return };
        let ask = match answer {
            Ok(answer) => {
                let judged = name.answered(answer, clock::now());
                if judged.doubted {
                    tracing::warn!(
                        target: "mesh::dns", %host,
                        "an answer removes more than half of the endpoints: waiting for a second that is equal"
                    );
                }
                judged.ask
            }
            Err(error) => {
                let (failures, ask) = name.failed(clock::now());
                // Said once, not every few seconds.
                if failures == 1 {
                    tracing::warn!(target: "mesh::dns", %host, %error, "lookup failed: the last answer stays");
                }
                ask
            }
        };
        drop(name);
        sleep_until(ask).await;
    }
}
