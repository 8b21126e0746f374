//! When keys are fetched again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rand::{Rng, RngExt as _};
use tokio::time::Instant;

/// reference 1.7: "remote mode cache 5 min"; a tenth more or less, so that a fleet does not ask as one.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// After a failure, doubled with each.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Whatever a rule says: one location does not hold up all others.
const LONGEST_FETCH: Duration = Duration::from_secs(30);
/// A key that nobody knows is looked for so often at most: whoever calls can name any.
const MISSED: Duration = Duration::from_secs(30);
/// Keys that nobody could fetch again for so long are good no more (reference security 2.4).
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The locations of keys, and when each is asked next.
#[derive(Debug, Default)]
pub(super) struct Schedule(HashMap<Arc<str>, Entry>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    due: Instant,
    timeout: Duration,
    fetched: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// These are the locations that rules name now.
    pub(super) fn want<'a>(&mut self, locations: impl IntoIterator<Item = (&'a Arc<str>, Duration)>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for (location, timeout) in locations {
            let new = Entry { due: now, timeout, fetched: None, failures: 0 };
            let entry = self.0.get(location).copied().or_else(|| before.remove(location)).unwrap_or(new);
            let timeout = timeout.max(self.0.get(location).map_or(Duration::ZERO, |entry| entry.timeout));
            self.0.insert(Arc::clone(location), Entry { timeout: timeout.min(LONGEST_FETCH), ..entry });
        }
    }

    /// Those to ask now, and how long each may take.
    pub(super) fn due(&self, now: Instant) -> Vec<(Arc<str>, Duration)> {
        let due = self.0.iter().filter(|(_, entry)| entry.due <= now);
        due.map(|(location, entry)| (Arc::clone(location), entry.timeout)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Was it fetched, as far as is known here?
    pub(super) fn has_fetched(&self, location: &str) -> bool {
        self.0.get(location).is_some_and(|entry| entry.fetched.is_some())
    }

    pub(super) fn fetched(&mut self, location: &str, now: Instant, rng: &mut impl Rng) {
        if let Some(entry) = self.0.get_mut(location) {
            *entry = Entry { due: now + jittered(REFRESH, rng), fetched: Some(now), failures: 0, ..*entry };
        }
    }

    /// Asked in vain. Are its keys too old to be good?
    pub(super) fn failed(&mut self, location: &str, now: Instant, rng: &mut impl Rng) -> bool {
        let Some(entry) = self.0.get_mut(location) else { return false };
        let wait = (RETRY * 2_u32.saturating_pow(entry.failures.min(10))).min(LONGEST_RETRY);
        entry.failures = entry.failures.saturating_add(1);
        entry.due = now + jittered(wait, rng);
        let stale = entry.fetched.is_some_and(|fetched| now.duration_since(fetched) >= STALE);
        if stale {
            entry.fetched = None;
        }
        stale
    }

    /// A token named a key that nobody knows: ask again where that was not done just now.
    pub(super) fn missed(&mut self, now: Instant) {
        for entry in self.0.values_mut() {
            // Where fetching fails, no token makes it faster.
            if entry.failures == 0 && entry.fetched.is_some_and(|fetched| now.duration_since(fetched) >= MISSED) {
                entry.due = entry.due.min(now);
            }
        }
    }
}

fn jittered(wait: Duration, rng: &mut impl Rng) -> Duration {
    wait.mul_f64(rng.random_range(0.9..1.1))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn refresh_retry_and_the_end() {
        let (mut schedule, mut rng) = (Schedule::default(), StdRng::seed_from_u64(mesh_test::seed()));
        let (start, location): (_, Arc<str>) = (mesh_core::clock::now(), "http://a/keys".into());
        let second = Duration::from_secs;
        schedule.want([(&location, second(5)), (&location, second(7))], start);
        assert_eq!(schedule.due(start), [(Arc::clone(&location), second(7))]);
        schedule.fetched(&location, start, &mut rng);
        assert!(schedule.due(start + second(269)).is_empty() && schedule.due(start + second(331)).len() == 1);
        // Wanted again: nothing new about it.
        schedule.want([(&location, second(5))], start + second(1));
        assert!(schedule.due(start + second(1)).is_empty());

        // Each failure waits twice as long, a minute at most.
        let mut now = start + second(331);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(!schedule.failed(&location, now, &mut rng));
            let next = schedule.0[&location].due.duration_since(now).as_secs_f64();
            assert!((f64::from(wait) * 0.9..=f64::from(wait) * 1.1).contains(&next), "{wait}: {next}");
            now += second(70);
        }
        // The last good keys stay for a day.
        assert!(!schedule.failed(&location, start + STALE - second(1), &mut rng));
        assert!(schedule.failed(&location, start + STALE, &mut rng));
        assert!(!schedule.failed(&location, start + STALE, &mut rng), "said once");
    }

    #[test]
    fn a_missed_key_is_looked_for_twice_a_minute_at_most() {
        let (mut schedule, mut rng) = (Schedule::default(), StdRng::seed_from_u64(mesh_test::seed()));
        let (start, location): (_, Arc<str>) = (mesh_core::clock::now(), "http://a/keys".into());
        schedule.want([(&location, RETRY)], start);
        schedule.fetched(&location, start, &mut rng);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut asked = 0;
        for second in 0..120 {
            schedule.missed(at(second));
            if !schedule.due(at(second)).is_empty() {
                schedule.fetched(&location, at(second), &mut rng);
                asked += 1;
            }
        }
        assert_eq!(asked, 3);
        schedule.want([], at(200));
        assert!(schedule.is_empty() && !schedule.has_fetched(&location));
    }
}
