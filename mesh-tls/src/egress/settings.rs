//! A DestinationRule's settings as a rustls configuration.

use std::sync::Arc;

use mesh_core::{ClientTlsMode, ClientTlsSettings};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use super::{
    EgressError,
    roots::read,
    verifier::{NamesVerifier, Provable},
};
use crate::{Alpn, config::WallClock};

/// istio networking/v1alpha3 ClientTLSSettings.sni: "SNI string to present to the server during TLS handshake"; where
/// empty, the request's host.
pub(super) fn server_name(settings: &ClientTlsSettings, host: &str) -> Result<ServerName<'static>, EgressError> {
    let name = settings.sni.as_deref().filter(|sni| !sni.is_empty()).unwrap_or(host);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(bare).map(|name| name.to_owned()).map_err(|_| EgressError::Name(name.into()))
}

pub(super) async fn client_config(
    settings: &ClientTlsSettings,
    roots: Arc<RootCertStore>,
    protocol: Alpn,
) -> Result<ClientConfig, EgressError> {
    let provider = Arc::new(default_provider());
    let client_key = match settings.mode {
        ClientTlsMode::Simple => None,
        ClientTlsMode::Mutual => Some(client_key(settings, &provider).await?),
        other => return Err(EgressError::Mode(other)),
    };
    let names = settings.subject_alt_names.iter().map(Provable::parse).collect::<Result<_, _>>()?;
    let verifier = NamesVerifier::new(roots, names, provider.signature_verification_algorithms);
    let builder = ClientConfig::builder_with_details(provider, Arc::new(WallClock))
        // istio ClientTLSSettings: TLS 1.2 to 1.3.
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the default provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match client_key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.wire()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

async fn client_key(settings: &ClientTlsSettings, provider: &CryptoProvider) -> Result<CertifiedKey, EgressError> {
    let certificate = settings.client_certificate.as_ref().ok_or(EgressError::NoClientCertificate)?;
    let key = settings.private_key.as_ref().ok_or(EgressError::NoPrivateKey)?;
    let unusable = |path: &std::path::Path, why: String| EgressError::File { path: path.to_owned(), why };
    let chain = CertificateDer::pem_slice_iter(&read(certificate).await?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(certificate, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key).await?).map_err(|error| unusable(key, error.to_string()))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| unusable(certificate, error.to_string()))
}
