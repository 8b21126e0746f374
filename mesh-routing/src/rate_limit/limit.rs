//! One limit: which requests it is about, and its buckets.

use std::{
    hash::RandomState,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use mesh_core::{HostPattern, config::ObjectRef};
use tokio::time::Instant;

use super::{KeyBy, Limiter, TokenBucket, layer::Asked, spec::RuleSpec};
use crate::matcher::RouteMatch;

/// A limit on requests. Clones share its buckets.
#[derive(Clone, Debug)]
pub struct RateLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    about: About,
    limiter: Limiter,
    refused: AtomicU64,
}

/// What a limit is about.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) name: Option<Arc<str>>,
    /// Where it comes from; `None` for one made in code.
    pub(super) definition: Option<Definition>,
    /// One of them; all requests when there is none.
    pub(super) matches: Box<[Arc<RouteMatch>]>,
    /// Destinations; all when there is none.
    pub(super) hosts: Box<[HostPattern]>,
    pub(super) key: Option<KeyBy>,
}

/// A limit as it stands in a document. Two that are equal are one limit, before and after a change of configuration.
#[derive(Debug, PartialEq)]
pub(super) struct Definition {
    pub(super) object: ObjectRef,
    pub(super) inbound: bool,
    pub(super) spec: RuleSpec,
}

/// What a limit counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitCounts {
    /// Requests it refused.
    pub refused: u64,
    /// Requests that came with keys there was no room for; see [`KeyBy`].
    pub overflowed: u64,
}

impl RateLimit {
    /// All requests together.
    #[must_use]
    pub fn new(bucket: TokenBucket) -> Self {
        Self::about(About::default(), bucket)
    }

    /// The requests of each key by themselves.
    #[must_use]
    pub fn keyed(bucket: TokenBucket, key: KeyBy) -> Self {
        Self::about(About { key: Some(key), ..About::default() }, bucket)
    }

    pub(super) fn about(about: About, bucket: TokenBucket) -> Self {
        let limiter = match &about.key {
            Some(key) => Limiter::keyed(bucket, key.max_keys()),
            None => Limiter::new(bucket),
        };
        Self(Arc::new(Inner { about, limiter, refused: AtomicU64::new(0) }))
    }

    /// Its name, or `namespace/name` of the MeshPolicy it stands in, with its name there; `limit` for one made in code.
    #[must_use]
    pub fn name(&self) -> String {
        let About { name, definition, .. } = &self.0.about;
        let within = definition.as_ref().map(|definition| &definition.object);
        match (within, name) {
            (Some(object), Some(name)) => format!("{}/{}.{name}", object.namespace, object.name),
            (Some(object), None) => format!("{}/{}", object.namespace, object.name),
            (None, Some(name)) => name.to_string(),
            (None, None) => "limit".to_owned(),
        }
    }

    /// What it counted since the last call, for whoever adds that up.
    #[must_use]
    pub fn take_counts(&self) -> LimitCounts {
        let refused = self.0.refused.swap(0, Ordering::Relaxed);
        LimitCounts { refused, overflowed: self.0.limiter.take_overflowed() }
    }

    /// Is the request one of those it is about?
    fn applies(&self, asked: &Asked<'_>) -> bool {
        let About { matches, hosts, .. } = &self.0.about;
        (hosts.is_empty() || asked.is_for(hosts))
            && (matches.is_empty() || matches.iter().any(|entry| entry.matches(&asked.head)))
    }

    /// May the request go on, for all that this limit has to say? Takes a token when it says so.
    pub(super) fn admits(&self, asked: &Asked<'_>, now: Instant) -> bool {
        if !self.applies(asked) {
            return true;
        }
        let Inner { about, limiter, refused } = &*self.0;
        let admitted = match &about.key {
            None => limiter.admit(now),
            Some(key) => limiter.admit_key(now, key.of(asked, secret())),
        };
        if !admitted {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Does it stand in configuration as it stood before?
    pub(super) fn is_again(&self, before: &Self) -> bool {
        let definition = &self.0.about.definition;
        definition.is_some() && *definition == before.0.about.definition
    }
}

/// One for the process: limits that are kept over a change find their keys again.
fn secret() -> &'static RandomState {
    static SECRET: OnceLock<RandomState> = OnceLock::new();
    SECRET.get_or_init(RandomState::new)
}
