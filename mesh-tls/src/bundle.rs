//! Trust bundles: the roots of each trust domain, kept apart.
//!
//! One pooled root store would let one domain's authority vouch for another domain's names, so a bundle is chosen by
//! the trust domain in the peer's ID and no other root is looked at (SPIFFE Trust Domain and Bundle, section 4).

use std::{collections::BTreeMap, fmt, sync::Arc};

use mesh_core::identity::TrustDomain;
use rustls_pki_types::{CertificateDer, TrustAnchor, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

/// webpki gives up after 100 signature checks; many roots that share a subject would spend them all.
const MOST_ROOTS: usize = 64;

/// The roots of one trust domain. Immutable, cheap to clone.
#[derive(Clone)]
pub struct TrustBundle {
    anchors: Arc<[TrustAnchor<'static>]>,
    roots: Arc<[CertificateDer<'static>]>,
}

/// Why a bundle was rejected: whole, so that a root never vanishes in silence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBundle {
    /// No certificate in it.
    #[error("a trust bundle has at least one certificate")]
    Empty,
    /// More roots than path building can try.
    #[error("a trust bundle has at most {MOST_ROOTS} roots, found {0}")]
    TooManyRoots(usize),
    /// Text that is not PEM.
    #[error("not PEM: {0}")]
    Pem(String),
    /// A certificate that does not parse.
    #[error("root {index} is not a certificate: {why}")]
    Unparsable {
        /// Which, from 0.
        index: usize,
        /// What the parser said.
        why: String,
    },
    /// A root that may not sign certificates; a leaf in a bundle would be an authority by mistake.
    #[error("root {0} is not a certificate authority: basicConstraints cA and, where keyUsage is given, keyCertSign")]
    NotAnAuthority(usize),
    /// Two bundles for one trust domain; bundles are never merged.
    #[error("two bundles for trust domain {0}")]
    Duplicate(TrustDomain),
}

impl TrustBundle {
    /// The certificates of a PEM text; anything between them is ignored.
    ///
    /// # Errors
    /// When one root cannot be used: a bundle is taken whole or not at all.
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidBundle> {
        let roots = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| InvalidBundle::Pem(error.to_string()))?;
        Self::from_der(roots)
    }

    /// These certificates.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(roots: Vec<CertificateDer<'static>>) -> Result<Self, InvalidBundle> {
        if roots.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        if roots.len() > MOST_ROOTS {
            return Err(InvalidBundle::TooManyRoots(roots.len()));
        }
        let anchors = roots.iter().enumerate().map(|(index, root)| anchor(index, root)).collect::<Result<_, _>>()?;
        Ok(Self { anchors, roots: roots.into() })
    }

    /// The roots, DER.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

fn anchor(index: usize, root: &CertificateDer<'static>) -> Result<TrustAnchor<'static>, InvalidBundle> {
    let unparsable = |why: String| InvalidBundle::Unparsable { index, why };
    let (rest, parsed) = X509Certificate::from_der(root).map_err(|error| unparsable(error.to_string()))?;
    if !rest.is_empty() {
        return Err(unparsable("bytes after the certificate".to_owned()));
    }
    let usage = parsed.key_usage().map_err(|error| unparsable(error.to_string()))?;
    if !parsed.is_ca() || usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(InvalidBundle::NotAnAuthority(index));
    }
    let anchor = webpki::anchor_from_trusted_cert(root).map_err(|error| unparsable(error.to_string()))?;
    Ok(anchor.to_owned())
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.roots == other.roots
    }
}

impl Eq for TrustBundle {}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustBundle({} roots)", self.roots.len())
    }
}

/// Which roots vouch for which trust domain. Immutable, cheap to clone.
///
/// The name of a domain comes from configuration, never from the bundle (SPIFFE Federation, section 7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundles(Arc<BTreeMap<TrustDomain, TrustBundle>>);

impl TrustBundles {
    /// One trust domain: ours.
    #[must_use]
    pub fn single(trust_domain: TrustDomain, bundle: TrustBundle) -> Self {
        Self(Arc::new(BTreeMap::from([(trust_domain, bundle)])))
    }

    /// Several trust domains: ours and those we federate with.
    ///
    /// # Errors
    /// [`InvalidBundle::Duplicate`] when a trust domain comes twice.
    pub fn new(bundles: impl IntoIterator<Item = (TrustDomain, TrustBundle)>) -> Result<Self, InvalidBundle> {
        let mut map = BTreeMap::new();
        for (trust_domain, bundle) in bundles {
            if map.insert(trust_domain.clone(), bundle).is_some() {
                return Err(InvalidBundle::Duplicate(trust_domain));
            }
        }
        Ok(Self(Arc::new(map)))
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.0.get(trust_domain)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&TrustDomain, &TrustBundle)> {
        self.0.iter()
    }
}
