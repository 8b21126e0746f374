//! 20 servers against tower, and with two that fail fast, in small.

use std::time::Duration;

use mesh_sim::{
    statistics::Waits,
    twenty::{Contender, Failures, contenders},
};

const SEEDS: [u64; 2] = [1, 2];
const MEASURED: Duration = Duration::from_secs(5);

fn named(name: &str) -> Contender {
    contenders().into_iter().find(|contender| contender.name == name).expect("there is one of this name")
}

fn tail(contender: &Contender) -> Duration {
    Waits::join(&contender.at_nine_tenths(&SEEDS, MEASURED)).percentile(0.99)
}

#[test]
fn prequal_has_a_shorter_tail_than_tower() {
    let tower = contenders().iter().filter(|contender| !contender.ours).map(tail).min().expect("there is a peer");
    let prequal = tail(&named("PREQUAL"));
    assert!(prequal.as_secs_f64() < 0.75 * tower.as_secs_f64(), "{prequal:?}, tower {tower:?}, seeds {SEEDS:?}");
}

#[test]
fn towers_balancer_runs_the_same_again() {
    let tower = contenders().into_iter().find(|contender| !contender.ours).expect("there is a peer");
    let run = || {
        let mut waits = Waits::join(&tower.at_nine_tenths(&[3], Duration::from_secs(1)));
        (waits.count(), [0.1, 0.5, 0.9, 0.99, 1.0].map(|share| waits.percentile(share)))
    };
    assert_eq!(run(), run());
}

#[test]
fn prequal_is_not_drawn_to_servers_that_fail_fast() {
    let avoided = |name: &str| {
        let failures = named(name).while_two_fail(&SEEDS, MEASURED);
        failures.iter().map(Failures::avoided).fold(f64::INFINITY, f64::min)
    };
    // A twelfth of the time for the same lessons: more than in a minute.
    let prequal = avoided("PREQUAL");
    assert!(prequal > 0.95, "{prequal}, seeds {SEEDS:?}");
    // Four standard deviations of what a tenth of 13,000 requests comes to.
    let random = avoided("RANDOM");
    assert!(random.abs() < 4.0 / (1_350.0_f64).sqrt(), "{random}, seeds {SEEDS:?}");
    assert!(avoided("LEAST_REQUEST") < -0.1, "who fails fast looks idle, seeds {SEEDS:?}");
}
