//! The path from a leaf to a root of its trust domain.

use std::cell::RefCell;

use mesh_core::identity::TrustDomain;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath};

use super::{PeerRole, Rejected, leaf};
use crate::{TrustBundle, config::provider};

/// RFC 5280 path validation against one bundle, with the issuer rules that webpki leaves to others.
pub(super) fn verify(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    role: PeerRole,
    now: UnixTime,
    trust_domain: &TrustDomain,
    bundle: &TrustBundle,
) -> Result<(), Rejected> {
    let leaf = EndEntityCert::try_from(certificate).map_err(|error| Rejected::Unparsable(error.to_string()))?;
    let usage = match role {
        PeerRole::Client => KeyUsage::client_auth(),
        PeerRole::Server => KeyUsage::server_auth(),
    };
    // Inside the search, so that it can go on to another path; remembered, so that the refusal names its rule.
    let refused = RefCell::new(None);
    let issuers_may_issue = |path: &VerifiedPath<'_>| {
        path.intermediate_certificates().try_for_each(|issuer| {
            check_issuer(&issuer.der(), trust_domain).map_err(|rejected| {
                refused.replace(Some(rejected));
                Error::UnknownIssuer
            })
        })
    };
    let algorithms = provider().signature_verification_algorithms;
    leaf.verify_for_usage(algorithms.all, bundle.anchors(), intermediates, now, usage, None, Some(&issuers_may_issue))
        .map(drop)
        .map_err(|error| refused.take().unwrap_or_else(|| name(error)))
}

/// webpki ignores keyUsage on purpose, and knows nothing of SPIFFE.
fn check_issuer(issuer: &CertificateDer<'_>, trust_domain: &TrustDomain) -> Result<(), Rejected> {
    let parsed = leaf::parse(issuer)?;
    // X509-SVID 4.3: "Signing certificates MUST set keyCertSign".
    let usage = parsed.key_usage().map_err(|error| Rejected::Unparsable(error.to_string()))?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(Rejected::IssuerKeyUsage);
    }
    // X509-SVID 3.2: a signing certificate's SPIFFE ID has no path.
    let own = |uri: &&str| uri.strip_prefix("spiffe://") == Some(trust_domain.as_str());
    if !leaf::uri_names(&parsed)?.iter().all(own) {
        return Err(Rejected::IssuerSpiffeId);
    }
    Ok(())
}

fn name(error: Error) -> Rejected {
    match error {
        Error::CertExpired { .. } => Rejected::Expired,
        Error::CertNotValidYet { .. } => Rejected::NotYetValid,
        Error::UnknownIssuer => Rejected::UnknownIssuer,
        Error::CaUsedAsEndEntity => Rejected::CertificateAuthority,
        other => Rejected::Path(other.to_string()),
    }
}
