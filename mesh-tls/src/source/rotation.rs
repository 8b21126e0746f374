//! Renewal: half of the lifetime is spent, half is left to find out that renewal fails.

use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;

use super::{IdentitySource, Schedule};
use crate::{Identity, IdentityHandle};

/// When to renew a certificate: at half of its lifetime, ten percent earlier or later as `jitter` (-1 to 1) says, so
/// that a thousand workloads started together do not ask their authority together.
#[must_use]
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, jitter: f64) -> SystemTime {
    let lifetime = not_after.duration_since(not_before).unwrap_or_default();
    not_before + lifetime.mul_f64(0.5 + 0.05 * jitter.clamp(-1.0, 1.0))
}

/// How long to wait after the n-th failure in a row (from 1): 0.5 s doubling to 150 s, a fifth more or less.
#[must_use]
pub fn retry_after(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let wait = (0.5 * f64::from(1_u32 << doublings)).min(150.0);
    Duration::from_secs_f64(wait * (1.0 + 0.2 * jitter.clamp(-1.0, 1.0)))
}

/// A running rotation. Dropping it ends it; the identity in force stays until it expires.
#[derive(Debug)]
pub struct Rotation(JoinHandle<()>);

impl Drop for Rotation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keep a handle's identity fresh from a source, on the current tokio runtime. What cannot be used leaves the last
/// good identity in force and a warning in the log; an identical one is no change.
#[must_use = "rotation ends when this is dropped"]
pub fn spawn_rotation(identity: IdentityHandle, source: impl IdentitySource) -> Rotation {
    Rotation(tokio::spawn(rotate(identity, source)))
}

async fn rotate(handle: IdentityHandle, source: impl IdentitySource) {
    let mut failures = 0;
    let mut alarmed = false;
    loop {
        wait(&handle, source.schedule(), failures).await;
        match source.fetch().await {
            Ok(identity) if *handle.current().identity() == identity => failures = 0,
            Ok(identity) => {
                (failures, alarmed) = (0, false);
                let (id, not_after) = (identity.id().clone(), identity.not_after());
                let generation = handle.replace(identity);
                tracing::info!(%id, generation, ?not_after, "mesh identity renewed");
            }
            Err(error) => {
                failures += 1;
                // A file that stays bad is found bad at every look; the log need not repeat it each time.
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "mesh identity not renewed, the last good one stays");
                }
            }
        }
        alarmed = alarmed || alarm(handle.current().identity());
    }
}

/// Four fifths of the lifetime are spent: whoever should have renewed it has not.
fn alarm(identity: &Identity) -> bool {
    let left = identity.not_after().duration_since(mesh_core::clock::wall()).unwrap_or_default();
    let lifetime = identity.not_after().duration_since(identity.not_before()).unwrap_or_default();
    let due = left < lifetime / 5;
    if due {
        tracing::error!(id = %identity.id(), ?left, "mesh identity is about to expire and has not been renewed");
    }
    due
}

async fn wait(handle: &IdentityHandle, schedule: Schedule, failures: u32) {
    let jitter = rand::random_range(-1.0..=1.0);
    match schedule {
        Schedule::Every(interval) => tokio::time::sleep(interval).await,
        Schedule::HalfLife if failures > 0 => tokio::time::sleep(retry_after(failures, jitter)).await,
        Schedule::HalfLife => {
            let current = handle.current();
            let identity = current.identity();
            wait_until(renew_at(identity.not_before(), identity.not_after(), jitter)).await;
        }
    }
}

/// Wait until the wall clock says so. tokio's clock stands still while a machine is suspended, so it is asked again
/// every minute.
async fn wait_until(due: SystemTime) {
    let left = || due.duration_since(mesh_core::clock::wall()).unwrap_or_default();
    let deadline = mesh_core::clock::now() + left();
    while !left().is_zero() && mesh_core::clock::now() < deadline {
        let minute = mesh_core::clock::now() + Duration::from_secs(60);
        tokio::time::sleep_until(deadline.min(minute)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DevCa;
    use mesh_core::identity::TrustDomain;

    #[test]
    fn half_of_the_lifetime_give_or_take_a_tenth() {
        let start = SystemTime::UNIX_EPOCH;
        let end = start + Duration::from_secs(1000);
        for (jitter, seconds) in [(-1.0, 450), (0.0, 500), (1.0, 550), (9.0, 550)] {
            assert_eq!(renew_at(start, end, jitter), start + Duration::from_secs(seconds));
        }
        assert_eq!(renew_at(end, start, 0.0), end, "an impossible validity is due at once");
    }

    #[test]
    fn retries_double_to_a_limit() {
        let waits: Vec<_> = [1, 2, 3, 9, 10, 1000].map(|n| retry_after(n, 0.0).as_secs_f64()).into();
        assert_eq!(waits, [0.5, 1.0, 2.0, 128.0, 150.0, 150.0]);
        assert_eq!(retry_after(10, 1.0), Duration::from_secs(180));
        assert_eq!(retry_after(10, -1.0), Duration::from_secs(120));
    }

    #[tokio::test(start_paused = true)]
    async fn renews_at_half_life_with_a_new_key() {
        let ca = DevCa::ephemeral(TrustDomain::cluster_local()).unwrap();
        let source = ca.source("spiffe://cluster.local/ns/default/sa/a".parse().unwrap());
        let handle = IdentityHandle::new(source.fetch().await.unwrap());
        let before = handle.current();
        let mut generations = handle.subscribe();
        let started = mesh_core::clock::now();
        let _rotation = spawn_rotation(handle.clone(), source);
        assert_eq!(generations.changed().await, Some(2));
        let hours = started.elapsed().as_secs_f64() / 3600.0;
        assert!((10.7..=13.3).contains(&hours), "half of 24 h give or take a tenth, was {hours}");
        assert_ne!(before.identity().chain(), handle.current().identity().chain());
    }
}
