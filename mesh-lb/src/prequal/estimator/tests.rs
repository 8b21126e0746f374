use mesh_core::clock;
use proptest::prelude::*;

use super::*;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// So many requests at once from `now`, each done after `takes`.
fn together(load: &Arc<LoadEstimator>, now: Instant, count: usize, takes: Duration) {
    let requests: Vec<_> = (0..count).map(|_| load.begin(now)).collect();
    requests.into_iter().for_each(|request| request.answered(now + takes));
}

/// NSDI'24 Prequal, 4: the latency of queries whose RIF on arrival was at or near the present one.
#[test]
fn the_latency_is_that_at_the_present_rif() {
    let start = clock::now();
    let load = Arc::new(LoadEstimator::new(start));
    assert_eq!(load.report(start), LoadReport::default(), "nothing is known");
    for n in 0..30 {
        together(&load, start + ms(1_000 + n), 1, ms(10));
        let (first, later) = (start + ms(2_000 + 2 * n), start + ms(2_001 + 2 * n));
        let waits = (0..4).map(|_| load.begin(first)).collect::<Vec<_>>();
        load.begin(later).answered(later + ms(80));
        // Forgotten, without a word of how long they took.
        drop(waits);
    }
    let now = start + ms(3_000);
    assert_eq!(load.report(now), LoadReport::new(0, ms(10)));
    let _busy: Vec<_> = (0..4).map(|_| load.begin(now)).collect();
    assert_eq!(load.report(now), LoadReport::new(4, ms(80)));
}

/// The median of 25: a few slow ones among them change nothing, 13 do.
#[test]
fn it_is_a_median_of_the_newest_25() {
    let start = clock::now();
    for (slow, expected) in [(12, 10), (13, 500)] {
        let load = Arc::new(LoadEstimator::new(start));
        for n in 0..100 {
            together(&load, start + ms(n), 1, ms(10));
        }
        for n in 0..slow {
            together(&load, start + ms(200 + n), 1, ms(500));
        }
        assert_eq!(load.report(start + ms(1_000)).latency, ms(expected), "{slow}");
    }
}

/// A handler that is dropped took at least this long: it raises the estimate, or says nothing.
#[test]
fn dropped_handlers_are_censored_samples() {
    let start = clock::now();
    let load = Arc::new(LoadEstimator::new(start));
    for n in 0..5 {
        together(&load, start + ms(n), 1, ms(100));
    }
    for n in 0..20 {
        load.begin(start + ms(200 + n)).abandoned(start + ms(220 + n));
    }
    assert_eq!(load.report(start + ms(300)).latency, ms(100), "short ones say nothing");
    for n in 0..20 {
        load.begin(start + ms(300 + n)).abandoned(start + ms(1_300 + n));
    }
    assert_eq!(load.report(start + ms(2_000)), LoadReport::new(0, ms(1_000)), "and none is in flight");
}

/// load-balancing.md 2.1: a cancelled handler leaked its RIF in another implementation.
#[test]
fn rif_never_leaks() {
    let start = clock::now();
    let load = Arc::new(LoadEstimator::new(start));
    let requests: Vec<_> = (0..9).map(|_| load.begin(start)).collect();
    assert_eq!(load.report(start).rif, 9);
    for (n, request) in requests.into_iter().enumerate() {
        match n % 3 {
            0 => request.answered(start),
            1 => request.abandoned(start),
            _ => drop(request),
        }
    }
    assert_eq!(load.report(start).rif, 0);
    let panicked = std::thread::spawn({
        let load = Arc::clone(&load);
        move || {
            let _request = load.begin(start);
            panic!("a handler does");
        }
    });
    assert!(panicked.join().is_err());
    assert_eq!(load.report(start).rif, 0);
}

/// Who is stuck has no new samples; that nothing comes is one.
#[test]
fn a_stuck_server_says_so() {
    let start = clock::now();
    let load = Arc::new(LoadEstimator::new(start));
    together(&load, start, 3, ms(10));
    let stuck = load.begin(start + ms(1_000));
    assert_eq!(load.report(start + ms(1_005)).latency, ms(10));
    assert_eq!(load.report(start + ms(3_000)).latency, ms(2_000));
    stuck.answered(start + ms(3_000));
    assert_eq!(load.report(start + ms(3_000)).rif, 0);
}

#[test]
fn old_samples_are_forgotten() {
    let start = clock::now();
    let load = Arc::new(LoadEstimator::new(start));
    together(&load, start, 30, ms(500));
    assert_eq!(load.report(start + ms(10_000)).latency, ms(500));
    assert_eq!(load.report(start + ms(11_000)).latency, Duration::ZERO, "somebody should try");
}

proptest! {
    /// Against the definition, over any history; clocks that go back and latencies of hours included.
    #[test]
    fn the_median_of_the_nearest(
        samples in proptest::collection::vec((0_u32..60, 0_u64..20_000_000_000_000), 1..300), rif in 0_u32..60,
    ) {
        let load = LoadEstimator::new(clock::now());
        for (rif, latency) in &samples {
            load.samples().push(Sample { latency: *latency, at: 5, rif: *rif });
        }
        let mut near: Vec<_> = samples.iter().rev().take(KEPT).collect();
        near.sort_by_key(|(of, _)| of.abs_diff(rif));
        near.truncate(NEAREST);
        let mut latencies: Vec<_> = near.iter().map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        prop_assert_eq!(load.latency(rif, 3), latencies[latencies.len() / 2]);
    }
}
