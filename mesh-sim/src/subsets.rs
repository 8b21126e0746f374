//! Subsets of a large fleet: how even, and what a change of servers costs.
//!
//! 100 clients, 100 servers, 5 connections each. All clients send alike, to all of their servers alike, so the load of a
//! server is the number of clients that have it: this needs no run. Addresses, and with them all hashes, differ by seed.
//!
//! - *At rest*: the most clients that a server has, over the mean.
//! - *A change of servers*: from 100 servers up to [`MOST`], one at a time, and from 100 down to [`LEAST`]. After each, what
//!   the fullest server has beyond the mean, rounded up; and how many connections a client has made at most.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc};

use mesh_core::{Endpoint, EndpointAddress};
use mesh_lb::{SubsetClient, Subsetting};
use rand::Rng as _;

use crate::random::Stream;

/// Clients, and servers at rest.
pub const FLEET: usize = 100;
/// Connections of a client.
pub const SIZE: usize = 5;
/// Servers after they have become more.
pub const MOST: usize = 120;
/// Servers after they have become fewer.
pub const LEAST: usize = 86;

/// How clients share servers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Clients know their place, and lots are of this size.
    Index {
        /// Clients in a lot.
        lot: u32,
    },
    /// They do not: rendezvous hashing.
    Rendezvous,
}

/// What a way came to: one of each for each of the seeds.
#[derive(Clone, Debug)]
pub struct Result {
    /// What was worked out.
    pub way: Way,
    /// At rest.
    pub over_mean: Vec<f64>,
    /// What the fullest server had beyond the mean rounded up, after any change.
    pub beyond: Vec<i64>,
    /// Connections that a client made after one change, at most.
    pub changed: Vec<usize>,
    /// And in the mean over all clients and changes.
    pub changed_mean: Vec<f64>,
}

type Subsets = Vec<HashSet<EndpointAddress>>;

impl Way {
    fn subsets(self, seed: u64, servers: usize) -> Subsets {
        let endpoint = |server: usize| {
            let address = format!("10.{}.{}.{}", seed % 256, server / 250, server % 250 + 1);
            Arc::new(Endpoint::new(EndpointAddress::new(&address, 80)))
        };
        let all: Vec<_> = (0..servers).map(endpoint).collect();
        let not_zero = |number: u32| NonZeroU32::new(number).expect("neither subsets nor lots are empty");
        let of_size = Subsetting::new(not_zero(SIZE as u32));
        let mut seeds = Stream::Clients.of(seed);
        let subset = |client: usize| {
            let chosen = match self {
                Self::Index { lot } => {
                    of_size.with_lot_size(not_zero(lot)).choose(SubsetClient::Index(client as u32), all.clone())
                }
                Self::Rendezvous => of_size.choose(SubsetClient::Seed(seeds.next_u64()), all.clone()),
            };
            chosen.iter().map(|endpoint| endpoint.address.clone()).collect()
        };
        (0..FLEET).map(subset).collect()
    }

    /// Work it out for each of the seeds.
    #[must_use]
    pub fn measure(self, seeds: &[u64]) -> Result {
        let mut result = Result {
            way: self,
            over_mean: Vec::new(),
            beyond: Vec::new(),
            changed: Vec::new(),
            changed_mean: Vec::new(),
        };
        for &seed in seeds {
            let of: Vec<Subsets> = (LEAST..=MOST).map(|servers| self.subsets(seed, servers)).collect();
            result.over_mean.push(fullest(&of[FLEET - LEAST]) as f64 * FLEET as f64 / (FLEET * SIZE) as f64);
            let beyond = |(index, subsets)| fullest(subsets) as i64 - (FLEET * SIZE).div_ceil(LEAST + index) as i64;
            result.beyond.push(of.iter().enumerate().map(beyond).max().expect("there are changes"));
            // A connection that a client has with one server less and not with one more, or the other way round.
            let made = |pair: &[Subsets]| -> Vec<usize> {
                let of = |(a, b): (&HashSet<_>, &HashSet<_>)| a.difference(b).count().max(b.difference(a).count());
                pair[0].iter().zip(&pair[1]).map(of).collect()
            };
            let made: Vec<usize> = of.windows(2).flat_map(made).collect();
            result.changed.push(made.iter().copied().max().expect("there are clients"));
            result.changed_mean.push(made.iter().sum::<usize>() as f64 / made.len() as f64);
        }
        result
    }
}

/// The ways of interest: one lot for all, lots of the default size, and rendezvous.
#[must_use]
pub fn ways() -> Vec<Way> {
    let lot = Subsetting::new(NonZeroU32::MIN).lot_size().get();
    vec![Way::Index { lot: FLEET as u32 }, Way::Index { lot }, Way::Rendezvous]
}

fn fullest(subsets: &Subsets) -> usize {
    let mut clients = std::collections::HashMap::new();
    subsets.iter().flatten().for_each(|server| *clients.entry(server).or_insert(0) += 1);
    clients.into_values().max().unwrap_or_default()
}
