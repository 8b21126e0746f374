//! Prequal's testbed: 100 clients, 100 servers on shared machines, load from 0.75 to 1.74 of what servers are allocated.
//!
//! After Prequal (NSDI'24, section 5, figures 6 and 7). The model, as it was written down before a policy was run in it:
//!
//! - Requests need `max(0, N(80 ms, 80 ms))` of one core, 86.7 ms in the mean, drawn when they arrive.
//! - A server is allocated 6.4 cores, a tenth of a machine, and uses what its antagonists leave: [`machine`](crate::machine).
//!   A load of 1 is 6.4 cores' worth of requests for each server, 7,385 requests a second for all 100.
//! - Requests arrive at a client by chance, all clients alike, and each client balances for itself.
//! - Clients give up after 5 s; then the server stops too. A request is an error then, and has waited 5 s.
//! - The ramp is one run: 5 s at 0.75 that are not measured, then nine steps of [`STEP`], one after the other: a policy
//!   that is in trouble takes it along. Requests count in the step in which they arrive.
//! - The comparison is one run for each load: [`WARM_UP`] is not measured, then [`MEASURED`] is.
//!
//! The paper does not say which of several least loaded servers its LL takes. In turn is what NGINX does and is the
//! group's; at random, as it was written here first, stands beside it: that is better than least loaded of two.
//!
//! What the order of policies is by: the 99th percentile of what clients wait, at 70 % and at 90 %.

use std::{ops::Range, time::Duration};

use mesh_lb::{ClusterPolicy, LoadBalancer, PeakEwma, Prequal};

use crate::{Balancer, Capacity, Demand, Phase, Run, Ties, machine::ALLOCATED, run::each, statistics::Waits};

/// The steps of the ramp: load over allocation.
pub const STEPS: [f64; 9] = [0.75, 0.83, 0.93, 1.03, 1.14, 1.27, 1.41, 1.57, 1.74];
/// The loads at which policies are compared.
pub const LOADS: [f64; 2] = [0.7, 0.9];
/// What a request needs.
pub const DEMAND: Demand = Demand::Normal(Duration::from_millis(80));
/// When clients give up.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Not measured.
pub const WARM_UP: Duration = Duration::from_secs(5);
/// A step of the ramp.
pub const STEP: Duration = Duration::from_secs(10);
/// A load of the comparison.
pub const MEASURED: Duration = Duration::from_secs(30);

/// What p99.9 of Prequal may be at the last step.
pub const LIMIT: Duration = Duration::from_millis(700);

/// How large, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Clients, and servers.
    pub fleet: usize,
    /// One step of the ramp.
    pub step: Duration,
    /// One load of the comparison.
    pub measured: Duration,
}

/// The paper's.
pub const FULL: Size = Size { fleet: 100, step: STEP, measured: MEASURED };
/// What a test can afford.
pub const REDUCED: Size = Size { fleet: 100, step: Duration::from_secs(2), measured: Duration::from_secs(10) };

/// In the order in which the paper has them: each group waits longer than the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Looks at no load.
    Blind,
    /// The least loaded of all, as this client sees it.
    LeastLoaded,
    /// The less loaded of two, as this client sees it.
    OfTwo,
    /// Asks servers.
    Probing,
}

/// A policy in this comparison.
#[derive(Clone, Debug)]
pub struct Contender {
    /// As in configuration; what exists in the simulator only says so.
    pub name: &'static str,
    /// How it chooses.
    pub balancer: Balancer,
    /// Its group, if it is one of the paper's policies.
    pub group: Option<Group>,
}

/// Those of the paper that exist.
#[must_use]
pub fn contenders() -> Vec<Contender> {
    let of = |name, balancer, group| Contender { name, balancer, group: Some(group) };
    let prequal = ClusterPolicy::default().with_load_balancer(Prequal::default().into());
    let beside = |name, balancer| Contender { name, balancer, group: None };
    vec![
        of("ROUND_ROBIN", LoadBalancer::RoundRobin.into(), Group::Blind),
        of("RANDOM", LoadBalancer::Random.into(), Group::Blind),
        of("WRR by q/u (simulator only)", Balancer::Weighted, Group::Blind),
        of("least loaded, ties in turn (simulator only)", Balancer::LeastLoaded(Ties::Next), Group::LeastLoaded),
        beside("least loaded, ties at random (simulator only)", Balancer::LeastLoaded(Ties::Random)),
        of("LEAST_REQUEST", LoadBalancer::LeastRequest.into(), Group::OfTwo),
        beside("PEAK_EWMA", LoadBalancer::from(PeakEwma::default()).into()),
        of("PREQUAL", LoadBalancer::from(Prequal::default()).into(), Group::Probing),
        of("PREQUAL, told by responses", Balancer::Told(prequal), Group::Probing),
    ]
}

/// What clients waited in one part of a run.
#[derive(Clone, Debug)]
pub struct Part {
    /// The load.
    pub load: f64,
    /// With each of the seeds.
    pub seeds: Vec<Waits>,
    /// Over all of them.
    pub all: Waits,
}

impl Contender {
    /// Is it held to the ramp's targets?
    #[must_use]
    pub fn is_prequal(&self) -> bool {
        self.group == Some(Group::Probing)
    }

    fn run(&self, seed: u64, fleet: usize, arrivals: Vec<Phase>) -> Run {
        Run {
            seed,
            balancer: self.balancer.clone(),
            clients: fleet,
            servers: fleet,
            subsets: None,
            capacity: Capacity::Shared,
            arrivals,
            demand: DEMAND,
            fault: None,
            patience: Some(PATIENCE),
        }
    }

    /// The nine steps.
    #[must_use]
    pub fn ramp(&self, seeds: &[u64], size: Size) -> Vec<Part> {
        self.parts(seeds, size, &STEPS, size.step)
    }

    /// One load.
    #[must_use]
    pub fn at(&self, load: f64, seeds: &[u64], size: Size) -> Part {
        self.parts(seeds, size, &[load], size.measured).remove(0)
    }

    /// Loads one after the other, each for the same time.
    fn parts(&self, seeds: &[u64], size: Size, loads: &[f64], each_takes: Duration) -> Vec<Part> {
        let interval = |load: f64| DEMAND.mean().div_f64(load * ALLOCATED * size.fleet as f64);
        let mut arrivals = vec![Phase { interval: interval(loads[0]), until: WARM_UP }];
        let mut windows: Vec<Range<Duration>> = Vec::new();
        for (index, load) in loads.iter().enumerate() {
            let start = WARM_UP + each_takes * u32::try_from(index).expect("there are few loads");
            windows.push(start..start + each_takes);
            arrivals.push(Phase { interval: interval(*load), until: start + each_takes });
        }
        let runs = each(seeds, |&seed| {
            let mut waits = vec![Waits::default(); loads.len()];
            self.run(seed, size.fleet, arrivals.clone()).observe(|ended| {
                if let Some(index) = windows.iter().position(|window| window.contains(&ended.arrived)) {
                    waits[index].add(&ended);
                }
            });
            waits
        });
        let part = |(index, load): (usize, &f64)| {
            let seeds: Vec<_> = runs.iter().map(|run| run[index].clone()).collect();
            Part { load: *load, all: Waits::join(&seeds), seeds }
        };
        loads.iter().enumerate().map(part).collect()
    }
}

/// Does every policy of a group wait longer than every one of the next, by the 99th percentile?
#[must_use]
pub fn ordered(results: &[(Option<Group>, Duration)]) -> bool {
    let of = |group: Group| results.iter().filter(move |(of, _)| *of == Some(group)).map(|(_, waited)| *waited);
    let groups = [Group::Blind, Group::LeastLoaded, Group::OfTwo, Group::Probing];
    groups.windows(2).all(|pair| {
        let (best, worst) = (of(pair[0]).min(), of(pair[1]).max());
        best.zip(worst).is_some_and(|(best, worst)| best > worst)
    })
}
