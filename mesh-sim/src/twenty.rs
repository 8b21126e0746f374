//! 20 servers at 0.9 load, against tower's balancer; and two of 20 that fail fast.
//!
//! The model, as it was written down before a policy was run in it:
//!
//! - 10 clients and 20 servers. Requests arrive at a client by chance, all clients alike. Nobody gives up.
//! - A server has 4 cores of its own. A request needs one core for an exponential time of mean 20 ms; when there are more
//!   requests than cores, they share them ([`machine`](crate::machine)).
//! - *At 0.9 load* 3,600 requests arrive a second. Those of the first 10 s are not measured, those of the next
//!   [`MEASURED`] are.
//! - *Failing fast*: 2,700 requests a second, a load of 0.75 for 18 servers. From 10 s to 70 s two servers answer every
//!   request that arrives with 503, after 1 ms and without using their cores. To a probe they say what is so: they have nothing
//!   to do and answer fast. Random choice would send them a tenth of all requests of that minute; an oracle none. What
//!   counts is the share of what random suffers that a policy avoids.
//! - tower is `tower::balance::p2c` over `tower::load::PeakEwma`, its own code, with linkerd's settings (30 ms until
//!   something is known, peaks decay in 10 s), and with a decay of 1 s.

use std::{ops::Range, time::Duration};

use mesh_lb::{ClusterPolicy, LoadBalancer, PeakEwma, Prequal};

use crate::{Balancer, Capacity, Demand, End, Fault, Phase, Run, Symptom, run::each, statistics::Waits};

/// Clients.
pub const CLIENTS: usize = 10;
/// Servers.
pub const SERVERS: usize = 20;
/// Cores of a server.
pub const CORES: f64 = 4.0;
/// What a request needs.
pub const DEMAND: Demand = Demand::Exponential(Duration::from_millis(20));
/// Not measured.
pub const WARM_UP: Duration = Duration::from_secs(10);
/// Measured.
pub const MEASURED: Duration = Duration::from_secs(60);
/// Servers that fail.
pub const FAILING: usize = 2;

/// A policy and its name.
#[derive(Clone, Debug)]
pub struct Contender {
    /// As in configuration; the peer's says so.
    pub name: &'static str,
    /// How it chooses.
    pub balancer: Balancer,
    /// Is it ours?
    pub ours: bool,
    /// Is it held to the targets?
    pub prequal: bool,
}

/// The peer, and what ships.
#[must_use]
pub fn contenders() -> Vec<Contender> {
    let of = |name, balancer| Contender { name, balancer, ours: true, prequal: false };
    let prequal = |name, balancer| Contender { name, balancer, ours: true, prequal: true };
    let told = ClusterPolicy::default().with_load_balancer(Prequal::default().into());
    let tower = |name, seconds| {
        let (default_rtt, decay) = (Duration::from_millis(30), Duration::from_secs(seconds));
        Contender { name, balancer: Balancer::Tower { default_rtt, decay }, ours: false, prequal: false }
    };
    vec![
        tower("tower P2C, peak EWMA, 10 s", 10),
        tower("tower P2C, peak EWMA, 1 s", 1),
        of("RANDOM", LoadBalancer::Random.into()),
        of("LEAST_REQUEST", LoadBalancer::LeastRequest.into()),
        of("PEAK_EWMA", LoadBalancer::from(PeakEwma::default()).into()),
        prequal("PREQUAL", LoadBalancer::from(Prequal::default()).into()),
        prequal("PREQUAL, told by responses", Balancer::Told(told)),
    ]
}

impl Contender {
    fn run(&self, seed: u64, load: f64, until: Duration, fault: Option<Fault>) -> Run {
        Run {
            seed,
            balancer: self.balancer.clone(),
            clients: CLIENTS,
            servers: SERVERS,
            subsets: None,
            capacity: Capacity::Cores(CORES),
            arrivals: vec![Phase { interval: DEMAND.mean().div_f64(load * CORES * SERVERS as f64), until }],
            demand: DEMAND,
            fault,
            patience: None,
        }
    }

    /// What clients wait at 0.9 load: with each of the seeds.
    #[must_use]
    pub fn at_nine_tenths(&self, seeds: &[u64], measured: Duration) -> Vec<Waits> {
        each(seeds, |&seed| {
            let mut waits = Waits::default();
            self.run(seed, 0.9, WARM_UP + measured, None).observe(|ended| {
                if ended.arrived >= WARM_UP {
                    waits.add(&ended);
                }
            });
            waits
        })
    }

    /// What becomes of requests while two servers fail: with each of the seeds.
    #[must_use]
    pub fn while_two_fail(&self, seeds: &[u64], measured: Duration) -> Vec<Failures> {
        let during = WARM_UP..WARM_UP + measured;
        let load = 0.75 * (SERVERS - FAILING) as f64 / SERVERS as f64;
        each(seeds, |&seed| {
            let takes = Duration::from_millis(1);
            let fault = Fault { servers: 0..FAILING, during: during.clone(), takes, symptom: Symptom::Fails };
            let mut failures = Failures::default();
            self.run(seed, load, during.end, Some(fault)).observe(|ended| failures.add(&during, &ended));
            failures
        })
    }
}

/// Requests while servers fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// All of them.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Of these, in the first second.
    pub at_first: u64,
    /// All of them by the second.
    pub by_second: Vec<u64>,
}

impl Failures {
    fn add(&mut self, during: &Range<Duration>, ended: &crate::Ended) {
        if during.contains(&ended.arrived) {
            let failed = u64::from(ended.end == End::Failed);
            self.requests += 1;
            self.failed += failed;
            let second = (ended.arrived - during.start).as_secs() as usize;
            self.by_second.resize(self.by_second.len().max(second + 1), 0);
            self.by_second[second] += failed;
            self.at_first += if second == 0 { failed } else { 0 };
        }
    }

    /// What random choice would suffer, in the mean; an oracle suffers nothing.
    #[must_use]
    pub fn of_random(&self) -> f64 {
        self.requests as f64 * FAILING as f64 / SERVERS as f64
    }

    /// The share of that which was avoided.
    #[must_use]
    pub fn avoided(&self) -> f64 {
        1.0 - self.failed as f64 / self.of_random()
    }
}
