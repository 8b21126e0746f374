//! What a leaf must look like, before any signature is checked.

use std::time::{Duration, SystemTime};

use mesh_core::identity::SpiffeId;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Rejected;

/// What we read from a leaf that has the right profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// Check the leaf profile: X509-SVID sections 2, 4 and 5.2.
pub(crate) fn inspect(der: &CertificateDer<'_>) -> Result<Leaf, Rejected> {
    let strict = EndEntityCert::try_from(der).map_err(|error| Rejected::Unparsable(error.to_string()))?;
    let parsed = parse(der)?;
    let id = only_uri(&strict, &parsed)?.parse()?;
    check_constraints(&parsed)?;
    check_key_usage(&parsed)?;
    check_extended_key_usage(&parsed)?;
    let validity = parsed.validity();
    Ok(Leaf { id, not_before: time(validity.not_before.timestamp()), not_after: time(validity.not_after.timestamp()) })
}

/// Parse with the second parser, and refuse what it does not read whole: an extension that it skips would be a rule
/// that we skip.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Rejected> {
    let unparsable = |why: String| Rejected::Unparsable(why);
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| unparsable(error.to_string()))?;
    if !rest.is_empty() {
        return Err(unparsable("bytes after the certificate".to_owned()));
    }
    if let Some(error) = parsed.extensions().iter().find_map(|extension| extension.parsed_extension().error()) {
        return Err(unparsable(error.to_string()));
    }
    Ok(parsed)
}

/// X509-SVID 2: "exactly one URI SAN". Names of other types may stand beside it and are never an identity.
fn only_uri<'a>(strict: &EndEntityCert<'a>, parsed: &X509Certificate<'a>) -> Result<&'a str, Rejected> {
    let mut ours = strict.valid_uri_names();
    let theirs = uri_names(parsed)?;
    if !theirs.iter().copied().eq(strict.valid_uri_names()) {
        return Err(Rejected::AmbiguousUriSan);
    }
    match (ours.next(), theirs.len()) {
        (None, _) => Err(Rejected::NoUriSan),
        (Some(uri), 1) => Ok(uri),
        (Some(_), many) => Err(Rejected::ManyUriSans(many)),
    }
}

/// The URI names of a certificate. One that is no string at all makes the certificate ambiguous: parsers differ in
/// whether they skip it.
pub(super) fn uri_names<'a>(parsed: &X509Certificate<'a>) -> Result<Vec<&'a str>, Rejected> {
    let names = parsed.subject_alternative_name().map_err(|error| Rejected::Unparsable(error.to_string()))?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|san| &san.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::Invalid(..) => return Err(Rejected::AmbiguousUriSan),
            _ => {}
        }
    }
    Ok(uris)
}

/// X509-SVID 4.1: "Leaf certificates MUST set the cA field to false". Given, so that no default decides.
fn check_constraints(parsed: &X509Certificate<'_>) -> Result<(), Rejected> {
    match parsed.basic_constraints().map_err(|error| Rejected::Unparsable(error.to_string()))? {
        None => Err(Rejected::NoBasicConstraints),
        Some(constraints) if constraints.value.ca => Err(Rejected::CertificateAuthority),
        Some(_) => Ok(()),
    }
}

/// X509-SVID 4.3 and 5.2: digitalSignature, and neither keyCertSign nor cRLSign.
fn check_key_usage(parsed: &X509Certificate<'_>) -> Result<(), Rejected> {
    let usage = parsed.key_usage().map_err(|error| Rejected::Unparsable(error.to_string()))?;
    let usage = usage.ok_or(Rejected::NoKeyUsage)?.value;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(Rejected::SigningKeyUsage);
    }
    if !usage.digital_signature() {
        return Err(Rejected::NoDigitalSignature);
    }
    Ok(())
}

/// X509-SVID 4.4: where given, it has id-kp-serverAuth and id-kp-clientAuth: an SVID serves both ends.
fn check_extended_key_usage(parsed: &X509Certificate<'_>) -> Result<(), Rejected> {
    match parsed.extended_key_usage().map_err(|error| Rejected::Unparsable(error.to_string()))? {
        Some(usage) if !(usage.value.server_auth && usage.value.client_auth) => Err(Rejected::ExtendedKeyUsage),
        _ => Ok(()),
    }
}

fn time(timestamp: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}
