//! Real handshakes, over pipes in memory.

use std::{sync::Arc, time::Duration};

use mesh_core::identity::TrustDomain;
use rustls::{
    ClientConfig, HandshakeKind, ServerConfig,
    client::Resumption,
    crypto::aws_lc_rs::default_provider,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    AcceptError, Accepted, Acceptor, Alpn, DevCa, ExpectedPeer, Identity, IdentityHandle, MeshTls, PeerAuthMode,
    Rejected, TlsClientStream, TlsError, TrustBundles,
    config::provider,
    danger,
    forge::{Forged, Forger, PRODUCTPAGE, REVIEWS, expire, forgeries},
    verify::ServerVerifier,
};

pub(crate) const SNI: &str = "outbound_.9080_._.reviews.default.svc.cluster.local";

pub(crate) fn handle(ca: &DevCa, id: &str) -> IdentityHandle {
    IdentityHandle::new(ca.issue(&id.parse().unwrap(), DevCa::LIFETIME).unwrap())
}

pub(crate) fn dev_ca() -> DevCa {
    DevCa::ephemeral(TrustDomain::cluster_local()).unwrap()
}

pub(crate) fn reviews() -> ExpectedPeer {
    ExpectedPeer::exactly(REVIEWS.parse().unwrap())
}

type Outcome = (Result<TlsClientStream<DuplexStream>, TlsError>, Result<Accepted<DuplexStream>, AcceptError>);

async fn meet(
    client: &MeshTls,
    expected: &ExpectedPeer,
    protocol: Alpn,
    server: &Acceptor,
    mode: PeerAuthMode,
) -> Outcome {
    let (near, far) = duplex(64 * 1024);
    // As servers do it: both futures can be spawned.
    fn spawnable<F: Future + Send>(future: F) -> F {
        future
    }
    tokio::join!(spawnable(client.connect(near, SNI, expected, protocol)), spawnable(server.accept(far, mode)))
}

/// A client of rustls' own making, which accepts any server in the mesh.
fn raw_client(bundles: TrustBundles, forged: Option<&Forged>) -> ClientConfig {
    let any = danger::any_in_trust_domain(TrustDomain::cluster_local());
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(bundles, any)));
    match forged {
        Some(forged) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(forged.certified_key()))),
        None => builder.with_no_client_auth(),
    }
}

async fn meet_raw(
    client: Arc<ClientConfig>,
    server: &Acceptor,
    mode: PeerAuthMode,
) -> Result<Accepted<DuplexStream>, AcceptError> {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from("reviews").unwrap();
    let (_, accepted) = tokio::join!(TlsConnector::from(client).connect(name, near), server.accept(far, mode));
    accepted
}

#[tokio::test]
async fn both_ends_prove_who_they_are() {
    let ca = dev_ca();
    let client = MeshTls::new(handle(&ca, PRODUCTPAGE));
    let server = Acceptor::new(handle(&ca, REVIEWS));
    for (protocol, mode) in [(Alpn::H1, PeerAuthMode::Strict), (Alpn::H2, PeerAuthMode::Permissive)] {
        let (connected, accepted) = meet(&client, &reviews(), protocol, &server, mode).await;
        let mut connected = connected.unwrap();
        let Accepted::Mtls { mut stream, peer, protocol: agreed, .. } = accepted.unwrap() else { panic!("plaintext") };
        assert_eq!((connected.peer.id().as_str(), peer.id().as_str()), (REVIEWS, PRODUCTPAGE));
        assert_eq!((agreed, connected.generation), (Some(protocol), 1));
        assert_eq!(stream.get_ref().1.server_name(), Some(SNI));
        let tls = connected.stream.get_ref().1;
        assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(tls.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
        connected.stream.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
    }
}

#[tokio::test]
async fn another_authority_is_refused_by_both_ends() {
    let (ours, theirs) = (dev_ca(), dev_ca());
    let foreign_server = Acceptor::new(handle(&theirs, REVIEWS));
    let client = MeshTls::new(handle(&ours, PRODUCTPAGE));
    let (connected, accepted) = meet(&client, &reviews(), Alpn::H2, &foreign_server, PeerAuthMode::Strict).await;
    assert!(matches!(connected, Err(TlsError::Peer(Rejected::UnknownIssuer))), "{connected:?}");
    assert!(accepted.is_err());

    // A client that trusts the server but was issued elsewhere. PERMISSIVE is no way around it.
    let forged = Forger::new().leaf(PRODUCTPAGE, |_| {});
    let server = Acceptor::new(handle(&ours, REVIEWS));
    for mode in [PeerAuthMode::Strict, PeerAuthMode::Permissive] {
        let client = Arc::new(raw_client(ours.bundles().clone(), Some(&forged)));
        let accepted = meet_raw(client, &server, mode).await;
        assert!(matches!(accepted, Err(AcceptError::Peer(Rejected::UnknownIssuer))), "{accepted:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_somebody_else_is_refused() {
    let ca = dev_ca();
    let client = MeshTls::new(handle(&ca, PRODUCTPAGE));
    let server = Acceptor::new(handle(&ca, "spiffe://cluster.local/ns/default/sa/ratings"));
    let (connected, accepted) = meet(&client, &reviews(), Alpn::H2, &server, PeerAuthMode::Strict).await;
    let Err(TlsError::Peer(Rejected::UnexpectedIdentity(found))) = connected else { panic!("{connected:?}") };
    assert_eq!(found.service_account(), Some("ratings"));
    assert!(accepted.is_err(), "nothing was sent that the server could take for a connection");

    let nobody = ExpectedPeer::one_of([]);
    let (connected, _) = meet(&client, &nobody, Alpn::H2, &server, PeerAuthMode::Strict).await;
    assert!(matches!(connected, Err(TlsError::NobodyExpected)));
    let any = danger::any_in_trust_domain(TrustDomain::cluster_local());
    assert!(meet(&client, &any, Alpn::H2, &server, PeerAuthMode::Strict).await.0.is_ok());
    let other = danger::any_in_trust_domain("other".parse().unwrap());
    assert!(meet(&client, &other, Alpn::H2, &server, PeerAuthMode::Strict).await.0.is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = dev_ca();
    let server = Acceptor::new(handle(&ca, REVIEWS));
    for mode in [PeerAuthMode::Strict, PeerAuthMode::Permissive] {
        let client = Arc::new(raw_client(ca.bundles().clone(), None));
        let accepted = meet_raw(client, &server, mode).await;
        assert!(matches!(accepted, Err(AcceptError::Peer(Rejected::NoCertificate))), "{accepted:?}");
    }
}

/// The table of `verify::tests`, through rustls.
#[tokio::test]
async fn forged_clients_and_servers_are_refused_by_their_rule() {
    let ca = Forger::new();
    let good = ca.leaf(REVIEWS, |_| {});
    let identity =
        || Identity::from_der(good.chain.clone(), good.key.serialize_der().try_into().unwrap(), ca.bundles()).unwrap();
    let server = Acceptor::new(IdentityHandle::new(identity()));
    let client = MeshTls::new(IdentityHandle::new(identity()));
    for (index, (forged, rule)) in forgeries(&ca).into_iter().enumerate() {
        let raw = Arc::new(raw_client(ca.bundles(), Some(&forged)));
        match meet_raw(raw, &server, PeerAuthMode::Strict).await {
            Err(AcceptError::Peer(refused)) => assert_eq!(refused, rule, "client {index}"),
            other => panic!("client {index}: {other:?}"),
        }

        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(forged.certified_key())));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (near, far) = duplex(64 * 1024);
        let expected = reviews();
        let shaking = client.connect(near, SNI, &expected, Alpn::H2);
        let (connected, _) = tokio::join!(shaking, TlsAcceptor::from(Arc::new(config)).accept(far));
        match connected {
            Err(TlsError::Peer(refused)) => assert_eq!(refused, rule, "server {index}"),
            other => panic!("server {index}: {other:?}"),
        }
    }
}

/// A resumed handshake does not ask the verifier (CVE-2022-21654). The client here wants to resume, and cannot.
#[tokio::test]
async fn no_session_is_ever_resumed() {
    let ca = Forger::new();
    let leaf = ca.leaf(REVIEWS, |_| {});
    let key = leaf.key.serialize_der().try_into().unwrap();
    let identity = Identity::from_der(leaf.chain.clone(), key, ca.bundles()).unwrap();
    let server = Acceptor::new(IdentityHandle::new(identity.clone()));
    let mut eager = raw_client(ca.bundles(), Some(&leaf));
    eager.resumption = Resumption::in_memory_sessions(16);
    let eager = Arc::new(eager);
    for _ in 0..2 {
        let (near, far) = duplex(64 * 1024);
        let name = ServerName::try_from("reviews").unwrap();
        let client = async {
            let mut stream = TlsConnector::from(Arc::clone(&eager)).connect(name, near).await.unwrap();
            // Tickets, if there were any, come with the first bytes.
            stream.read_u8().await.unwrap();
            assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
            stream.get_ref().1.handshake_kind()
        };
        let serving = async {
            let Ok(Accepted::Mtls { mut stream, .. }) = server.accept(far, PeerAuthMode::Strict).await else {
                panic!()
            };
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
            stream.get_ref().1.handshake_kind()
        };
        assert_eq!(tokio::join!(client, serving), (Some(HandshakeKind::Full), Some(HandshakeKind::Full)));
    }

    // Our client, towards a server that hands out tickets.
    let client = MeshTls::new(IdentityHandle::new(identity));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf.certified_key())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let generous = TlsAcceptor::from(Arc::new(config));
    for _ in 0..2 {
        let (near, far) = duplex(64 * 1024);
        let expected = reviews();
        let connecting = async {
            let mut connected = client.connect(near, SNI, &expected, Alpn::H2).await.unwrap();
            connected.stream.read_u8().await.unwrap();
            connected.stream.get_ref().1.handshake_kind()
        };
        let serving = async {
            let mut stream = generous.accept(far).await.unwrap();
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
            stream.get_ref().1.handshake_kind()
        };
        assert_eq!(tokio::join!(connecting, serving), (Some(HandshakeKind::Full), Some(HandshakeKind::Full)));
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let ca = dev_ca();
    let server = Acceptor::new(handle(&ca, REVIEWS));
    let any = danger::any_in_trust_domain(TrustDomain::cluster_local());
    let old = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(ca.bundles().clone(), any)))
        .with_no_client_auth();
    let accepted = meet_raw(Arc::new(old), &server, PeerAuthMode::Permissive).await;
    assert!(matches!(accepted, Err(AcceptError::Handshake(_))), "{accepted:?}");
}

/// An expired identity proves nothing, and must not be offered to those who do not check.
#[tokio::test]
async fn our_own_expired_identity_refuses_handshakes() {
    let forger = Forger::new();
    let leaf = forger.leaf(REVIEWS, expire);
    let key = leaf.key.serialize_der().try_into().unwrap();
    let expired = IdentityHandle::new(Identity::from_der(leaf.chain, key, forger.bundles()).unwrap());
    let client = MeshTls::new(expired.clone());
    let server = Acceptor::new(expired);
    let (connected, _) = meet(&client, &reviews(), Alpn::H2, &server, PeerAuthMode::Strict).await;
    assert!(matches!(connected, Err(TlsError::OwnIdentityExpired)));
    let raw = Arc::new(raw_client(forger.bundles(), None));
    let accepted = meet_raw(raw, &server, PeerAuthMode::Permissive).await;
    assert!(matches!(accepted, Err(AcceptError::OwnIdentityExpired)));
}

#[tokio::test]
async fn a_new_identity_is_used_from_the_next_handshake_on() {
    let ca = dev_ca();
    let mine = handle(&ca, PRODUCTPAGE);
    let client = MeshTls::new(mine.clone());
    let server = Acceptor::new(handle(&ca, REVIEWS));
    let mut changes = mine.subscribe();
    let next = "spiffe://cluster.local/ns/default/sa/next";
    assert_eq!(mine.replace(ca.issue(&next.parse().unwrap(), DevCa::LIFETIME).unwrap()), 2);
    assert_eq!(changes.changed().await, Some(2));
    let (connected, accepted) = meet(&client, &reviews(), Alpn::H1, &server, PeerAuthMode::Strict).await;
    assert_eq!(connected.unwrap().generation, 2);
    let Accepted::Mtls { peer, .. } = accepted.unwrap() else { panic!("plaintext") };
    assert_eq!(peer.id().as_str(), next);
    drop((mine, client));
    assert_eq!(changes.changed().await, None);
}

/// A sidecar may answer `istio`; any other protocol than the configured one, or none, is an error.
#[tokio::test]
async fn the_protocol_is_the_configured_one() {
    let ca = Forger::new();
    let leaf = ca.leaf(REVIEWS, |_| {});
    let key = leaf.key.serialize_der().try_into().unwrap();
    let identity = Identity::from_der(leaf.chain.clone(), key, ca.bundles()).unwrap();
    let client = MeshTls::new(IdentityHandle::new(identity));
    for (server, accepted) in [(&["istio"][..], true), (&["h2"], true), (&["http/1.1"], false), (&[], false)] {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf.certified_key())));
        config.alpn_protocols = server.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (near, far) = duplex(64 * 1024);
        let expected = reviews();
        let connecting = client.connect(near, SNI, &expected, Alpn::H2);
        let (connected, _) = tokio::join!(connecting, TlsAcceptor::from(Arc::new(config)).accept(far));
        assert_eq!(connected.is_ok(), accepted, "{server:?}: {connected:?}");
    }
}

#[tokio::test]
async fn a_configuration_is_built_once_per_destination() {
    let ca = dev_ca();
    let client = MeshTls::new(handle(&ca, PRODUCTPAGE));
    let first = client.client_config(&reviews(), Alpn::H2);
    assert!(Arc::ptr_eq(&first, &client.client_config(&reviews(), Alpn::H2)));
    assert!(!Arc::ptr_eq(&first, &client.client_config(&reviews(), Alpn::H1)));
    client.identity().replace(ca.issue(&PRODUCTPAGE.parse().unwrap(), Duration::from_secs(3600)).unwrap());
    assert!(!Arc::ptr_eq(&first, &client.client_config(&reviews(), Alpn::H2)), "a new generation, a new configuration");
}
