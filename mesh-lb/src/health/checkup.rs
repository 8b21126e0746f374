//! The state machine of one endpoint's checks.

use rand::Rng;
use tokio::time::Instant;

use super::HealthCheck;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckResult {
    /// It is well.
    Passed,
    /// It says that it is not: out at once.
    Failed,
    /// No connection, no answer in time, or one that may be tried again: counts against the threshold.
    Unanswered,
    /// The check was not made, through no fault of the endpoint's: says nothing.
    Skipped,
}

/// When an endpoint is asked next, and what is believed of it.
///
/// ```
/// use mesh_lb::{CheckResult, Checkup, HealthCheck, HealthCheckKind};
///
/// let (check, now, mut rng) = (HealthCheck::new(HealthCheckKind::Tcp), mesh_core::clock::now(), rand::rng());
/// let mut endpoint = Checkup::new(&check, now, &mut rng);
/// assert_eq!(endpoint.due(), Some(now), "without jitter the first check is due at once");
/// endpoint.begin();
/// assert_eq!(endpoint.end(&check, CheckResult::Passed, now, &mut rng), Some(true));
/// assert_eq!(endpoint.due(), Some(now + check.interval));
/// ```
#[derive(Clone, Debug)]
pub struct Checkup {
    /// `None` while a check is under way.
    due: Option<Instant>,
    /// Before the first result nothing is believed.
    healthy: Option<bool>,
    passes: u32,
    failures: u32,
}

impl Checkup {
    /// Of an endpoint that was not asked yet.
    #[must_use]
    pub fn new(check: &HealthCheck, now: Instant, rng: &mut impl Rng) -> Self {
        Self { due: Some(now + check.first_wait(rng)), healthy: None, passes: 0, failures: 0 }
    }

    /// When the next check is to begin; `None` while one is under way.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is believed; `None` before the first result.
    #[must_use]
    pub fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// A check begins.
    pub fn begin(&mut self) {
        self.due = None;
    }

    /// A check ended. What is believed from now on, when that is something new.
    ///
    /// envoy ActiveHealthCheckSession::handleSuccess: "If this is the first time we ever got a check result on this host,
    /// we immediately move it to healthy". setUnhealthy: a failure of the network, and a status that is retriable, count;
    /// any other failure is enough alone. One that is the first result of all leaves the endpoint where Envoy starts it:
    /// failed.
    pub fn end(&mut self, check: &HealthCheck, result: CheckResult, now: Instant, rng: &mut impl Rng) -> Option<bool> {
        self.due = Some(now + check.wait(rng));
        let before = self.healthy;
        match result {
            CheckResult::Skipped => {}
            CheckResult::Passed => {
                self.failures = 0;
                self.passes = self.passes.saturating_add(1);
                if before != Some(false) || self.passes >= check.healthy_threshold.get() {
                    self.healthy = Some(true);
                }
            }
            CheckResult::Failed | CheckResult::Unanswered => {
                self.passes = 0;
                self.failures = self.failures.saturating_add(1);
                let enough = self.failures >= check.unhealthy_threshold.get();
                if before != Some(true) || enough || result == CheckResult::Failed {
                    self.healthy = Some(false);
                }
            }
        }
        self.healthy.filter(|_| self.healthy != before)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use mesh_core::clock;
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;
    use crate::HealthCheckKind;

    fn check(unhealthy: u32, healthy: u32) -> HealthCheck {
        HealthCheck {
            unhealthy_threshold: NonZeroU32::new(unhealthy).unwrap(),
            healthy_threshold: NonZeroU32::new(healthy).unwrap(),
            ..HealthCheck::new(HealthCheckKind::Tcp)
        }
    }

    /// P passed, F failed, U unanswered, S skipped; what is believed after each: + healthy, - failed, ? nothing yet.
    #[test]
    fn thresholds() {
        for (unhealthy, healthy, results, believed) in [
            // envoy: "during startup, only a single successful health check is required to mark a host healthy".
            (3, 2, "P", "+"),
            // handleSuccess: only the first result of all has that privilege.
            (3, 2, "UPP", "--+"),
            (3, 2, "FPP", "--+"),
            (3, 2, "UPUPP", "----+"),
            // setUnhealthy: network failures count in a row.
            (3, 2, "PUUU", "+++-"),
            (3, 2, "PUUPUUU", "++++++-"),
            (1, 1, "PUP", "+-+"),
            // "if a host responds with a code not in expected_statuses or retriable_statuses, this threshold is ignored
            // and the host is considered immediately unhealthy".
            (3, 2, "PF", "+-"),
            (3, 3, "PFPPFPPP", "+------+"),
            // A check that was not made changes nothing, neither what is believed nor what is counted.
            (3, 2, "SSP", "??+"),
            (3, 2, "PUSUU", "++++-"),
            (3, 2, "FPSP", "---+"),
        ] {
            let (check, now, mut rng) = (check(unhealthy, healthy), clock::now(), rand::rng());
            let mut endpoint = Checkup::new(&check, now, &mut rng);
            let mut said = String::new();
            for result in results.chars() {
                let result = match result {
                    'P' => CheckResult::Passed,
                    'F' => CheckResult::Failed,
                    'U' => CheckResult::Unanswered,
                    _ => CheckResult::Skipped,
                };
                let before = endpoint.healthy();
                endpoint.begin();
                assert_eq!(endpoint.due(), None, "one check at a time");
                let news = endpoint.end(&check, result, now, &mut rng);
                assert_eq!(news.is_some(), endpoint.healthy() != before, "told when it changes");
                said.push(endpoint.healthy().map_or('?', |healthy| if healthy { '+' } else { '-' }));
            }
            assert_eq!(said, believed, "{unhealthy} {healthy} {results}");
        }
    }

    proptest! {
        /// The first check within initialJitter; each other one from interval up to interval and intervalJitter.
        #[test]
        fn jitter_is_within_its_bounds(
            seed: u64,
            interval in 1_u64..100_000,
            jitter in 0_u64..100_000,
            initial in 0_u64..100_000,
        ) {
            let millis = Duration::from_millis;
            let check = HealthCheck {
                interval: millis(interval),
                interval_jitter: millis(jitter),
                initial_jitter: millis(initial),
                ..check(3, 1)
            };
            let (mut now, mut rng) = (clock::now(), SmallRng::seed_from_u64(seed));
            let mut endpoint = Checkup::new(&check, now, &mut rng);
            prop_assert!(endpoint.due().unwrap() <= now + millis(initial));
            for _ in 0..20 {
                now = endpoint.due().unwrap();
                endpoint.begin();
                let _ = endpoint.end(&check, CheckResult::Passed, now, &mut rng);
                let wait = endpoint.due().unwrap() - now;
                prop_assert!(wait >= millis(interval) && wait <= millis(interval + jitter), "{wait:?}");
            }
        }
    }

    /// Jitter that is always the same would spread nobody.
    #[test]
    fn jitter_spreads() {
        let check = HealthCheck { initial_jitter: Duration::from_secs(10), ..check(3, 1) };
        let (now, mut rng) = (clock::now(), SmallRng::seed_from_u64(mesh_test::seed()));
        let waits: Vec<_> = (0..1000).map(|_| Checkup::new(&check, now, &mut rng).due().unwrap() - now).collect();
        let early = waits.iter().filter(|wait| **wait < Duration::from_secs(5)).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
    }
}
