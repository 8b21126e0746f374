use proptest::prelude::*;

use super::*;

const TAU: f64 = 10e9;
const MS: u64 = 1_000_000;

fn ms(cost: &Cost, now: u64) -> f64 {
    cost.at(now, TAU).unwrap() / MS as f64
}

/// finagle PeakEwma: a latency above the cost is the cost; one below is weighed by how long the last one is ago.
#[test]
fn peaks_count_at_once_and_decay_slowly() {
    let cost = Cost::default();
    assert_eq!(cost.at(0, TAU), None, "no history");
    cost.answered(10 * MS, 0, TAU);
    assert_eq!(ms(&cost, 0), 10.0);
    cost.answered(200 * MS, 1_000 * MS, TAU);
    assert_eq!(ms(&cost, 1_000 * MS), 200.0, "a peak");
    cost.answered(10 * MS, 11_000 * MS, TAU);
    let w = (-1.0_f64).exp();
    assert!((ms(&cost, 11_000 * MS) - (200.0 * w + 10.0 * (1.0 - w))).abs() < 1e-6);
}

/// linkerd: an endpoint that nobody asks is forgiven in time.
#[test]
fn unasked_it_decays_towards_nothing() {
    let cost = Cost::default();
    cost.answered(2_000 * MS, 0, TAU);
    assert!((ms(&cost, 10_000 * MS) - 2_000.0 / 1_f64.exp()).abs() < 1e-6);
    assert!(ms(&cost, 3_600_000 * MS) < 1e-9);
    assert!(cost.at(u64::MAX, TAU).is_some_and(|cost| cost >= 0.0 && cost.is_finite()));
}

#[test]
fn a_failure_takes_no_less_than_expected() {
    let cost = Cost::default();
    cost.answered(100 * MS, 0, TAU);
    cost.failed(1, 20_000 * MS, TAU);
    assert_eq!(ms(&cost, 20_000 * MS), 100.0, "it did not get faster, nor is it forgiven");
    cost.failed(300 * MS, 20_000 * MS, TAU);
    assert_eq!(ms(&cost, 20_000 * MS), 300.0);
}

/// load-balancing.md 2.1: "always record timeouts/cancels as (censored) latency samples".
#[test]
fn a_censored_sample_raises_or_says_nothing() {
    let cost = Cost::default();
    cost.at_least(50 * MS, 0, TAU);
    assert_eq!(ms(&cost, 0), 50.0, "the first thing that is known");
    cost.answered(100 * MS, 0, TAU);
    cost.at_least(20 * MS, 5_000 * MS, TAU);
    assert!((ms(&cost, 5_000 * MS) - 100.0 * (-0.5_f64).exp()).abs() < 1e-6, "as without it");
    cost.at_least(80 * MS, 5_000 * MS, TAU);
    assert_eq!(ms(&cost, 5_000 * MS), 80.0, "above what was left of 100");
}

#[test]
fn busy_endpoints_take_a_series_for_the_exponential() {
    for elapsed in (0..2_000).map(|n| n * 100_000) {
        let exact = (-(elapsed as f64) / TAU).exp();
        assert!((left_after(elapsed, TAU) - exact).abs() < 2e-7, "{elapsed}");
    }
    assert_eq!(left_after(u64::MAX, 1.0), 0.0);
}

#[test]
fn settings_have_no_time_constant_of_nothing() {
    let settings = PeakEwma::default().with_decay(Duration::ZERO).with_default_rtt(Duration::ZERO);
    assert_eq!(settings.decay(), Duration::from_nanos(1));
    let cost = Cost::default();
    cost.answered(5, 7, settings.tau());
    assert!(cost.at(7, settings.tau()).is_some_and(|cost| cost == 5.0));
}

proptest! {
    /// Latencies of nothing and of hours, clocks that stand still or go back: the cost stays a number within what was seen.
    #[test]
    fn the_cost_is_within_what_was_seen(
        steps in proptest::collection::vec((0_u8..3, 0_u64..100_000_000_000_000, any::<u64>()), 1..60),
        tau in 1_u64..100_000_000_000_000,
    ) {
        let (cost, tau) = (Cost::default(), tau as f64);
        let mut most = 0.0_f64;
        for (kind, rtt, now) in steps {
            match kind {
                0 => cost.answered(rtt, now, tau),
                1 => cost.failed(rtt, now, tau),
                _ => cost.at_least(rtt, now, tau),
            }
            // But for rounding.
            most = most.max(rtt.max(1) as f64 * (1.0 + 1e-12));
            let known = f64::from_bits(cost.cost.load(Ordering::Relaxed));
            prop_assert!(known > 0.0 && known <= most, "{} of {}", known, most);
            prop_assert!(cost.at(now, tau).is_some_and(|cost| cost.is_finite() && (0.0..=most).contains(&cost)));
        }
    }

    /// Whatever is censored, the estimate is never lower for it.
    #[test]
    fn censored_samples_never_lower(
        first in 1_u64..10_000_000_000, rtt in 0_u64..10_000_000_000, after in 0_u64..100_000_000_000,
    ) {
        let cost = Cost::default();
        cost.answered(first, 0, TAU);
        let before = cost.at(after, TAU).unwrap();
        cost.at_least(rtt, after, TAU);
        prop_assert!(cost.at(after, TAU).unwrap() >= before * (1.0 - 1e-9));
    }
}

/// Threads that end requests at once lose no time between two answers and count none twice.
#[test]
fn threads_share_the_time_between_answers() {
    let cost = Cost::default();
    cost.answered(1_000 * MS, 0, TAU);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let cost = &cost;
            scope.spawn(move || (0..2_500).for_each(|n| cost.answered(1, (n * 4 + thread) * MS, TAU)));
        }
    });
    // 10 s have passed: what any order of answers leaves, but for the nanosecond of each answer.
    let left = ms(&cost, 9_999 * MS);
    assert!((left - 1_000.0 * (-0.9999_f64).exp()).abs() < 0.1, "{left}");
}
