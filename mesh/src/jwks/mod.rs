//! Issuers' keys, fetched beside the requests.
//!
//! A request looks at what is known ([`KeyStore`]) and never waits. New rules come into force when their keys are there or
//! could not be fetched in time: then their tokens are refused, and fetching goes on.

mod fetch;
mod schedule;

use std::{sync::Arc, time::Duration};

use mesh_authz::jwt::{KeySource, KeyStore, RequestAuthentications};
use mesh_core::clock;
use tokio::task::JoinSet;

pub(crate) use self::fetch::Fetcher;
use self::schedule::Schedule;
use crate::inbound::Inbound;

/// Security does not wait longer for an issuer that does not answer.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often a task looks whether a token named an unknown key.
const LOOK: Duration = Duration::from_secs(1);

/// Fetch what these rules need and nobody has: before they come into force.
pub(crate) async fn prefetch(fetcher: &Fetcher, keys: &KeyStore, rules: &RequestAuthentications) {
    let missing = rules.remote_keys().filter(|(source, _)| keys.get(source).is_none());
    let missing: Vec<_> = missing.map(|(source, timeout)| (source.clone(), timeout.min(LONGEST_WAIT))).collect();
    let mut fetches = JoinSet::new();
    for (source, timeout) in missing {
        let (fetcher, keys) = (fetcher.clone(), keys.clone());
        fetches.spawn(async move {
            fetch(&fetcher, &keys, &source, timeout).await;
        });
    }
    while fetches.join_next().await.is_some() {}
}

/// Keep the keys of the rules in force fresh.
pub(crate) async fn follow(fetcher: Fetcher, inbound: Inbound) {
    let keys = inbound.keys.clone();
    let mut changed = inbound.changed.subscribe();
    let mut schedule = Schedule::default();
    loop {
        let rules = inbound.authentications.load_full();
        let now = clock::now();
        let remote = || rules.remote_keys().filter_map(|(source, timeout)| Some((source.location()?, timeout)));
        let known = rules.remote_keys().filter(|(source, _)| keys.get(source).is_some());
        let known =
            known.filter_map(|(source, _)| source.location()).filter(|location| !schedule.has_fetched(location));
        let known: Vec<_> = known.cloned().collect();
        schedule.want(remote(), now);
        // Fetched before their rules came into force.
        known.iter().for_each(|location| schedule.fetched(location, now, &mut rand::rng()));
        if schedule.is_empty() {
            // The sender lives in `inbound`: the wait cannot fail.
            let _ = changed.changed().await;
            continue;
        }
        if keys.take_missed() {
            schedule.missed(now);
        }
        fetch_due(&fetcher, &keys, &rules, &mut schedule).await;
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn fetch_due(fetcher: &Fetcher, keys: &KeyStore, rules: &RequestAuthentications, schedule: &mut Schedule) {
    let mut fetches = JoinSet::new();
    for (location, timeout) in schedule.due(clock::now()) {
        let mut sources = rules.remote_keys().map(|(source, _)| source);
        let Some(source) = sources.find(|source| source.location() == Some(&location)).cloned() else { continue };
        let (fetcher, keys) = (fetcher.clone(), keys.clone());
        fetches.spawn(async move { (location, fetch(&fetcher, &keys, &source, timeout).await) });
    }
    while let Some(ended) = fetches.join_next().await {
        let Ok((location, good)) = ended else { continue };
        let (now, rng) = (clock::now(), &mut rand::rng());
        if good {
            schedule.fetched(&location, now, rng);
        } else if schedule.failed(&location, now, rng) {
            tracing::error!(target: "mesh::jwt", %location, "no keys for a day: its tokens are refused from now on");
            keys.retain(|known| *known != *location);
        }
    }
}

async fn fetch(fetcher: &Fetcher, keys: &KeyStore, source: &KeySource, timeout: Duration) -> bool {
    let Some(location) = source.location() else { return true };
    match fetcher.keys(source, timeout).await {
        Ok(set) => {
            keys.insert(location, Arc::new(set));
            true
        }
        Err(error) => {
            tracing::warn!(target: "mesh::jwt", %location, %error, "keys not fetched: what was known stays");
            false
        }
    }
}

#[cfg(test)]
mod tests;
