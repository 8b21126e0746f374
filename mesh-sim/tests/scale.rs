//! What a decision costs, and what a client keeps, does not grow with the fleet.

use mesh_sim::scale::{contenders, run};

#[test]
fn a_client_of_a_large_fleet_costs_what_one_of_a_small_fleet_does() {
    for (name, load_balancer) in contenders() {
        let [small, large] = [40, 400].map(|fleet| run(&load_balancer, fleet, 1));
        assert_eq!(small.subset.bytes, large.subset.bytes, "{name}");
        assert!((small.subset.draws - large.subset.draws).abs() < 0.1, "{name}: {:?} {:?}", small.subset, large.subset);
        assert_eq!((large.subset.allocations, large.all.allocations), (0.0, 0.0), "{name}");
        // Twenty servers of four hundred, all alike: no server has much more than the mean.
        assert!(large.busiest < 1.5, "{name}: {}", large.busiest);
    }
}
