//! A machine that a server shares with others.
//!
//! After Prequal (NSDI'24, section 5): each server has a tenth of a machine of 64 cores, the rest belongs to others, its
//! antagonists, and what these leave free it may use. A request is work for one core. With no more requests than cores
//! free each has a core; with more, all get the same share of those there are.
//!
//! What the antagonists leave: machine `j` is in use by them, on average, to a share `m_j` that is drawn once, even
//! between [`LEAST`](Antagonists::LEAST) and [`MOST`](Antagonists::MOST). Around it the share moves: at times that are
//! exponential with mean [`HOLDS`](Antagonists::HOLDS) a new deviation is taken, 0.7 of the old one and a normal one,
//! so that in the long run its standard deviation is [`MOVES`](Antagonists::MOVES). The server gets what is left of 64
//! cores, and never less than half of its allocation: it cannot be the whole of it, because in the paper round robin
//! times out at 70 % of the allocation already.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::Rng;

use crate::random::{exponential, normal, uniform};

/// Cores of a machine.
pub const MACHINE: f64 = 64.0;
/// Of these, what a server is allocated.
pub const ALLOCATED: f64 = MACHINE / 10.0;

/// What others do on a machine.
#[derive(Clone, Copy, Debug)]
pub struct Antagonists {
    level: f64,
    deviation: f64,
}

impl Antagonists {
    /// The least that a machine's antagonists use on average, as a share of it.
    pub const LEAST: f64 = 0.5;
    /// The most.
    pub const MOST: f64 = 0.95;
    /// How long a deviation from that holds, in the mean.
    pub const HOLDS: Duration = Duration::from_secs(3);
    /// Its standard deviation.
    pub const MOVES: f64 = 0.08;
    /// How much of a deviation is in the next one.
    const STAYS: f64 = 0.7;

    /// Those of one machine.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let level = Self::LEAST + (Self::MOST - Self::LEAST) * uniform(rng);
        Self { level, deviation: Self::MOVES * normal(rng) }
    }

    /// A new deviation, and how long it holds.
    pub fn turn(&mut self, rng: &mut impl Rng) -> Duration {
        let fresh = (1.0 - Self::STAYS * Self::STAYS).sqrt() * Self::MOVES * normal(rng);
        self.deviation = Self::STAYS * self.deviation + fresh;
        exponential(rng, Self::HOLDS)
    }

    /// Cores left for the server.
    #[must_use]
    pub fn leave(&self) -> f64 {
        (MACHINE * (1.0 - self.level - self.deviation)).clamp(ALLOCATED / 2.0, MACHINE)
    }
}

/// Requests at work on some cores.
///
/// All requests progress alike, so that one number says how far: what a request that had been there from the start would
/// have been given. A request ends when that has grown by its work.
#[derive(Clone, Debug)]
pub struct Machine {
    cores: f64,
    progress: f64,
    since: Duration,
    running: BinaryHeap<Reverse<(Finish, usize)>>,
    count: u32,
    used: f64,
    /// When somebody looks at it next.
    planned: Option<Duration>,
}

/// Nanoseconds are a thousand times this.
const EPSILON: f64 = 1e-12;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Finish(f64);

impl Eq for Finish {}

impl PartialOrd for Finish {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finish {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Machine {
    /// An idle one.
    #[must_use]
    pub fn new(cores: f64) -> Self {
        let (running, since) = (BinaryHeap::new(), Duration::ZERO);
        Self { cores, progress: 0.0, since, running, count: 0, used: 0.0, planned: None }
    }

    /// Seconds of work per second for each request.
    fn rate(&self) -> f64 {
        (self.cores / f64::from(self.count.max(1))).min(1.0)
    }

    fn advance(&mut self, now: Duration) {
        let done = (now - self.since).as_secs_f64() * self.rate();
        self.since = now;
        self.progress += done;
        self.used += done * f64::from(self.count);
    }

    /// Core seconds that it has given to requests so far.
    pub fn used(&mut self, now: Duration) -> f64 {
        self.advance(now);
        self.used
    }

    /// From now on it has this many cores.
    pub fn set_cores(&mut self, now: Duration, cores: f64) {
        self.advance(now);
        self.cores = cores;
    }

    /// A request begins, with this much work for one core.
    pub fn begin(&mut self, now: Duration, request: usize, work: Duration) {
        self.advance(now);
        self.count += 1;
        self.running.push(Reverse((Finish(self.progress + work.as_secs_f64()), request)));
    }

    /// A request that is at work is stopped. Whoever calls this says so when asked in [`done`](Self::done).
    pub fn stop(&mut self, now: Duration) {
        self.advance(now);
        self.count -= 1;
    }

    /// One request whose work is done by now, and is not one that was stopped.
    pub fn done(&mut self, now: Duration, stopped: impl Fn(usize) -> bool) -> Option<Left> {
        self.advance(now);
        let &Reverse((Finish(finish), request)) = self.running.peek()?;
        let stopped = stopped(request);
        if !stopped && finish > self.progress + EPSILON {
            return None;
        }
        self.running.pop();
        self.count -= u32::from(!stopped);
        Some(if stopped { Left::Stopped(request) } else { Left::Done(request) })
    }

    /// When to look at it, if that is sooner than was planned. What is planned too soon finds nothing and plans again.
    pub fn plan(&mut self) -> Option<Duration> {
        let Reverse((Finish(finish), _)) = self.running.peek()?;
        let left = ((finish - self.progress) / self.rate()).max(0.0);
        // Rounded up: at that time it is done.
        let at = self.since + Duration::from_nanos((left * 1e9).ceil() as u64);
        if self.planned.is_some_and(|planned| planned <= at) {
            return None;
        }
        self.planned = Some(at);
        Some(at)
    }

    /// Is this the time that was planned last? It is planned no longer.
    pub fn due(&mut self, now: Duration) -> bool {
        let due = self.planned == Some(now);
        if due {
            self.planned = None;
        }
        due
    }
}

/// A request that a machine has no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It was stopped before.
    Stopped(usize),
    /// It is done now.
    Done(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Look at it whenever it asks to be; when each request was done.
    fn finish(machine: &mut Machine) -> Vec<(usize, f64)> {
        let mut all = Vec::new();
        while let Some(now) = machine.plan() {
            assert!(machine.due(now));
            while let Some(left) = machine.done(now, |_| false) {
                let Left::Done(request) = left else { unreachable!("nothing was stopped") };
                all.push((request, now.as_secs_f64()));
            }
        }
        all
    }

    #[test]
    fn each_has_a_core_while_there_are_enough() {
        let mut machine = Machine::new(2.0);
        machine.begin(at(0.0), 1, at(3.0));
        machine.begin(at(1.0), 2, at(1.0));
        assert_eq!(finish(&mut machine), [(2, 2.0), (1, 3.0)]);
        assert!((machine.used(at(5.0)) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn too_many_share_what_there_is_and_a_change_of_cores_counts_at_once() {
        let mut machine = Machine::new(1.0);
        machine.begin(at(0.0), 1, at(2.0));
        machine.begin(at(1.0), 2, at(2.0));
        // From 1 s each has half a core: the first is done at 3 s, the second has a core of its own from then on.
        assert_eq!(finish(&mut machine.clone()), [(1, 3.0), (2, 4.0)]);
        machine.set_cores(at(2.0), 2.0);
        assert_eq!(finish(&mut machine), [(1, 2.5), (2, 3.5)]);
    }

    #[test]
    fn who_is_stopped_takes_nothing_any_more() {
        let mut machine = Machine::new(1.0);
        machine.begin(at(0.0), 1, at(2.0));
        machine.begin(at(0.0), 2, at(1.0));
        machine.stop(at(1.0));
        let stopped = |request: usize| request == 2;
        assert_eq!(machine.done(at(1.0), stopped), Some(Left::Stopped(2)));
        assert_eq!(machine.done(at(2.4), stopped), None);
        assert_eq!(machine.done(at(2.5), stopped), Some(Left::Done(1)));
    }

    #[test]
    fn a_server_mostly_gets_its_allocation_and_never_less_than_half() {
        let mut rng = Stream::Servers.of(3);
        let mut left = Vec::new();
        for _ in 0..2_000 {
            let mut antagonists = Antagonists::draw(&mut rng);
            for _ in 0..10 {
                antagonists.turn(&mut rng);
                left.push(antagonists.leave());
            }
        }
        assert!(left.iter().all(|cores| (ALLOCATED / 2.0..=MACHINE).contains(cores)));
        let share = |of: &dyn Fn(f64) -> bool| left.iter().filter(|cores| of(**cores)).count() as f64 / 20_000.0;
        assert!((0.1..0.25).contains(&share(&|cores| cores < ALLOCATED)), "{}", share(&|cores| cores < ALLOCATED));
        let mean = left.iter().sum::<f64>() / 20_000.0;
        // (1 - 0.725) of 64, and a little for the floor.
        assert!((17.0..18.5).contains(&mean), "{mean}");
    }
}
