//! One verifier for both ends of a connection.
//!
//! A TLS library's own verifiers answer another question: "is this chain good for this DNS name?". Given a SPIFFE
//! trust store they accept two URI names, none, a foreign trust domain and a key that may sign certificates. So the
//! rules of the X509-SVID standard are checked here, in one pure function that both rustls traits call; every refusal
//! names its rule.
//!
//! Two parsers read the names, and a certificate that they read differently is refused: who checks a name and who
//! uses it must see the same bytes.

mod adapter;
mod leaf;
mod path;
mod rejected;
#[cfg(test)]
mod tests;

use mesh_core::identity::PeerIdentity;
use rustls_pki_types::{CertificateDer, UnixTime};

pub(crate) use adapter::{ClientsVerifier, ServerVerifier, rejection};
pub(crate) use leaf::{Leaf, inspect};
pub use rejected::Rejected;

use crate::TrustBundles;

/// The part that the peer plays in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerRole {
    /// It connected to us.
    Client,
    /// We connected to it.
    Server,
}

/// Verify a presented chain (DER, leaf first): leaf profile, then a path to a root of its own trust domain.
///
/// Pure: time and trust are arguments. What the caller does with the identity (compare it with whom it expected,
/// authorize it) is a question after this one.
///
/// # Errors
/// The rule that the chain breaks.
pub fn verify_peer(
    chain: &[CertificateDer<'_>],
    role: PeerRole,
    now: UnixTime,
    bundles: &TrustBundles,
) -> Result<PeerIdentity, Rejected> {
    let (certificate, intermediates) = chain.split_first().ok_or(Rejected::NoCertificate)?;
    let leaf = inspect(certificate)?;
    let trust_domain = leaf.id.trust_domain();
    // X509-SVID 5.1: a path to the bundle of the trust domain that the ID names, and to no other.
    let bundle = bundles.bundle(trust_domain).ok_or_else(|| Rejected::UnknownTrustDomain(trust_domain.clone()))?;
    path::verify(certificate, intermediates, role, now, trust_domain, bundle)?;
    Ok(identity(leaf, chain))
}

/// The identity in a chain that a verifier of ours has accepted in this very handshake.
pub(crate) fn identify(chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, Rejected> {
    let leaf = inspect(chain.first().ok_or(Rejected::NoCertificate)?)?;
    Ok(identity(leaf, chain))
}

fn identity(leaf: Leaf, chain: &[CertificateDer<'_>]) -> PeerIdentity {
    PeerIdentity::new(leaf.id, leaf.not_after, chain.iter().map(|der| der.to_vec()).collect())
}
