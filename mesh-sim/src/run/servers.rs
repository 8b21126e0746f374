//! Servers: how long a request takes where it was sent.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use mesh_lb::{InHand, LoadEstimator, LoadReport};
use rand::rngs::Xoshiro256PlusPlus;
use tokio::time::Instant;

use super::{End, Run};
use crate::machine::{ALLOCATED, Antagonists, Machine};

/// How a server works on what it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// One request at a time, first come first served. For clients that do not give up.
    One,
    /// All at once, each as if alone.
    Unlimited,
    /// All at once on this many cores of its own: see [`Machine`].
    Cores(f64),
    /// All at once on what its antagonists leave of a machine: see [`Antagonists`].
    Shared,
}

/// Servers that are slow, or that fail, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which ones.
    pub servers: Range<usize>,
    /// When.
    pub during: Range<Duration>,
    /// What every request takes that arrives there then.
    pub takes: Duration,
    /// With which result.
    pub symptom: Symptom,
}

/// What a faulty server does after its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// It answers.
    Slow,
    /// It answers 503.
    Fails,
}

impl Fault {
    /// Has a request this to suffer that arrives at this server now?
    #[must_use]
    pub fn hits(&self, server: usize, now: Duration) -> bool {
        self.servers.contains(&server) && self.during.contains(&now)
    }
}

pub(super) struct Servers {
    queues: Vec<VecDeque<usize>>,
    machines: Vec<Machine>,
    antagonists: Vec<Antagonists>,
    /// Answered with success, and core seconds used, when they were last asked.
    told: Vec<(u64, f64)>,
    answered: Vec<u64>,
    weights: Vec<f64>,
    /// What each knows of its load, where clients ask.
    loads: Vec<Arc<LoadEstimator>>,
}

impl Servers {
    pub(super) fn new(run: &Run, epoch: Instant, rng: &mut Xoshiro256PlusPlus) -> Self {
        let each = |all: bool| if all { run.servers } else { 0 };
        let antagonists: Vec<_> = (0..each(run.capacity == Capacity::Shared)).map(|_| Antagonists::draw(rng)).collect();
        let machines = match run.capacity {
            Capacity::Cores(cores) => vec![Machine::new(cores); run.servers],
            _ => antagonists.iter().map(|antagonists| Machine::new(antagonists.leave())).collect(),
        };
        Self {
            queues: vec![VecDeque::new(); each(run.capacity == Capacity::One)],
            machines,
            antagonists,
            told: vec![(0, 0.0); run.servers],
            answered: vec![0; run.servers],
            weights: vec![1.0; run.servers],
            loads: (0..each(run.balancer.probes())).map(|_| Arc::new(LoadEstimator::new(epoch))).collect(),
        }
    }

    pub(super) fn is_machine(&self) -> bool {
        !self.machines.is_empty()
    }

    pub(super) fn machine(&mut self, server: usize) -> &mut Machine {
        &mut self.machines[server]
    }

    /// A request arrives.
    pub(super) fn begin(&self, server: usize, now: Instant) -> Option<InHand> {
        self.loads.get(server).map(|load| load.begin(now))
    }

    /// What it says when asked.
    pub(super) fn report(&self, server: usize, now: Instant) -> LoadReport {
        self.loads[server].report(now)
    }

    /// Other antagonists; how long they stay as they are.
    pub(super) fn turn(&mut self, server: usize, now: Duration, rng: &mut Xoshiro256PlusPlus) -> Option<Duration> {
        let antagonists = self.antagonists.get_mut(server)?;
        let holds = antagonists.turn(rng);
        self.machines[server].set_cores(now, antagonists.leave());
        Some(holds)
    }

    /// Stand in the queue; is it this one's turn?
    pub(super) fn join(&mut self, server: usize, request: usize) -> bool {
        self.queues[server].push_back(request);
        self.queues[server].len() == 1
    }

    /// The first has been served; who is next?
    pub(super) fn leave(&mut self, server: usize) -> Option<usize> {
        self.queues[server].pop_front();
        self.queues[server].front().copied()
    }

    pub(super) fn ended(&mut self, server: usize, end: End) {
        self.answered[server] += u64::from(end == End::Answered);
    }

    /// Answered in the time since the last call, over the share of the allocation used for it. Who had nothing to do
    /// stays as it was.
    pub(super) fn weights(&mut self, now: Duration) -> Vec<f64> {
        for (server, machine) in self.machines.iter_mut().enumerate() {
            let (answered, used) = (self.answered[server], machine.used(now));
            let before = std::mem::replace(&mut self.told[server], (answered, used));
            let (answered, used) = ((answered - before.0) as f64, (used - before.1) / ALLOCATED);
            if answered > 0.0 && used > 0.0 {
                self.weights[server] = answered / used;
            }
        }
        self.weights.clone()
    }
}
