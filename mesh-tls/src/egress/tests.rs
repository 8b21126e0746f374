use std::sync::Arc;

use mesh_core::{ClientTlsMode, ClientTlsSettings};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    server::WebPkiClientVerifier,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use tokio::io::duplex;
use tokio_rustls::TlsAcceptor;

use super::{EgressError, EgressTls};
use crate::{
    Alpn,
    forge::{Forged, Forger, REVIEWS, TestDir, uri},
};

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn server_leaf(ca: &Forger, names: &[SanType]) -> Forged {
    ca.leaf(REVIEWS, |params: &mut CertificateParams| {
        params.subject_alt_names = names.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    })
}

fn server(leaf: &Forged, version: &'static SupportedProtocolVersion, clients: Option<&Forger>) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]).unwrap();
    let builder = match clients {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.root.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf.certified_key())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What the client says, and the server name and protocol that the server saw.
async fn visit(
    egress: &EgressTls,
    settings: &ClientTlsSettings,
    host: &str,
    protocol: Alpn,
    server: Arc<ServerConfig>,
) -> (Result<(), EgressError>, Option<(Option<String>, Vec<u8>)>) {
    let (near, far) = duplex(64 * 1024);
    let (connected, accepted) =
        tokio::join!(egress.connect(near, settings, host, protocol), TlsAcceptor::from(server).accept(far));
    let seen = accepted.ok().map(|stream| {
        let tls = stream.get_ref().1;
        (tls.server_name().map(str::to_owned), tls.alpn_protocol().unwrap_or_default().to_vec())
    });
    (connected.map(|stream| assert_eq!(stream.protocol, protocol)), seen)
}

fn simple() -> ClientTlsSettings {
    ClientTlsSettings { mode: ClientTlsMode::Simple, ..ClientTlsSettings::default() }
}

/// istio networking/v1alpha3 ClientTLSSettings: sni, subjectAltNames.
/// istio.md 1.4: "sni empty => SNI = Host header (auto_sni) for SIMPLE/MUTUAL and SAN validated against it when no SANs; SANs exact"
#[tokio::test]
async fn the_server_proves_one_of_the_names() {
    let ca = Forger::new();
    let egress = EgressTls::with_roots(ca.root_pem.as_bytes()).unwrap();
    let leaf = server_leaf(&ca, &[dns("www.example.com"), dns("*.wild.example.com"), uri(REVIEWS)]);
    for version in [&TLS12, &TLS13] {
        for (host, sni, sans, accepted) in [
            ("www.example.com", None, &[][..], true),
            ("other.example.com", None, &[], false),
            ("other.example.com", Some("www.example.com"), &[], true),
            ("www.example.com", Some("other.example.com"), &[], false),
            ("other.example.com", None, &["nobody.example.com", "www.example.com"], true),
            ("www.example.com", None, &["nobody.example.com"], false),
            ("a.wild.example.com", None, &[], true),
            // CVE-2020-15104: a wildcard stands for one label.
            ("a.b.wild.example.com", None, &[], false),
            ("10.0.0.1", None, &["www.example.com"], true),
            ("10.0.0.1", None, &[], false),
            ("other.example.com", None, &[REVIEWS], true),
            // CVE-2022-21656: a URI proves no DNS name, nor the other way round.
            ("other.example.com", None, &["spiffe://www.example.com"], false),
        ] {
            let settings = ClientTlsSettings {
                sni: sni.map(Arc::from),
                subject_alt_names: sans.iter().copied().map(Arc::from).collect(),
                ..simple()
            };
            let (outcome, seen) = visit(&egress, &settings, host, Alpn::H2, server(&leaf, version, None)).await;
            assert_eq!(outcome.is_ok(), accepted, "{host} {sni:?} {sans:?}: {outcome:?}");
            if let (Ok(()), Some((name, protocol))) = (outcome, seen) {
                let sent = (host != "10.0.0.1").then(|| sni.unwrap_or(host).to_owned());
                assert_eq!((name, protocol), (sent, b"h2".to_vec()));
            }
        }
    }
}

/// istio.md 1.4: "CA empty => OS roots"
#[tokio::test]
async fn the_chain_ends_in_the_rules_file_or_the_given_roots() {
    let (ca, other) = (Forger::new(), Forger::named("other"));
    let leaf = server_leaf(&ca, &[dns("www.example.com")]);
    let dir = TestDir::new();
    let file = dir.path().join("ca.pem");
    let egress = EgressTls::with_roots(other.root_pem.as_bytes()).unwrap();
    let settings = ClientTlsSettings { ca_certificates: Some(file.clone()), ..simple() };
    let go = |settings: ClientTlsSettings| {
        let (egress, config) = (egress.clone(), server(&leaf, &TLS13, None));
        async move { visit(&egress, &settings, "www.example.com", Alpn::H1, config).await.0 }
    };
    assert!(matches!(go(simple()).await, Err(EgressError::Handshake(_))));
    assert!(matches!(go(settings.clone()).await, Err(EgressError::File { .. })), "no such file");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(go(settings.clone()).await, Err(EgressError::File { .. })), "no certificate");
    std::fs::write(&file, &ca.root_pem).unwrap();
    go(settings).await.unwrap();
    assert!(matches!(EgressTls::with_roots(b""), Err(EgressError::Roots(_))));
}

/// istio validation: "client certificate required for mutual tls", "private key required for mutual tls".
/// istio.md 1.4: "MUTUAL (clientCertificate+privateKey+caCertificates files)"
#[tokio::test]
async fn mutual_presents_the_rules_certificate() {
    let ca = Forger::new();
    let leaf = server_leaf(&ca, &[dns("www.example.com")]);
    let egress = EgressTls::with_roots(ca.root_pem.as_bytes()).unwrap();
    let mine = ca.leaf(REVIEWS, |_| {});
    let dir = TestDir::new();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, mine.chain_pem()).unwrap();
    std::fs::write(&key, mine.key.serialize_pem()).unwrap();
    let mutual = ClientTlsSettings {
        mode: ClientTlsMode::Mutual,
        client_certificate: Some(certificate),
        private_key: Some(key.clone()),
        ..simple()
    };
    let host = "www.example.com";
    for version in [&TLS12, &TLS13] {
        let (outcome, seen) = visit(&egress, &mutual, host, Alpn::H1, server(&leaf, version, Some(&ca))).await;
        outcome.unwrap();
        assert_eq!(seen.unwrap().1, b"http/1.1");
        let (_, seen) = visit(&egress, &simple(), host, Alpn::H1, server(&leaf, version, Some(&ca))).await;
        assert_eq!(seen, None, "SIMPLE presents none");
    }
    let refused = |settings: ClientTlsSettings| {
        let (egress, config) = (egress.clone(), server(&leaf, &TLS13, None));
        async move { visit(&egress, &settings, host, Alpn::H1, config).await.0.unwrap_err() }
    };
    let none = ClientTlsSettings { client_certificate: None, ..mutual.clone() };
    assert!(matches!(refused(none).await, EgressError::NoClientCertificate));
    let none = ClientTlsSettings { private_key: None, ..mutual.clone() };
    assert!(matches!(refused(none).await, EgressError::NoPrivateKey));
    std::fs::write(&key, ca.leaf(REVIEWS, |_| {}).key.serialize_pem()).unwrap();
    assert!(matches!(refused(mutual).await, EgressError::File { .. }), "another certificate's key");
}

#[tokio::test]
async fn other_modes_and_impossible_names_are_errors() {
    let egress = EgressTls::with_roots(Forger::new().root_pem.as_bytes()).unwrap();
    for mode in [ClientTlsMode::Disable, ClientTlsMode::IstioMutual] {
        let settings = ClientTlsSettings { mode, ..simple() };
        let outcome = egress.connect(duplex(64).0, &settings, "example.com", Alpn::H1).await;
        assert!(matches!(outcome, Err(EgressError::Mode(found)) if found == mode));
    }
    let settings = ClientTlsSettings { subject_alt_names: vec!["a b".into()], ..simple() };
    let outcome = egress.connect(duplex(64).0, &settings, "example.com", Alpn::H1).await;
    assert!(matches!(outcome, Err(EgressError::Name(name)) if *name == *"a b"));
    let outcome = egress.connect(duplex(64).0, &simple(), "a b", Alpn::H1).await;
    assert!(matches!(outcome, Err(EgressError::Name(_))));
}
