//! A retry storm in small: an outage of two seconds, and the six seconds after it.

use mesh_sim::storm::{Outage, REDUCED, Result, Variant};

const SEEDS: [u64; 2] = [1, 2];

fn measured(outage: Outage, protected: bool, seeds: &[u64]) -> Result {
    Variant { outage, budget: protected, header: protected }.measure(seeds, REDUCED)
}

#[test]
fn what_ships_amplifies_little_and_recovers_by_itself() {
    for outage in [Outage::Refuses, Outage::Hangs] {
        let result = measured(outage, true, &SEEDS);
        assert!(result.attempts() <= 1.2, "{outage:?}: {}, seeds {SEEDS:?}", result.attempts());
        let during = result.attempts_during();
        assert!(during < 2.0, "{outage:?}: {during}, seeds {SEEDS:?}");
        assert!(result.back().is_some_and(|seconds| seconds <= 5), "{outage:?}: {:?}, {SEEDS:?}", result.back());
        // There was an outage.
        assert!(result.goodput()[REDUCED.from] < 0.1, "{outage:?}, seeds {SEEDS:?}");
    }
}

#[test]
fn without_budget_and_header_it_does_not() {
    let result = measured(Outage::Hangs, false, &SEEDS[..1]);
    assert!(result.attempts_during() > 2.0 && result.attempts() > 2.0, "{}", result.attempts());
    assert_eq!(result.back(), None, "the storm feeds itself: {:?}", result.goodput());
}
