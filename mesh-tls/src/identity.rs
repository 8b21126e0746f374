//! Our own identity: a chain, its key, and whom we trust.

use std::{fmt, sync::Arc, time::SystemTime};

use mesh_core::identity::SpiffeId;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    TrustBundles,
    config::provider,
    verify::{Leaf, Rejected, inspect},
};

/// An X.509 SVID with its private key, and the bundles that peers are verified against. Immutable, cheap to clone.
///
/// It has passed the checks that peers will make: a leaf with a wrong profile is found where it is loaded, not where
/// the first peer refuses it.
#[derive(Clone)]
pub struct Identity {
    leaf: Leaf,
    certified_key: Arc<CertifiedKey>,
    bundles: TrustBundles,
}

/// Why a chain and a key are not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidIdentity {
    /// The chain is not PEM.
    #[error("the certificate chain is not PEM: {0}")]
    ChainPem(String),
    /// The key is not PEM.
    #[error("the private key is not PEM (PKCS#8, PKCS#1 or SEC1): {0}")]
    KeyPem(String),
    /// A key of a kind that we cannot use.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// The key of another certificate; seen when files are read while they are being replaced.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// Peers would refuse the leaf.
    #[error("peers would refuse the certificate: {0}")]
    Profile(#[from] Rejected),
}

impl Identity {
    /// An identity from PEM texts: the chain leaf first, and its key.
    ///
    /// # Errors
    /// When a text does not parse, the key is not the leaf's, the leaf does not have an SVID's profile, or the
    /// bundles have none for its trust domain.
    pub fn from_pem(chain: &[u8], key: &[u8], bundles: TrustBundles) -> Result<Self, InvalidIdentity> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| InvalidIdentity::ChainPem(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| InvalidIdentity::KeyPem(error.to_string()))?;
        Self::from_der(chain, key, bundles)
    }

    /// An identity from DER: the chain leaf first, and its key.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundles: TrustBundles,
    ) -> Result<Self, InvalidIdentity> {
        let leaf = inspect(chain.first().ok_or(Rejected::NoCertificate)?)?;
        let trust_domain = leaf.id.trust_domain();
        if bundles.bundle(trust_domain).is_none() {
            return Err(Rejected::UnknownTrustDomain(trust_domain.clone()).into());
        }
        let certified_key = CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => InvalidIdentity::KeyMismatch,
            other => InvalidIdentity::Key(other.to_string()),
        })?;
        Ok(Self { leaf, certified_key: Arc::new(certified_key), bundles })
    }

    /// Our SPIFFE ID.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// When the leaf's validity starts.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.leaf.not_before
    }

    /// When the leaf's validity ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// Has it expired? Handshakes are refused then: an expired identity proves nothing.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        now > self.leaf.not_after
    }

    /// Whom we trust.
    #[must_use]
    pub fn bundles(&self) -> &TrustBundles {
        &self.bundles
    }

    /// Our chain, DER, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified_key.cert
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }
}

/// Equal chains prove the same key, so the key is not compared.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.chain() == other.chain() && self.bundles == other.bundles
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", self.id()).field("not_after", &self.not_after()).finish_non_exhaustive()
    }
}
