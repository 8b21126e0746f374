//! One table after another: picks never wait for the next one.
//!
//! When endpoints come or go, a table over those of now takes milliseconds, of which neither a request nor whoever tells of
//! the change should wait. It is made on another thread, one at a time; if there were more changes meanwhile, the next one
//! made is over the last of them. Until then picks look into the table before.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::runtime::Handle;

use super::{Tables, table::Table};
use crate::{Member, members::Members};

/// A table, and whom its numbers are of.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) members: Members,
    pub(super) table: Table,
}

/// A table over members as they were, and who these are now.
#[derive(Debug)]
pub(super) struct Before {
    made: Arc<Made>,
    now: Box<[u32]>,
}

/// Who has left.
const NOBODY: u32 = u32::MAX;

impl Before {
    pub(super) fn new(made: Arc<Made>, members: &Members) -> Self {
        let key = |member: &Arc<Member>| std::ptr::from_ref(member.detector());
        let numbers: HashMap<_, u32> = members.iter().map(key).zip(0..).collect();
        let now = made.members.iter().map(|member| numbers.get(&key(member)).copied().unwrap_or(NOBODY)).collect();
        Self { made, now }
    }

    pub(super) fn made(&self) -> &Arc<Made> {
        &self.made
    }

    /// Whom a number of the table's means; `None`: somebody who has left.
    pub(super) fn now(&self, number: usize) -> Option<usize> {
        self.now.get(number).filter(|now| **now != NOBODY).map(|now| *now as usize)
    }
}

/// What the tables of a level have in common, one after another.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Is one being made, or about to be? Changed under the lock below only.
    making: AtomicBool,
    /// Those to make one of next.
    wanted: Mutex<Option<Arc<Tables>>>,
}

impl Line {
    /// Have the table of these made: by tokio's threads for work that takes long, or by a thread of its own where there is
    /// no tokio.
    pub(super) fn want(tables: &Arc<Tables>) {
        let line = tables.line();
        {
            let mut wanted = line.lock();
            *wanted = Some(Arc::clone(tables));
            if line.making.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        let making = Making(Some(Arc::clone(line)));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || making.run())),
            // Where no thread can be had, the next pick asks again.
            Err(_) => drop(thread::Builder::new().name("mesh-lb table".into()).spawn(move || making.run())),
        }
    }

    /// A pick asks again if nobody is at it: a runtime may have ended before it came to it.
    pub(super) fn want_still(tables: &Arc<Tables>) {
        if !tables.line().making.load(Ordering::Acquire) {
            Self::want(tables);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Tables>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tables in the making. When it is dropped before it came to the end, somebody else may begin.
struct Making(Option<Arc<Line>>);

impl Making {
    fn run(mut self) {
        while let Some(line) = &self.0 {
            let mut wanted = line.lock();
            let next = wanted.take();
            if next.is_none() {
                line.making.store(false, Ordering::Release);
            }
            drop(wanted);
            match next {
                Some(tables) => drop(Arc::clone(tables.make())),
                None => self.0 = None,
            }
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            *line.lock() = None;
            line.making.store(false, Ordering::Release);
        }
    }
}
