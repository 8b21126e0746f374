//! The pool of a client: what servers answered, and which one is best.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Duration,
};

use super::{LoadReport, Prequal, settings::Fixed, window::Window};
use crate::{Member, outlier::nanos};

/// Answers that a choice needs.
const FEW: usize = 2;
/// Answers that are asked for when the pool has fewer.
const ENOUGH: usize = 4;
/// After a minute without requests nobody is asked.
const IDLE: u64 = Duration::from_secs(60).as_nanos() as u64;
/// One in so many probes is sent however many reports ride on responses.
const KEPT: i64 = 8;

/// Latencies within this factor are alike: the median of 25 is off by a quarter often enough.
const ALIKE: u64 = 2;
/// Who takes so many times as long as the fastest is asked last, as who does not keep what it promised.
const SLOW: u64 = 10;
/// Latencies below, in nanoseconds, are taken for it.
const SHORTEST: u64 = 1_000_000;

/// The pool of one set of members. Picks try its lock and do without when it is taken: it is held for less than a
/// microsecond, and never across anything that waits.
pub(crate) struct Pool {
    settings: Arc<Prequal>,
    state: Mutex<State>,
}

/// The pools of a cluster, by level and place: a pool outlives the snapshot that it was made for.
#[derive(Debug, Default)]
pub(crate) struct Pools(Mutex<HashMap<Key, Arc<Pool>>>);

/// A level, and perhaps a place of it.
type Key = (usize, Option<usize>);

/// What the client itself knows of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Where it is in the set; `None`: it left, and is forgotten.
    pub(crate) index: usize,
    /// May it be chosen?
    pub(crate) usable: bool,
    /// Its latency is no less, in nanoseconds.
    pub(crate) silence: u64,
    /// This client's requests that it has.
    pub(crate) in_flight: u32,
}

struct State {
    /// The oldest first.
    probes: Vec<Probe>,
    /// Of the usable ones: figures, place in the list above, place among the members. Only room, so that a choice takes none.
    ranked: Vec<(Figures, usize, usize)>,
    window: Window,
    threshold: Option<u32>,
    /// In units of 2^-32.
    removals: i64,
    /// The part of a use that was rounded off.
    uses: i64,
    /// Probes due that reports on responses stand for, and those that are sent in any case.
    due: i64,
    due_always: i64,
    /// Answers that are still to come.
    awaited: usize,
    /// Is it the worst one's turn to be removed?
    worst: bool,
    /// Of the last choice, and of the last probes.
    chosen: Option<u64>,
    probed: u64,
}

struct Probe {
    member: Arc<Member>,
    rif: u32,
    /// This client's part of it.
    own: u32,
    latency: u64,
    at: u64,
    /// How often it may be used.
    left: u32,
}

/// What an answer says now.
#[derive(Clone, Copy, Debug)]
struct Figures {
    hot: bool,
    rif: u32,
    latency: u64,
}

/// Less is better.
type Rank = (u8, u64, u64);

impl Pool {
    pub(crate) fn new(settings: Arc<Prequal>) -> Self {
        let state = State {
            probes: Vec::with_capacity(settings.pool_size() + 1),
            ranked: Vec::with_capacity(settings.pool_size() + 1),
            window: Window::new(settings.window()),
            threshold: None,
            removals: 0,
            uses: 0,
            due: 0,
            due_always: 0,
            awaited: 0,
            worst: false,
            chosen: None,
            probed: 0,
        };
        Self { settings, state: Mutex::new(state) }
    }

    /// Where the next request goes: the index of a member, by the hot-cold lexicographic rule. `None` when the pool has
    /// fewer than two answers to choose from, or somebody else has it.
    ///
    /// NSDI'24 Prequal, 4: "If all probes in the pool are hot, the one with the lowest RIF is chosen; otherwise, the cold
    /// one with the lowest latency."
    ///
    /// `n`: how many servers there are.
    pub(crate) fn choose(&self, now: u64, n: usize, know: impl Fn(&Arc<Member>) -> Option<Candidate>) -> Option<usize> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            // Somebody panicked who had it: answers are answers all the same.
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        state.count(&self.settings, now);
        state.forget_old(&self.settings, now);
        let chosen = state.best(know);
        if let Some((probe, _)) = chosen {
            state.used(probe);
        }
        state.removals += self.settings.removals().0;
        for _ in 0..take_whole(&mut state.removals) {
            state.remove(self.enough(n));
        }
        chosen.map(|(_, index)| index)
    }

    /// A server told its load. `n`: how many servers there are.
    pub(crate) fn report(&self, member: &Arc<Member>, report: LoadReport, now: u64, n: usize) {
        let reuse = self.settings.reuse(n);
        let mut state = self.state();
        state.forget_old(&self.settings, now);
        match state.awaited.checked_sub(1) {
            Some(left) => state.awaited = left,
            // Nobody asked: it came with a response.
            None => {
                let (each, least) = (self.settings.probes().0, -(self.settings.pool_size() as i64) * Fixed::ONE);
                state.due = (state.due - each).max(least);
            }
        }
        state.window.push(report.rif);
        state.threshold = state.window.quantile(self.settings.hot_quantile());
        state.probes.retain(|probe| !Arc::ptr_eq(&probe.member, member));
        if state.probes.len() >= self.settings.pool_size() {
            state.probes.remove(0);
        }
        let left = state.rounded(reuse);
        let latency = nanos(report.latency);
        let (member, own) = (Arc::clone(member), member.in_flight());
        state.probes.push(Probe { member, rif: report.rif, own, latency, at: now, left });
    }

    /// How many probes are due; `n`: how many servers there are to ask, as far as those are fewer than can be asked at once.
    pub(crate) fn take_due(&self, now: u64, n: usize) -> usize {
        let mut state = self.state();
        let asked = state.chosen.is_some_and(|chosen| now.saturating_sub(chosen) < IDLE);
        if n < FEW || !asked {
            return 0;
        }
        state.forget_old(&self.settings, now);
        if now.saturating_sub(state.probed) >= nanos(self.settings.probe_max_age()) {
            state.awaited = 0;
        }
        let missing = self.enough(n).saturating_sub(state.probes.len() + state.awaited);
        let whole = take_whole(&mut state.due) + take_whole(&mut state.due_always);
        let due = whole.max(missing).min(Prequal::MOST).min(n);
        if due > 0 {
            state.awaited = (state.awaited + due).min(self.settings.pool_size());
            state.probed = now;
        }
        due
    }

    /// Somebody whom no probe could be sent to.
    pub(crate) fn not_sent(&self, probes: usize) {
        let mut state = self.state();
        state.awaited = state.awaited.saturating_sub(probes);
    }

    /// Forget the members that are not here any more.
    pub(crate) fn retain(&self, here: impl Fn(&Arc<Member>) -> bool) {
        self.state().probes.retain(|probe| here(&probe.member));
    }

    /// Answers below which others are asked for: no more than there may be.
    fn enough(&self, n: usize) -> usize {
        ENOUGH.min(n).min(self.settings.pool_size())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A request: probes fall due.
    fn count(&mut self, settings: &Prequal, now: u64) {
        self.chosen = Some(self.chosen.map_or(now, |chosen| chosen.max(now)));
        let (most, always) = (Prequal::MOST as i64 * Fixed::ONE, settings.probes().0 / KEPT);
        self.due = (self.due + settings.probes().0 - always).min(most);
        self.due_always = (self.due_always + always).min(most);
    }

    fn forget_old(&mut self, settings: &Prequal, now: u64) {
        let age = nanos(settings.probe_max_age());
        self.probes.retain(|probe| now.saturating_sub(probe.at) <= age);
    }

    /// The best probe, and where its member is.
    fn best(&mut self, know: impl Fn(&Arc<Member>) -> Option<Candidate>) -> Option<(usize, usize)> {
        self.ranked.clear();
        let mut at = 0;
        while at < self.probes.len() {
            let Some(candidate) = know(&self.probes[at].member) else {
                self.probes.remove(at);
                continue;
            };
            if candidate.usable {
                let figures = self.probes[at].figures(self.threshold, candidate.in_flight, candidate.silence);
                self.ranked.push((figures, at, candidate.index));
            }
            at += 1;
        }
        let least = |figures: &dyn Fn(&Figures) -> bool| {
            let of = self.ranked.iter().map(|(known, ..)| known).filter(|known| figures(known));
            of.map(|known| known.latency.max(SHORTEST)).min().unwrap_or(u64::MAX)
        };
        let (slow, alike) = (
            // Who knows nothing yet is not what others are slow beside.
            least(&|known| known.latency > 0).saturating_mul(SLOW),
            least(&|known| !known.hot).saturating_mul(ALIKE),
        );
        let best = self.ranked.iter().min_by_key(|(known, ..)| known.rank(alike, slow));
        best.filter(|_| self.ranked.len() >= FEW).map(|(_, probe, index)| (*probe, *index))
    }

    /// How often an answer may be used. The paper rounds at random; here what is rounded off counts for the next one.
    fn rounded(&mut self, uses: f64) -> u32 {
        if uses >= f64::from(u32::MAX) {
            return u32::MAX;
        }
        self.uses += (uses * Fixed::ONE as f64) as i64;
        let whole = self.uses / Fixed::ONE;
        self.uses -= whole * Fixed::ONE;
        u32::try_from(whole).unwrap_or(u32::MAX)
    }

    /// NSDI'24 Prequal, 4: what was used often enough is dropped.
    fn used(&mut self, probe: usize) {
        let used = &mut self.probes[probe];
        used.left = used.left.saturating_sub(1);
        if used.left == 0 {
            self.probes.remove(probe);
        }
    }

    /// NSDI'24 Prequal, 4: the oldest and the worst in turn; the worst is the hottest if any is hot, else the slowest. As
    /// many as are `enough` stay: another one would be asked for at once, and a busy client would never stop to ask.
    fn remove(&mut self, enough: usize) {
        if self.probes.len() <= enough.max(FEW) {
            return;
        }
        let worst = self.worst;
        self.worst = !worst;
        let badness = |probe: &Probe| match probe.figures(self.threshold, probe.member.in_flight(), 0) {
            Figures { hot: true, rif, .. } => (true, u64::from(rif)),
            Figures { latency, .. } => (false, latency),
        };
        let of = self.probes.iter().map(badness).enumerate();
        let remove = if worst { of.max_by_key(|(_, badness)| *badness).map_or(0, |(index, _)| index) } else { 0 };
        self.probes.remove(remove);
    }
}

impl Probe {
    /// What it says now.
    ///
    /// NSDI'24 Prequal, 4: the client adds one to the RIF for each request that it sends there. Here only while it is in flight:
    /// else the fastest of idle servers would count as hot from its first request to its next probe. And the latency
    /// grows with it: else a client sends all it has to the fastest server until it hears from it again.
    fn figures(&self, threshold: Option<u32>, in_flight: u32, silence: u64) -> Figures {
        let rif = self.rif.saturating_add(in_flight).saturating_sub(self.own);
        let grown = u128::from(self.latency) * (u128::from(rif) + 1) / (u128::from(self.rif) + 1);
        let latency = u64::try_from(grown).unwrap_or(u64::MAX).max(silence);
        Figures { hot: threshold.is_some_and(|threshold| rif > threshold), rif, latency }
    }
}

impl Figures {
    /// Less is better.
    ///
    /// NSDI'24 Prequal, 4, hot-cold lexicographic: cold ones by latency, then hot ones by RIF. A latency is an estimate, so
    /// cold ones that are about as fast as the fastest are taken by RIF; and one that is slow beyond measure is no choice,
    /// however cold it is.
    fn rank(&self, alike: u64, slow: u64) -> Rank {
        let (rif, latency) = (u64::from(self.rif), self.latency);
        match self.hot {
            _ if latency > slow => (3, latency, rif),
            true => (2, rif, latency),
            false if latency <= alike => (0, rif, latency),
            false => (1, latency, rif),
        }
    }
}

/// The whole part of a credit, which keeps the rest: fractions are rounded so that their sums are right.
fn take_whole(credit: &mut i64) -> usize {
    let whole = (*credit).max(0) / Fixed::ONE;
    *credit -= whole * Fixed::ONE;
    // At most 32.
    whole as usize
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Pools {
    /// The pool of a level or of a place of it; a new one where the settings are others.
    pub(crate) fn of(&self, level: usize, place: Option<usize>, settings: &Arc<Prequal>) -> Arc<Pool> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.entry((level, place)).or_insert_with(|| Arc::new(Pool::new(Arc::clone(settings))));
        if pool.settings != *settings {
            *pool = Arc::new(Pool::new(Arc::clone(settings)));
        }
        Arc::clone(pool)
    }
}

/// Members to probe now. Few, and so without an allocation.
#[derive(Debug, Default)]
pub struct ProbeTargets {
    members: [Option<Arc<Member>>; Prequal::MOST],
    next: usize,
    len: usize,
}

impl ProbeTargets {
    pub(crate) fn push(&mut self, member: Arc<Member>) {
        if let Some(place) = self.members.get_mut(self.len) {
            *place = Some(member);
            self.len += 1;
        }
    }

    pub(crate) fn contains(&self, member: &Member) -> bool {
        self.members.iter().flatten().any(|known| std::ptr::eq(&**known, member))
    }

    pub(crate) fn has_room(&self) -> bool {
        self.len < Prequal::MOST
    }
}

impl Iterator for ProbeTargets {
    type Item = Arc<Member>;

    fn next(&mut self) -> Option<Arc<Member>> {
        let next = self.members.get_mut(self.next)?.take()?;
        self.next += 1;
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for ProbeTargets {}

#[cfg(test)]
mod tests;
