//! When sources are asked, asked again, and left alone.

use std::time::Duration;

use tokio::time::Instant;

/// So long after its last use a service is followed unless somebody says otherwise.
pub const IDLE: Duration = Duration::from_secs(5 * 60);

/// The longest wait before a lost source is asked again the first time; it doubles each time.
// envoy config::RetryInitialDelayMs and RetryMaxDelayMs of an xDS stream, fully jittered.
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// The sources of one port of a service while somebody wants it: which to ask, and when that ends. It decides; somebody
/// else holds the streams and tells it what became of them.
#[derive(Debug)]
pub struct Subscription {
    sources: Vec<Asked>,
    idle: Duration,
    used: Instant,
    looked: Instant,
}

#[derive(Clone, Debug)]
struct Asked {
    /// When it is to be asked; `None` while it is followed.
    due: Option<Instant>,
    answered: bool,
    losses: u32,
}

impl Subscription {
    /// So many sources, all to be asked now, followed until nobody has wanted the service for `idle`.
    #[must_use]
    pub fn new(sources: usize, idle: Duration, now: Instant) -> Self {
        let asked = Asked { due: Some(now), answered: false, losses: 0 };
        Self { sources: vec![asked; sources], idle, used: now, looked: now }
    }

    /// A source that is to be asked now, and from now on counts as followed.
    pub fn due(&mut self, now: Instant) -> Option<usize> {
        let source = self.sources.iter().position(|asked| asked.due.is_some_and(|due| due <= now))?;
        self.sources[source].due = None;
        Some(source)
    }

    /// A source said something. True when with it each of them has answered for the first time.
    pub fn heard(&mut self, source: usize) -> bool {
        self.sources[source].losses = 0;
        let first = !std::mem::replace(&mut self.sources[source].answered, true);
        first && self.sources.iter().all(|asked| asked.answered)
    }

    /// A source's stream ended: it is asked again after a while, each time a longer one, of which `share` (0 to 1, drawn
    /// at random) is waited.
    pub fn lost(&mut self, source: usize, share: f64, now: Instant) {
        let asked = &mut self.sources[source];
        let longest = FIRST_BACK_OFF.saturating_mul(1 << asked.losses.min(16)).min(LONGEST_BACK_OFF);
        asked.losses = asked.losses.saturating_add(1);
        asked.due = Some(now + longest.mul_f64(share.clamp(0.0, 1.0)));
    }

    /// What is asked changed: all of them are to be asked now.
    pub fn ask_otherwise(&mut self, now: Instant) {
        for asked in &mut self.sources {
            asked.due = Some(now);
        }
    }

    /// Until when there is nothing to do.
    #[must_use]
    pub fn next(&self) -> Instant {
        let look = self.next_look();
        self.sources.iter().filter_map(|asked| asked.due).fold(look, Instant::min)
    }

    /// Is it time to look whether somebody wants the service?
    #[must_use]
    pub fn looks(&self, now: Instant) -> bool {
        now >= self.next_look()
    }

    /// Somebody looked, and did or did not find that the service was used since the last look. True when it is idle.
    pub fn looked(&mut self, used: bool, now: Instant) -> bool {
        self.looked = now;
        if used {
            self.used = now;
        }
        now.saturating_duration_since(self.used) >= self.idle
    }

    /// Four looks for each idle time: it ends at most a quarter late.
    fn next_look(&self) -> Instant {
        self.looked + self.idle / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_lost_source_is_asked_again_less_and_less_often() {
        let now = Instant::now();
        let mut subscription = Subscription::new(2, IDLE, now);
        assert_eq!((subscription.due(now), subscription.due(now), subscription.due(now)), (Some(0), Some(1), None));
        let mut waits = Vec::new();
        for _ in 0..9 {
            subscription.lost(1, 1.0, now);
            waits.push((subscription.next() - now).as_millis());
            assert_eq!(subscription.due(now), None);
            assert_eq!(subscription.due(subscription.next()), Some(1));
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        subscription.heard(1);
        subscription.lost(1, 0.5, now);
        assert_eq!(subscription.next() - now, Duration::from_millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn all_have_answered_once() {
        let mut subscription = Subscription::new(3, IDLE, Instant::now());
        let heard = [0, 0, 2, 1, 1, 2].map(|source| subscription.heard(source));
        assert_eq!(heard, [false, false, false, true, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_idle() {
        let start = Instant::now();
        let mut subscription = Subscription::new(1, 60 * SECOND, start);
        assert_eq!(subscription.due(start), Some(0));
        let mut ended = None;
        for second in 0..200 {
            let now = start + second * SECOND;
            if subscription.looks(now) && subscription.looked(second <= 60, now) {
                ended = ended.or(Some(second));
            }
        }
        assert_eq!(ended, Some(120));
        assert!(!subscription.looks(start + 190 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn another_question_is_asked_of_all() {
        let now = Instant::now();
        let mut subscription = Subscription::new(2, IDLE, now);
        while subscription.due(now).is_some() {}
        subscription.ask_otherwise(now);
        assert_eq!((subscription.due(now), subscription.due(now), subscription.due(now)), (Some(0), Some(1), None));
    }
}
