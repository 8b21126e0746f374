//! Who wants a service, told by requests at the price of one look.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use crate::clock;

/// Nobody follows the sources.
const ASLEEP: u8 = 0;
/// They are followed, and nobody has wanted the service since the last look.
const UNUSED: u8 = 1;
/// They are followed, or about to be, and somebody has.
const USED: u8 = 2;

/// What requests to a port of a service and the one who follows its sources tell each other. One for the whole process,
/// whichever clones, clusters and subsets the requests come through.
#[derive(Debug)]
pub struct Interest {
    state: AtomicU8,
    /// Has every source answered since they are followed?
    answered: AtomicBool,
    epoch: Instant,
    /// Nanoseconds since the epoch, when the sources were last begun to be followed.
    since: AtomicU64,
    news: Arc<Notify>,
    asked_otherwise: Notify,
}

impl Default for Interest {
    fn default() -> Self {
        Self::new()
    }
}

impl Interest {
    /// Nobody wants it yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(ASLEEP),
            answered: AtomicBool::new(false),
            epoch: clock::now(),
            since: AtomicU64::new(0),
            news: Arc::default(),
            asked_otherwise: Notify::new(),
        }
    }

    /// A request wants the service. True: nobody follows its sources, and the caller sees to it that somebody does.
    ///
    /// A load where the service is in use; the line that it reads is written once in a while.
    #[inline]
    pub fn want(&self) -> bool {
        self.state.load(Ordering::Relaxed) != USED && self.wake()
    }

    #[cold]
    fn wake(&self) -> bool {
        if self.state.load(Ordering::Acquire) == ASLEEP {
            let since = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.since.store(since, Ordering::Release);
        }
        self.state.swap(USED, Ordering::AcqRel) == ASLEEP
    }

    /// Has somebody wanted it since the last look?
    pub fn look(&self) -> bool {
        self.state.swap(UNUSED, Ordering::AcqRel) == USED
    }

    /// The sources are followed no more; false when somebody wants the service after all.
    pub fn end(&self) -> bool {
        let answered = self.answered.swap(false, Ordering::AcqRel);
        let ended = self.state.compare_exchange(UNUSED, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !ended && answered {
            self.answered();
        }
        ended
    }

    /// Every source has answered: who waits need not any longer.
    pub fn answered(&self) {
        self.answered.store(true, Ordering::Release);
        self.news.notify_waiters();
    }

    /// There may be endpoints that were not there before.
    pub fn told(&self) {
        self.news.notify_waiters();
    }

    /// Ready with the first news after this call.
    #[must_use]
    pub fn news(&self) -> OwnedNotified {
        Arc::clone(&self.news).notified_owned()
    }

    /// Until when a request that finds no endpoint should wait for a source to answer for the first time; `None` when all
    /// have, or have had so much time for it.
    #[must_use]
    pub fn awaited_until(&self, patience: Duration, now: Instant) -> Option<Instant> {
        if self.answered.load(Ordering::Acquire) || self.state.load(Ordering::Acquire) == ASLEEP {
            return None;
        }
        let until = self.epoch + Duration::from_nanos(self.since.load(Ordering::Acquire)) + patience;
        (now < until).then_some(until)
    }

    /// What is asked of the sources changed.
    pub fn ask_otherwise(&self) {
        self.asked_otherwise.notify_one();
    }

    /// Ready when what is asked of the sources has changed.
    pub async fn asked_otherwise(&self) {
        self.asked_otherwise.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_many_wakes_the_follower_and_a_use_keeps_it() {
        let interest = Interest::new();
        assert_eq!([interest.want(), interest.want(), interest.want()], [true, false, false]);
        assert_eq!([interest.look(), interest.look()], [true, false]);
        assert!(!interest.want());
        assert!(!interest.end(), "wanted after the look");
        assert!(interest.look());
        assert!(interest.end());
        assert!(interest.want(), "used again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_nothing_waits_for_the_first_answer_and_no_longer() {
        let (interest, patience) = (Interest::new(), Duration::from_secs(10));
        assert_eq!(interest.awaited_until(patience, clock::now()), None, "nobody asks the sources");
        tokio::time::advance(Duration::from_secs(100)).await;
        interest.want();
        let until = clock::now() + patience;
        assert_eq!(interest.awaited_until(patience, clock::now()), Some(until));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(interest.awaited_until(patience, clock::now()), Some(until), "from the first request on");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(interest.awaited_until(patience, clock::now()), None);
        interest.look();
        assert!(interest.end());
        assert!(interest.want());
        assert!(interest.awaited_until(patience, clock::now()).is_some());
        let news = interest.news();
        interest.answered();
        news.await;
        assert_eq!(interest.awaited_until(patience, clock::now()), None);
    }
}
