//! Up to 10,000 clients and 10,000 servers in one run, in subsets of 20.
//!
//! The model: as many clients as servers, each client knows the 20 servers that [`Subsetting`] gives the client of its number.
//! A server has 2 cores of its own, a request needs one for an exponential time of mean 20 ms, the load is 0.7. One second
//! is not measured, then two are.
//!
//! What is counted: how much of a random generator, and how many allocations, a decision takes; what a client keeps, in bytes
//! that it has allocated, with its subset and with all servers. Nanoseconds are the machine's, not the model's: the program
//! prints them and writes them nowhere.

use std::{convert::Infallible, num::NonZeroU32, sync::Arc, time::Duration};

use allocation_counter::measure;
use mesh_core::{Endpoint, clock};
use mesh_lb::{ClusterPolicy, InFlight, LoadBalancer, PeakEwma, Prequal, SubsetClient, Subsetting};
use rand::{Rng as _, rand_core::TryRng, rngs::Xoshiro256PlusPlus};

use crate::{
    Balancer, Capacity, Demand, Phase, Run,
    random::Stream,
    run::{cluster, endpoint},
    statistics::Waits,
};

/// Servers of a client.
pub const SUBSET: u32 = 20;
/// Cores of a server.
pub const CORES: f64 = 2.0;
/// What a request needs.
pub const DEMAND: Demand = Demand::Exponential(Duration::from_millis(20));
/// Load of the servers.
pub const LOAD: f64 = 0.7;
/// Not measured.
pub const WARM_UP: Duration = Duration::from_secs(1);
/// The last request arrives.
pub const END: Duration = Duration::from_secs(3);
/// Clients, and servers.
pub const FLEETS: [usize; 3] = [100, 1_000, 10_000];
/// Decisions that a cost is the mean of.
const DECISIONS: u32 = 100_000;

/// Policies and their names.
#[must_use]
pub fn contenders() -> Vec<(&'static str, LoadBalancer)> {
    vec![
        ("LEAST_REQUEST", LoadBalancer::LeastRequest),
        ("PEAK_EWMA", PeakEwma::default().into()),
        ("PREQUAL", Prequal::default().into()),
    ]
}

/// What one fleet came to.
#[derive(Clone, Debug)]
pub struct Result {
    /// Clients, and servers.
    pub fleet: usize,
    /// What clients waited.
    pub waits: Waits,
    /// Requests that the busiest server had, over the mean.
    pub busiest: f64,
    /// A client with its subset.
    pub subset: Cost,
    /// A client with all servers.
    pub all: Cost,
}

/// What a client costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Numbers drawn for one decision.
    pub draws: f64,
    /// Allocations for one decision, with the request's count.
    pub allocations: f64,
    /// What a client has allocated, in bytes, without the endpoints' descriptions, which all clients of a process share.
    pub bytes: u64,
    /// Time of one decision on this machine.
    pub nanos: f64,
}

/// Run a fleet of this size.
#[must_use]
pub fn run(load_balancer: &LoadBalancer, fleet: usize, seed: u64) -> Result {
    let endpoints: Vec<_> = (0..fleet).map(endpoint).collect();
    let subsets = subsets(&endpoints);
    let per_second = LOAD * CORES * fleet as f64;
    let run = Run {
        seed,
        balancer: Balancer::from(load_balancer.clone()),
        clients: fleet,
        servers: fleet,
        capacity: Capacity::Cores(CORES),
        arrivals: vec![Phase { interval: DEMAND.mean().div_f64(per_second), until: END }],
        demand: DEMAND,
        fault: None,
        patience: None,
        subsets: Some(subsets.into()),
    };
    let (mut waits, mut requests) = (Waits::default(), vec![0_u64; fleet]);
    run.observe(|ended| {
        if ended.arrived >= WARM_UP {
            waits.add(&ended);
            requests[ended.server] += 1;
        }
    });
    let mean = waits.count() as f64 / fleet as f64;
    let known = run.subsets.as_ref().expect("it was set");
    let all: Vec<usize> = (0..fleet).collect();
    Result {
        fleet,
        waits,
        busiest: requests.into_iter().max().unwrap_or_default() as f64 / mean,
        subset: cost(load_balancer, &endpoints, &known[0], seed),
        all: cost(load_balancer, &endpoints, &all, seed),
    }
}

/// The servers of each client, one for each server.
fn subsets(endpoints: &[Arc<Endpoint>]) -> Vec<Vec<usize>> {
    let clients = u32::try_from(endpoints.len()).ok().and_then(NonZeroU32::new).expect("a fleet has some");
    let subsetting = Subsetting::new(NonZeroU32::new(SUBSET).expect("it is not empty")).with_lot_size(clients);
    let number: std::collections::HashMap<_, _> =
        endpoints.iter().enumerate().map(|(index, endpoint)| (Arc::as_ptr(endpoint), index)).collect();
    let of = |client| {
        let chosen = subsetting.choose(SubsetClient::Index(client), endpoints.to_vec());
        chosen.iter().map(|endpoint| number[&Arc::as_ptr(endpoint)]).collect()
    };
    (0..clients.get()).map(of).collect()
}

fn cost(load_balancer: &LoadBalancer, endpoints: &[Arc<Endpoint>], known: &[usize], seed: u64) -> Cost {
    let policy = ClusterPolicy::default().with_load_balancer(load_balancer.clone());
    let mut made = None;
    let built = measure(|| made = Some(cluster(&policy, endpoints, known)));
    let cluster = made.expect("it was made");
    let mut rng = Draws { rng: Stream::Policy.of(seed), count: 0 };
    // As many requests in flight as there are cores for 70 % of them.
    let mut in_flight: Vec<InFlight> = Vec::new();
    let now = clock::now();
    let began = std::time::Instant::now();
    let counted = measure(|| {
        for turn in 0..DECISIONS as usize {
            let member = cluster.pick(now, &mut rng, &[]).expect("there are servers");
            let entered = InFlight::enter(&cluster, &member).expect("the runs set no limit on requests");
            if in_flight.len() < known.len() {
                in_flight.push(entered);
            } else {
                in_flight[turn % known.len()] = entered;
            }
        }
    });
    let nanos = began.elapsed().as_nanos() as f64 / f64::from(DECISIONS);
    Cost {
        draws: rng.count as f64 / f64::from(DECISIONS),
        // The list of requests grows a few times.
        allocations: (counted.count_total as f64 / f64::from(DECISIONS) * 100.0).floor() / 100.0,
        bytes: u64::try_from(built.bytes_current).unwrap_or_default(),
        nanos,
    }
}

/// A generator that counts.
struct Draws {
    rng: Xoshiro256PlusPlus,
    count: u64,
}

impl TryRng for Draws {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> std::result::Result<u32, Infallible> {
        self.count += 1;
        Ok(self.rng.next_u32())
    }

    fn try_next_u64(&mut self) -> std::result::Result<u64, Infallible> {
        self.count += 1;
        Ok(self.rng.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> std::result::Result<(), Infallible> {
        self.count += 1;
        self.rng.fill_bytes(bytes);
        Ok(())
    }
}
