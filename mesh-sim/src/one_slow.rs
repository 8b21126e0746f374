//! One of 11 servers takes 2 s for 30 s; the others go on at 10 ms.
//!
//! One client, 1,000 requests a second. The slow server answers, and with success: nothing but time tells it from the
//! others. What counts is the share of requests answered within a second, of those that arrive while it is slow.
//!
//! Servers have [`Capacity::Unlimited`]: 91 requests a second of 10 ms each are no load to speak of, and what the
//! others get beside that must not be what is measured.

use std::{ops::Range, time::Duration};

use mesh_lb::{ClusterPolicy, LoadBalancer, OutlierDetection, PeakEwma, Prequal};

use crate::{
    Balancer, Capacity, Demand, End, Fault, Phase, Run, Symptom,
    statistics::{Estimate, percentile},
};

/// Servers.
pub const SERVERS: usize = 11;
/// Length of a run.
pub const END: Duration = Duration::from_secs(60);
/// When one of them is slow.
pub const SLOW: Range<Duration> = Duration::from_secs(10)..Duration::from_secs(40);
/// What counts as success.
pub const IN_TIME: Duration = Duration::from_secs(1);

/// The share of success that latency-aware policies have to reach alone.
pub const TARGET: f64 = 0.9995;

/// A policy and what a client does beside it.
#[derive(Clone, Debug)]
pub struct Variant {
    /// As in a DestinationRule.
    pub name: &'static str,
    /// The policy.
    pub load_balancer: LoadBalancer,
    /// Does it learn from latencies?
    pub learns: bool,
    /// Does the client give up after a second, rather than wait?
    pub gives_up: bool,
    /// Istio's defaults, where it is on.
    pub outlier_detection: bool,
}

/// Every policy that exists: alone, with a timeout, and with a timeout and outlier detection. Without a timeout,
/// outlier detection sees successes only.
#[must_use]
pub fn variants() -> Vec<Variant> {
    let policies = [
        ("ROUND_ROBIN", LoadBalancer::RoundRobin, false),
        ("RANDOM", LoadBalancer::Random, false),
        ("LEAST_REQUEST", LoadBalancer::LeastRequest, false),
        ("PEAK_EWMA", PeakEwma::default().into(), true),
        ("PREQUAL", Prequal::default().into(), true),
    ];
    let kinds = [(false, false), (true, false), (true, true)];
    let variant = |(name, load_balancer, learns): (&'static str, LoadBalancer, bool)| {
        kinds.map(|(gives_up, outlier_detection)| {
            let load_balancer = load_balancer.clone();
            Variant { name, load_balancer, learns, gives_up, outlier_detection }
        })
    };
    policies.into_iter().flat_map(variant).collect()
}

impl Variant {
    /// Is it one of those that have to reach [`TARGET`]?
    #[must_use]
    pub fn is_target(&self) -> bool {
        self.learns && self.gives_up && !self.outlier_detection
    }
}

/// What a variant came to, over all seeds.
#[derive(Clone, Debug)]
pub struct Result {
    /// What was run.
    pub variant: Variant,
    /// Share of the requests that arrive while the server is slow and are answered in time: one per seed.
    pub in_time: Vec<f64>,
    /// Share of these requests that the slow server got: one per seed.
    pub to_slow: Vec<f64>,
    /// How long the clients waited for them, sorted.
    pub waited: Vec<Duration>,
    /// The share in time by the second of arrival, over all seeds.
    pub by_second: Vec<f64>,
}

impl Variant {
    /// What a run with a seed is.
    #[must_use]
    pub fn run(&self, seed: u64) -> Run {
        let policy = ClusterPolicy::default().with_load_balancer(self.load_balancer.clone());
        let policy = match self.outlier_detection {
            true => policy.with_outlier_detection(OutlierDetection::default()),
            false => policy,
        };
        Run {
            seed,
            balancer: Balancer::Shipped(policy),
            clients: 1,
            servers: SERVERS,
            subsets: None,
            capacity: Capacity::Unlimited,
            arrivals: vec![Phase { interval: Duration::from_millis(1), until: END }],
            demand: Demand::Exponential(Duration::from_millis(10)),
            fault: Some(Fault { servers: 0..1, during: SLOW, takes: Duration::from_secs(2), symptom: Symptom::Slow }),
            patience: self.gives_up.then_some(IN_TIME),
        }
    }

    /// Run it with each of the seeds.
    #[must_use]
    pub fn measure(self, seeds: &[u64]) -> Result {
        let mut seconds = vec![(0_u64, 0_u64); END.as_secs() as usize];
        let (mut in_time, mut to_slow, mut waited) = (Vec::new(), Vec::new(), Vec::new());
        for &seed in seeds {
            let (mut all, mut good, mut slow) = (0_u64, 0_u64, 0_u64);
            self.run(seed).observe(|ended| {
                let success = ended.end == End::Answered && ended.took <= IN_TIME;
                let second = &mut seconds[ended.arrived.as_secs() as usize];
                *second = (second.0 + u64::from(success), second.1 + 1);
                if SLOW.contains(&ended.arrived) {
                    all += 1;
                    good += u64::from(success);
                    slow += u64::from(ended.server == 0);
                    waited.push(ended.took);
                }
            });
            in_time.push(good as f64 / all as f64);
            to_slow.push(slow as f64 / all as f64);
        }
        waited.sort_unstable();
        let by_second = seconds.iter().map(|(good, all)| *good as f64 / *all as f64).collect();
        Result { variant: self, in_time, to_slow, waited, by_second }
    }
}

impl Result {
    /// The share in time, over seeds.
    #[must_use]
    pub fn success(&self) -> Estimate {
        Estimate::of(self.in_time.iter().copied())
    }

    /// How long this share of clients waited at most.
    ///
    /// # Panics
    ///
    /// When nothing was run.
    #[must_use]
    pub fn waited(&self, share: f64) -> Duration {
        percentile(&mut self.waited.clone(), share).expect("a run has requests")
    }
}
