use mesh_core::identity::{InvalidSpiffeId, SpiffeId, TrustDomain};

/// Why a peer's certificate was refused. Each variant is one rule; S-numbers are those of the X509-SVID standard's
/// sections named beside them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// No certificate was presented.
    #[error("no certificate")]
    NoCertificate,
    /// DER that one of the two parsers refuses, or bytes after it.
    #[error("the certificate does not parse: {0}")]
    Unparsable(String),
    /// The two parsers read different URI names.
    #[error("two parsers read the certificate's URI names differently")]
    AmbiguousUriSan,
    /// X509-SVID 2: an SVID has a URI SAN.
    #[error("no URI name in the certificate, exactly one is required")]
    NoUriSan,
    /// X509-SVID 2: "more than one URI SAN" is rejected.
    #[error("{0} URI names in the certificate, exactly one is required")]
    ManyUriSans(usize),
    /// SPIFFE-ID 2: the URI is not a workload's SPIFFE ID.
    #[error("the certificate's URI name is not a workload's SPIFFE ID: {0}")]
    SpiffeId(#[from] InvalidSpiffeId),
    /// X509-SVID 4.1: a leaf says that it is no authority.
    #[error("no basicConstraints in the leaf")]
    NoBasicConstraints,
    /// X509-SVID 4.1: cA is false in a leaf.
    #[error("the leaf is a certificate authority")]
    CertificateAuthority,
    /// X509-SVID 4.3: key usage is given.
    #[error("no keyUsage in the leaf")]
    NoKeyUsage,
    /// X509-SVID 5.2: a leaf has neither keyCertSign nor cRLSign.
    #[error("the leaf's keyUsage lets it sign certificates or revocation lists")]
    SigningKeyUsage,
    /// X509-SVID 4.3: digitalSignature is set.
    #[error("the leaf's keyUsage lacks digitalSignature")]
    NoDigitalSignature,
    /// X509-SVID 4.4: extended key usage, where given, has serverAuth and clientAuth.
    #[error("the leaf's extendedKeyUsage lacks serverAuth or clientAuth")]
    ExtendedKeyUsage,
    /// Nobody told us to trust this domain.
    #[error("no trust bundle for trust domain {0}")]
    UnknownTrustDomain(TrustDomain),
    /// Not yet valid, it or an issuer.
    #[error("the certificate or an issuer of it is not valid yet")]
    NotYetValid,
    /// No longer valid, it or an issuer.
    #[error("the certificate or an issuer of it has expired")]
    Expired,
    /// No path to a root of its trust domain.
    #[error("no root of its trust domain has issued the certificate")]
    UnknownIssuer,
    /// X509-SVID 4.3: an issuer's keyUsage has keyCertSign.
    #[error("an issuer's keyUsage lacks keyCertSign")]
    IssuerKeyUsage,
    /// X509-SVID 3.2: an issuer's SPIFFE ID, where it has one, is the trust domain's own and has no path.
    #[error("an issuer has a URI name that is not its trust domain's")]
    IssuerSpiffeId,
    /// Any other rule of RFC 5280 path validation.
    #[error("no valid path to a root of its trust domain: {0}")]
    Path(String),
    /// A valid identity, of somebody else.
    #[error("the peer is {0}, which is not whom this connection is for")]
    UnexpectedIdentity(SpiffeId),
}
