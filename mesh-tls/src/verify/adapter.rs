//! [`verify_peer`] behind rustls' two traits.
//!
//! rustls calls these "dangerous" because a verifier of one's own can accept anything; it is the only way to
//! authenticate a URI name. The names of servers play no part: a mesh connection is to an identity.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::verify_tls13_signature,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{PeerRole, Rejected, verify_peer};
use crate::{ExpectedPeer, TrustBundles, config::provider};

/// What a client holds: the server must be one of those expected, before a byte of the request leaves.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    bundles: TrustBundles,
    expected: ExpectedPeer,
}

impl ServerVerifier {
    pub(crate) fn new(bundles: TrustBundles, expected: ExpectedPeer) -> Self {
        Self { bundles, expected }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let peer =
            verify_peer(&chain(end_entity, intermediates), PeerRole::Server, now, &self.bundles).map_err(refuse)?;
        if !self.expected.accepts(peer.id()) {
            return Err(refuse(Rejected::UnexpectedIdentity(peer.id().clone())));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What a server holds: every client proves an identity; which of them may do what is authorization.
#[derive(Debug)]
pub(crate) struct ClientsVerifier {
    bundles: TrustBundles,
}

impl ClientsVerifier {
    pub(crate) fn new(bundles: TrustBundles) -> Self {
        Self { bundles }
    }
}

impl ClientCertVerifier for ClientsVerifier {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    /// None: a client in the mesh has one certificate and sends it; our list of roots is nobody's business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        verify_peer(&chain(end_entity, intermediates), PeerRole::Client, now, &self.bundles)
            .map(|_| ClientCertVerified::assertion())
            .map_err(refuse)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn chain<'a>(end_entity: &'a CertificateDer<'_>, intermediates: &'a [CertificateDer<'_>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(end_entity).chain(intermediates).map(|der| CertificateDer::from(der.as_ref())).collect()
}

fn refuse(rejected: Rejected) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(rejected))))
}

fn no_tls12() -> Error {
    Error::General("mesh identity is TLS 1.3 only".to_owned())
}

/// The rule of ours by which a handshake failed, where it was one.
pub(crate) fn rejection(error: &io::Error) -> Option<Rejected> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => why.downcast_ref().cloned(),
        Error::NoCertificatesPresented => Some(Rejected::NoCertificate),
        _ => None,
    }
}
