//! Key sets by where they are from.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;

use super::JwkSet;

/// Where an issuer's keys are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeySource {
    /// In the document itself.
    Inline(Arc<JwkSet>),
    /// At this URI.
    Uri(Arc<str>),
    /// Where the issuer's OpenID configuration says (OpenID Connect Discovery 1.0 section 4).
    Discovery(Arc<str>),
}

/// The key sets that were fetched. Clones are the same store.
///
/// Fails closed: while a set is not there, no token of its issuer is good. There is no key to fall back on
/// (CVE-2026-31837: Istio's was known to everybody).
#[derive(Clone, Default)]
pub struct KeyStore(Arc<Inner>);

#[derive(Default)]
struct Inner {
    sets: ArcSwap<HashMap<Arc<str>, Arc<JwkSet>>>,
    missed: AtomicBool,
}

impl KeySource {
    /// Where to fetch it; `None` where there is nothing to fetch.
    #[must_use]
    pub fn location(&self) -> Option<&Arc<str>> {
        match self {
            Self::Inline(_) => None,
            Self::Uri(location) | Self::Discovery(location) => Some(location),
        }
    }
}

impl KeyStore {
    /// The keys of a source, where they are known.
    #[must_use]
    pub fn get(&self, source: &KeySource) -> Option<Arc<JwkSet>> {
        match source {
            KeySource::Inline(set) => Some(Arc::clone(set)),
            KeySource::Uri(location) | KeySource::Discovery(location) => self.0.sets.load().get(location).cloned(),
        }
    }

    /// Put the keys of a location in force.
    pub fn insert(&self, location: &Arc<str>, set: Arc<JwkSet>) {
        self.0.sets.rcu(|sets| {
            let mut sets = HashMap::clone(sets);
            sets.insert(Arc::clone(location), Arc::clone(&set));
            sets
        });
    }

    /// Forget what is not among these locations any more, or was withdrawn.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.sets.rcu(|sets| {
            let mut sets = HashMap::clone(sets);
            sets.retain(|location, _| keep(location));
            sets
        });
    }

    /// A token named a key that a fetched set does not have: the issuer may have a newer set.
    pub(super) fn missed(&self, source: &KeySource) {
        if source.location().is_some() {
            self.0.missed.store(true, Ordering::Relaxed);
        }
    }

    /// Was a key missed since this was asked last?
    #[must_use]
    pub fn take_missed(&self) -> bool {
        self.0.missed.swap(false, Ordering::Relaxed)
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.sets.load().keys()).finish()
    }
}
