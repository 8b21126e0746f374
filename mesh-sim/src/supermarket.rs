//! The supermarket model: what the simulator has to get right before it says anything else.
//!
//! Requests arrive at `n` servers as a Poisson process of `n λ` per unit of time, a server serves one at a time, in
//! exponential time of mean 1, and every request joins the shortest of `d` queues. For `n` to infinity the mean
//! response is `T_d = Σ_{i≥1} λ^((d^i - d)/(d - 1))` (Mitzenmacher 1996; Vvedenskaya, Dobrushin, Karpelevich 1996), and
//! for `d = 1` it is `1/(1 - λ)`.
//!
//! - `d = 1` is the policy RANDOM, `d = 2` is LEAST_REQUEST: with one client the requests in flight to a server are its
//!   queue. `d = 3` is not here: least request compares two, and has no setting for another number.
//! - Least request draws two *different* servers, the model draws them independently. Of pairs drawn so, both are among
//!   the share `s` of servers that have at least `k` requests with probability `s² - s(1 - s)/(n - 1)`, not `s²`, so
//!   the fixed point is `s_(k+1) = λ (s_k² - s_k (1 - s_k)/(n - 1))` and the mean response `Σ s_k / λ`:
//!   [`distinct`]. It is a little below `T_2`; fluctuation, which a finite number of servers also has and neither
//!   formula knows, is what is left. The tolerance is against `T_2` itself.
//! - All servers start empty. Requests that arrive in the warm-up are not measured; those that arrive later are
//!   measured to their end.

use std::time::Duration;

use mesh_lb::LoadBalancer;

use crate::{
    Capacity, Demand, Phase, Run,
    run::each,
    statistics::{Batches, Estimate, correlation},
};

/// How near to theory a mean has to be, beside three standard errors.
pub const TOLERANCE: f64 = 0.01;

/// The theory: the mean response for `choices` at `load`, in units of the mean service time.
///
/// ```
/// # use mesh_sim::supermarket::theory;
/// let near = |a: f64, b: f64| (a - b).abs() < 5e-4 * b;
/// assert!(near(theory(1, 0.9), 10.0) && near(theory(2, 0.9), 2.614) && near(theory(3, 0.9), 2.028));
/// assert!(near(theory(2, 0.99), 5.432) && near(theory(3, 0.99), 3.858) && near(theory(2, 0.5), 1.266));
/// ```
#[must_use]
pub fn theory(choices: u32, load: f64) -> f64 {
    if choices == 1 {
        return 1.0 / (1.0 - load);
    }
    let d = f64::from(choices);
    let term = |i: i32| load.powf((d.powi(i) - d) / (d - 1.0));
    (1..).map(term).take_while(|term| *term > 1e-15).sum()
}

/// The same for two different servers of `servers`.
///
/// ```
/// # use mesh_sim::supermarket::{distinct, theory};
/// let (few, many) = (distinct(100, 0.99), distinct(1_000_000, 0.99));
/// assert!(few < many && (many / theory(2, 0.99) - 1.0).abs() < 1e-4);
/// // Of two servers both are looked at: the shorter queue of all.
/// assert!(distinct(2, 0.5) < theory(2, 0.5));
/// ```
#[must_use]
pub fn distinct(servers: usize, load: f64) -> f64 {
    let others = servers as f64 - 1.0;
    let next = |share: &f64| Some(load * (share * share - share * (1.0 - share) / others)).filter(|next| *next > 1e-15);
    std::iter::successors(Some(load), next).sum::<f64>() / load
}

/// One load under one policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// Queues compared: 1 or 2.
    pub choices: u32,
    /// Utilisation of the servers.
    pub load: f64,
    /// How many there are.
    pub servers: usize,
    /// Not measured, in mean service times.
    pub warm_up: u32,
    /// One batch; there are [`BATCHES`] in a run.
    pub batch: u32,
}

/// Batches in a run.
pub const BATCHES: usize = 10;

/// What a case came to.
#[derive(Clone, Debug)]
pub struct Result {
    /// What was run.
    pub case: Case,
    /// With these.
    pub seeds: Vec<u64>,
    /// Mean response, over the batches of all seeds.
    pub response: Estimate,
    /// Of a batch with the next.
    pub correlation: f64,
    /// Requests measured.
    pub requests: u64,
}

impl Case {
    /// What a run with a seed is.
    ///
    /// # Panics
    ///
    /// For a number of choices that no policy has.
    #[must_use]
    pub fn run(&self, seed: u64) -> Run {
        let load_balancer = match self.choices {
            1 => LoadBalancer::Random,
            2 => LoadBalancer::LeastRequest,
            other => panic!("no policy compares {other} queues"),
        };
        let service = Duration::from_secs(1);
        Run {
            seed,
            balancer: load_balancer.into(),
            clients: 1,
            servers: self.servers,
            subsets: None,
            capacity: Capacity::One,
            arrivals: vec![Phase { interval: service.div_f64(self.load * self.servers as f64), until: self.end() }],
            demand: Demand::Exponential(service),
            fault: None,
            patience: None,
        }
    }

    fn end(&self) -> Duration {
        Duration::from_secs(u64::from(self.warm_up) + BATCHES as u64 * u64::from(self.batch))
    }

    /// Run it with each of the seeds.
    #[must_use]
    pub fn measure(self, seeds: &[u64]) -> Result {
        let measured = Duration::from_secs(self.warm_up.into())..self.end();
        let batches = |&seed: &u64| {
            let mut batches = Batches::over(measured.clone(), BATCHES);
            self.run(seed).observe(|ended| batches.add(ended.arrived, ended.took.as_secs_f64()));
            batches
        };
        let all = each(seeds, batches);
        let runs: Vec<Vec<f64>> = all.iter().map(|batches| batches.means().collect()).collect();
        Result {
            case: self,
            seeds: seeds.to_vec(),
            response: Estimate::of(runs.iter().flatten().copied()),
            correlation: correlation(&runs),
            requests: all.iter().map(Batches::count).sum(),
        }
    }

    /// What theory says.
    #[must_use]
    pub fn theory(&self) -> f64 {
        theory(self.choices, self.load)
    }
}

impl Result {
    /// Within the tolerance of theory?
    #[must_use]
    pub fn holds(&self) -> bool {
        self.response.agrees(self.case.theory(), TOLERANCE)
    }
}

/// The full size. Warm-up and batches grow as the time in which a queue forgets does: for `d = 1` that is `1/(1 - √λ)²`,
/// 380 at a load of 0.9.
#[must_use]
pub fn full() -> Vec<Case> {
    let case = |choices, load, warm_up, batch| Case { choices, load, servers: 2_000, warm_up, batch };
    vec![
        case(1, 0.5, 100, 50),
        case(1, 0.7, 300, 100),
        case(1, 0.8, 800, 200),
        case(1, 0.9, 2_500, 400),
        case(2, 0.5, 50, 50),
        case(2, 0.7, 50, 50),
        case(2, 0.9, 200, 100),
        case(2, 0.95, 400, 150),
        case(2, 0.99, 1_500, 400),
    ]
}

/// What a test can afford: the same servers, less load, less time.
#[must_use]
pub fn reduced() -> Vec<Case> {
    let case = |choices, load, warm_up, batch| Case { choices, load, servers: 2_000, warm_up, batch };
    vec![case(1, 0.5, 60, 15), case(1, 0.7, 150, 25), case(2, 0.5, 30, 15), case(2, 0.9, 80, 20)]
}
