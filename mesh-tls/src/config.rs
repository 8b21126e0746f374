//! rustls configurations for mesh identity, in one place because what they leave out matters.
//!
//! - TLS 1.3 only, post-quantum key exchange first.
//! - No resumption, either way: rustls does not call the verifier on a resumed handshake, so a ticket would outlive
//!   the certificate, the bundle and the policy it was issued under.
//! - No early data: it can be replayed, and a client would send it before it knows the server.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{default_provider, kx_group},
    },
    server::NoServerSessionStorage,
    sign::SingleCertAndKey,
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::UnixTime;

use crate::{
    Alpn, ExpectedPeer, Identity,
    alpn::ISTIO,
    verify::{ClientsVerifier, ServerVerifier},
};

/// The cryptography of mesh identity.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        Arc::new(provider)
    });
    &PROVIDER
}

/// The wall clock, asked where the rest of the mesh asks.
#[derive(Debug)]
pub(crate) struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = mesh_core::clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

const TLS13_SUITES: &str = "the provider has TLS 1.3 suites and key exchange groups";

pub(crate) fn server_config(identity: &Identity) -> ServerConfig {
    let verifier = ClientsVerifier::new(identity.bundles().clone());
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider()), Arc::new(WallClock))
        .with_protocol_versions(&[&TLS13])
        .expect(TLS13_SUITES)
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity.certified_key()))));
    config.alpn_protocols = vec![Alpn::H2.wire(), Alpn::H1.wire()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

pub(crate) fn client_config(identity: &Identity, expected: &ExpectedPeer, protocol: Alpn) -> ClientConfig {
    let verifier = ServerVerifier::new(identity.bundles().clone(), expected.clone());
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider()), Arc::new(WallClock))
        .with_protocol_versions(&[&TLS13])
        .expect(TLS13_SUITES)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity.certified_key()))));
    config.alpn_protocols = vec![ISTIO.to_vec(), protocol.wire()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

#[cfg(test)]
mod tests {
    use rustls::server::danger::ClientCertVerifier;

    use super::*;
    use crate::forge::{Forger, REVIEWS};

    /// Each of these would do alone for today's rustls; together they do for tomorrow's.
    #[test]
    fn nothing_can_be_resumed_sent_early_or_left_out() {
        let forger = Forger::new();
        let leaf = forger.leaf(REVIEWS, |_| {});
        let key = leaf.key.serialize_der().try_into().unwrap();
        let identity = Identity::from_der(leaf.chain, key, forger.bundles()).unwrap();
        let server = server_config(&identity);
        assert_eq!((server.send_tls13_tickets, server.max_tls13_tickets, server.max_early_data_size), (0, 0, 0));
        assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
        let client = client_config(&identity, &ExpectedPeer::one_of([]), Alpn::H2);
        assert!(!client.enable_early_data);
        assert!(ClientsVerifier::new(forger.bundles()).client_auth_mandatory());
    }
}
