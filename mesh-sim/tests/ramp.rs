//! Prequal's ramp and the comparison of policies, 30 clients and servers, two seeds: `docs/simulation/ramp.md` in small.

use mesh_sim::ramp::{Contender, Group, LIMIT, LOADS, REDUCED, contenders, ordered};

const SEEDS: [u64; 2] = [1, 2];

/// NSDI'24 Prequal, figure 7, as far as it was reproduced (load-balancing.md 2.1): {round robin, random, WRR} worse than least
/// loaded, worse than least loaded of two, worse than Prequal.
#[test]
fn groups_of_policies_are_in_the_papers_order() {
    for load in LOADS {
        let waited =
            |contender: &Contender| (contender.group, contender.at(load, &SEEDS, REDUCED).all.percentile(0.99));
        let results: Vec<_> = contenders().iter().filter(|contender| contender.group.is_some()).map(waited).collect();
        assert!(ordered(&results), "{load}: {results:?}, seeds {SEEDS:?}");
    }
}

#[test]
fn prequal_climbs_the_ramp_without_an_error() {
    for contender in contenders().iter().filter(|contender| contender.is_prequal()) {
        let mut steps = contender.ramp(&SEEDS, REDUCED);
        assert!(steps.iter().all(|step| step.all.errors() == 0), "{}, seeds {SEEDS:?}", contender.name);
        let tail = steps.last_mut().expect("there are steps").all.percentile(0.999);
        assert!(tail <= LIMIT, "{}: {tail:?}, seeds {SEEDS:?}", contender.name);
    }
}

#[test]
fn who_looks_at_no_load_fails_on_the_ramp() {
    let contenders = contenders();
    let blind = contenders.iter().find(|contender| contender.group == Some(Group::Blind)).expect("there are some");
    let steps = blind.ramp(&SEEDS[..1], REDUCED);
    let last = &steps[steps.len() - 1].all;
    assert!(last.errors() as f64 > 0.01 * last.count() as f64, "{} of {}", last.errors(), last.count());
}
