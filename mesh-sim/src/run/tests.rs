use mesh_lb::{ClusterPolicy, LoadBalancer, OutlierDetection};

use super::*;
use std::ops::Range;

const SECOND: Duration = Duration::from_secs(1);

fn run(load_balancer: LoadBalancer, seed: u64) -> Run {
    Run {
        seed,
        balancer: load_balancer.into(),
        clients: 1,
        servers: 11,
        subsets: None,
        capacity: Capacity::Unlimited,
        arrivals: phase(Duration::from_millis(1), 5 * SECOND),
        demand: Demand::Exponential(Duration::from_millis(10)),
        fault: None,
        patience: None,
    }
}

fn phase(interval: Duration, until: Duration) -> Vec<Phase> {
    vec![Phase { interval, until }]
}

fn slow(during: Range<Duration>) -> Fault {
    Fault { servers: 3..4, during, takes: 2 * SECOND, symptom: Symptom::Slow }
}

fn ended(run: &Run) -> Vec<Ended> {
    let mut all = Vec::new();
    run.observe(|ended| all.push(ended));
    all
}

fn every_policy() -> [LoadBalancer; 3] {
    [LoadBalancer::RoundRobin, LoadBalancer::Random, LoadBalancer::LeastRequest]
}

#[test]
fn a_seed_gives_the_same_run_again_and_another_one_does_not() {
    for policy in every_policy() {
        let one = ended(&run(policy.clone(), 1));
        assert_eq!(one, ended(&run(policy.clone(), 1)), "{policy:?}");
        assert_ne!(one, ended(&run(policy.clone(), 2)), "{policy:?}");
    }
}

#[test]
fn requests_and_their_demands_are_the_same_ones_for_every_policy() {
    let [first, others @ ..] = every_policy().map(|policy| {
        let mut requests: Vec<_> = ended(&run(policy, 3)).iter().map(|ended| (ended.arrived, ended.took)).collect();
        requests.sort_unstable();
        requests
    });
    assert!(first.len() > 4_500, "1,000 a second for 5 s");
    assert!(others.iter().all(|requests| *requests == first));
}

#[test]
fn a_round_robin_starts_where_the_seed_says() {
    for seed in [0, 1, 10, 14] {
        let mut order = ended(&run(LoadBalancer::RoundRobin, seed));
        order.sort_unstable_by_key(|ended| ended.arrived);
        let turns = order.iter().enumerate().map(|(n, ended)| (n as u64 + seed + 1) % 11 == ended.server as u64);
        assert!(turns.into_iter().all(|turn| turn), "seed {seed}");
    }
}

#[test]
fn one_at_a_time_is_first_come_first_served() {
    let run = Run {
        capacity: Capacity::One,
        servers: 3,
        arrivals: phase(4 * SECOND / 1000, 5 * SECOND),
        ..run(LoadBalancer::Random, 4)
    };
    let all = ended(&run);
    let mut waited = 0;
    for server in 0..3 {
        let here: Vec<_> = all.iter().filter(|ended| ended.server == server).collect();
        assert!(here.is_sorted_by_key(|ended| ended.arrived), "in the order of arrival, seed 4");
        waited += here.windows(2).filter(|pair| pair[1].arrived < pair[0].arrived + pair[0].took).count();
    }
    assert!(waited > all.len() / 2, "a load of 0.83: {waited} of {} waited", all.len());
}

#[test]
fn a_slow_server_takes_its_time_within_the_window_only() {
    let fault = slow(SECOND..2 * SECOND);
    let all = ended(&Run { fault: Some(fault.clone()), ..run(LoadBalancer::RoundRobin, 5) });
    let hit = |ended: &&Ended| ended.server == 3 && fault.during.contains(&ended.arrived);
    assert!(all.iter().filter(hit).count() > 80 && all.iter().filter(hit).all(|ended| ended.took == fault.takes));
    assert!(all.iter().filter(|ended| !hit(ended)).all(|ended| ended.took < fault.takes));
    assert!(all.iter().all(|ended| ended.end == End::Answered), "it is slow, not broken");
}

#[test]
fn who_gives_up_has_waited_that_long_and_no_count_is_left() {
    let fault = slow(SECOND..2 * SECOND);
    let run = Run { fault: Some(fault), patience: Some(SECOND), ..run(LoadBalancer::RoundRobin, 6) };
    let mut all = Vec::new();
    let client = run.simulate(|ended| all.push(ended));
    let given_up: Vec<_> = all.iter().filter(|ended| ended.end == End::GivenUp).collect();
    assert!(given_up.len() > 80 && given_up.iter().all(|ended| ended.server == 3 && ended.took == SECOND));
    assert!(all.iter().all(|ended| ended.took <= SECOND));
    assert_eq!(client[0].in_flight(), (0, 0));
}

/// envoy outlier: ejected for 30 s by the fifth in a row, back on the first sweep of 10 s after that.
#[test]
fn an_ejected_server_is_sent_nothing_until_the_sweep_it_comes_back_on() {
    let fault = slow(SECOND..3 * SECOND);
    let policy = ClusterPolicy::default().with_load_balancer(LoadBalancer::RoundRobin);
    let run = Run {
        fault: Some(fault),
        patience: Some(SECOND),
        arrivals: phase(SECOND / 1000, 45 * SECOND),
        balancer: Balancer::Shipped(policy.with_outlier_detection(OutlierDetection::default())),
        ..run(LoadBalancer::RoundRobin, 7)
    };
    let mut to_it: Vec<_> = ended(&run).into_iter().filter(|ended| ended.server == 3).collect();
    to_it.sort_unstable_by_key(|ended| ended.arrived);
    let fifth = to_it.iter().filter(|ended| ended.end == End::GivenUp).nth(4).expect("five failed");
    let ejected = fifth.arrived + fifth.took;
    assert!(to_it.iter().any(|ended| ended.arrived < ejected && ejected - ended.arrived < SECOND / 50));
    let next = to_it.iter().find(|ended| ended.arrived > ejected).expect("it comes back").arrived;
    assert!(next >= 40 * SECOND && next < 40 * SECOND + SECOND / 50, "{next:?}");
}
