//! Trust domains: the authority part of a SPIFFE ID.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use super::InvalidSpiffeId;

/// The trust domain of a SPIFFE ID, `cluster.local` for instance.
///
/// SPIFFE-ID section 2.1: lower-case letters, digits, dots, dashes and underscores, at most 255 bytes.
/// Upper case is refused rather than folded, so that equal bytes are equal identities.
///
/// ```
/// use mesh_core::identity::TrustDomain;
/// assert_eq!("cluster.local".parse::<TrustDomain>().unwrap().as_str(), "cluster.local");
/// assert!("Cluster.local".parse::<TrustDomain>().is_err());
/// assert!("".parse::<TrustDomain>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Istio's default, `cluster.local` (MeshConfig.trustDomain).
    #[must_use]
    pub fn cluster_local() -> Self {
        Self(Arc::from("cluster.local"))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidSpiffeId;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() {
            return Err(InvalidSpiffeId::EmptyTrustDomain);
        }
        let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if name.len() > 255 || !name.bytes().all(legal) {
            return Err(InvalidSpiffeId::TrustDomain);
        }
        Ok(Self(Arc::from(name)))
    }
}

impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
