//! When a name is asked for again.
//!
//! Envoy's rules of a STRICT_DNS cluster as Istio configures it (`respect_dns_ttl`): after the TTL; where it is zero or
//! nobody told one, after `dns_refresh_rate`. After a failure a back-off from that rate to Istio's `dnsRefreshRate`. Always
//! a little later than told, by chance: what was started together shall not ask together for ever (Envoy's `dns_jitter`).

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Where no TTL is told, and where it is zero (envoy cluster.proto `dns_refresh_rate`: "defaults to 5000ms"): a TTL of zero
/// asks not to be kept, and cannot ask to be asked without a pause.
const REFRESH: Duration = Duration::from_secs(5);
/// No answer holds longer (RFC 8767 section 4 suggests "days to weeks" at most; resolvers have a day).
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest pause after failures: istio mesh.v1alpha1 MeshConfig.dns_refresh_rate, 60 s.
const FAILING: Duration = Duration::from_secs(60);
/// A doubted answer is asked for again so soon that the second is there within five seconds.
const CONFIRM: Duration = Duration::from_secs(4);

/// After an answer that is in force.
pub(super) fn after_answer(ttl: Option<Duration>, rng: &mut impl Rng) -> Duration {
    // envoy StrictDnsClusterImpl: the TTL counts where it is "!= std::chrono::seconds(0)".
    later(ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(REFRESH).min(LONGEST), rng)
}

/// After an answer that wants a second one.
pub(super) fn to_confirm(rng: &mut impl Rng) -> Duration {
    later(CONFIRM, rng)
}

/// After so many failures in a row, one at least.
pub(super) fn after_failure(failures: u32, rng: &mut impl Rng) -> Duration {
    later(REFRESH.saturating_mul(1 << (failures - 1).min(8)).min(FAILING), rng)
}

/// Later by up to a tenth, and by up to five seconds.
fn later(pause: Duration, rng: &mut impl Rng) -> Duration {
    pause + (pause / 10).min(REFRESH).mul_f64(rng.random())
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    fn within(pause: Duration, from: f64, to: f64) {
        assert!((from..=to).contains(&pause.as_secs_f64()), "{pause:?} is not within {from} and {to} s");
    }

    #[test]
    fn a_ttl_is_respected_and_zero_is_not_at_once() {
        let mut rng = StdRng::seed_from_u64(mesh_test::seed());
        for _ in 0..100 {
            let mut after = |ttl: Option<u64>| after_answer(ttl.map(Duration::from_secs), &mut rng);
            within(after(Some(30)), 30.0, 33.0);
            within(after(Some(1)), 1.0, 1.1);
            // envoy StrictDnsClusterImpl: a TTL of 0 leaves dns_refresh_rate in force.
            within(after(Some(0)), 5.0, 5.5);
            within(after(None), 5.0, 5.5);
            within(after(Some(600)), 600.0, 605.0);
            within(after(Some(1 << 31)), 86400.0, 86405.0);
        }
    }

    #[test]
    fn failures_back_off_to_istios_refresh_rate() {
        let mut rng = StdRng::seed_from_u64(mesh_test::seed());
        for (failures, pause) in [(1, 5.0), (2, 10.0), (3, 20.0), (4, 40.0), (5, 60.0), (6, 60.0), (u32::MAX, 60.0)] {
            within(after_failure(failures, &mut rng), pause, pause * 1.1);
        }
    }

    #[test]
    fn the_second_answer_is_asked_for_within_five_seconds() {
        let mut rng = StdRng::seed_from_u64(mesh_test::seed());
        (0..100).for_each(|_| within(to_confirm(&mut rng), 4.0, 4.4));
    }
}
