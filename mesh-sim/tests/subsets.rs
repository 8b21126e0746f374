//! Subsets: all of `docs/simulation/subsets.md`, it is small.

use mesh_sim::subsets::{FLEET, Way};

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

#[test]
fn one_lot_is_even_at_rest_and_stays_so_when_servers_come_and_go() {
    let result = Way::Index { lot: FLEET as u32 }.measure(&SEEDS);
    assert!(result.over_mean.iter().all(|over| *over <= 1.1), "{result:?}");
    assert!(result.beyond.iter().all(|beyond| *beyond <= 0), "{result:?}");
    assert!(result.changed.iter().all(|changed| *changed <= 1), "{result:?}");
}

/// load-balancing.md 2.2: 100 clients, 100 servers, 5 connections: 2.23.
#[test]
fn rendezvous_is_as_uneven_as_expected() {
    let result = Way::Rendezvous.measure(&SEEDS);
    let mean = result.over_mean.iter().sum::<f64>() / SEEDS.len() as f64;
    assert!((1.8..2.6).contains(&mean), "{result:?}");
    assert!(result.changed.iter().all(|changed| *changed <= 1), "{result:?}");
}
