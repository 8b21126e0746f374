//! Whom a client expects at the other end.

use std::{collections::BTreeSet, sync::Arc};

use mesh_core::identity::{SpiffeId, TrustDomain};

/// The identities one of which the server must prove. Exact: authentication knows no prefix, suffix or pattern.
///
/// The empty set accepts nobody: an empty list of names is a mistake in configuration, not a wish to accept anyone.
///
/// ```
/// use mesh_tls::ExpectedPeer;
/// let reviews = "spiffe://cluster.local/ns/default/sa/reviews".parse().unwrap();
/// let ratings = "spiffe://cluster.local/ns/default/sa/ratings".parse().unwrap();
/// assert!(ExpectedPeer::exactly(reviews).accepts(&"spiffe://cluster.local/ns/default/sa/reviews".parse().unwrap()));
/// assert!(!ExpectedPeer::one_of([]).accepts(&ratings));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExpectedPeer(Expected);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Expected {
    OneOf(Arc<BTreeSet<SpiffeId>>),
    AnyInTrustDomain(TrustDomain),
}

impl ExpectedPeer {
    /// This one.
    #[must_use]
    pub fn exactly(id: SpiffeId) -> Self {
        Self::one_of([id])
    }

    /// Any one of these. Of none: nobody.
    #[must_use]
    pub fn one_of(ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self(Expected::OneOf(Arc::new(ids.into_iter().collect())))
    }

    /// Is this one of them?
    #[must_use]
    pub fn accepts(&self, id: &SpiffeId) -> bool {
        match &self.0 {
            Expected::OneOf(ids) => ids.contains(id),
            Expected::AnyInTrustDomain(trust_domain) => id.trust_domain() == trust_domain,
        }
    }

    /// Is it certain that nobody is accepted?
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        matches!(&self.0, Expected::OneOf(ids) if ids.is_empty())
    }
}

/// What weakens a default. Each use is a decision that somebody should be able to find.
pub mod danger {
    use super::{Expected, ExpectedPeer, TrustDomain};

    /// Accept every workload of a trust domain: the peer is in the mesh, and nothing more is known of it. Any
    /// workload that can take over the address can take the traffic.
    #[must_use]
    pub fn any_in_trust_domain(trust_domain: TrustDomain) -> ExpectedPeer {
        ExpectedPeer(Expected::AnyInTrustDomain(trust_domain))
    }
}
