//! Does a server outside the mesh prove one of these names?

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::EgressError;

/// A name of `subjectAltNames`. Its form says the type of name that must stand in the certificate: text of one type
/// in a name of another proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Provable {
    Server(ServerName<'static>),
    Uri(Arc<str>),
}

impl Provable {
    pub(super) fn parse(name: &Arc<str>) -> Result<Self, EgressError> {
        if name.contains("://") {
            return Ok(Self::Uri(Arc::clone(name)));
        }
        let server = ServerName::try_from(&**name).map_err(|_| EgressError::Name(Arc::clone(name)))?;
        Ok(Self::Server(server.to_owned()))
    }
}

/// Validates the chain, whole and first, and then the name. Two steps on purpose: "wrong name" as the error of one
/// combined check does not say that the chain was fine.
#[derive(Debug)]
pub(super) struct NamesVerifier {
    roots: Arc<RootCertStore>,
    names: Vec<Provable>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NamesVerifier {
    /// `names` empty: the connection's server name is the one to prove.
    pub(super) fn new(roots: Arc<RootCertStore>, names: Vec<Provable>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { roots, names, algorithms }
    }

    fn check_names(&self, end_entity: &CertificateDer<'_>, server_name: &ServerName<'_>) -> Result<(), Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if self.names.is_empty() {
            return verify_server_name(&certificate, server_name);
        }
        let proved = |name: &Provable| match name {
            Provable::Server(name) => verify_server_name(&certificate, name).is_ok(),
            Provable::Uri(uri) => webpki::EndEntityCert::try_from(end_entity)
                .is_ok_and(|certificate| certificate.valid_uri_names().any(|found| *found == **uri)),
        };
        // istio ClientTLSSettings.subjectAltNames: "A list of alternate names to verify the subject identity in the
        // certificate"; any one will do.
        self.names.iter().any(proved).then_some(()).ok_or(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}

impl ServerCertVerifier for NamesVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        self.check_names(end_entity, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
