//! Test fixtures: certificates that no authority should issue.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use mesh_core::identity::{InvalidSpiffeId, PeerIdentity, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Rejected, TrustBundle, TrustBundles, config::provider};

pub(crate) const PRODUCTPAGE: &str = "spiffe://cluster.local/ns/default/sa/productpage";
pub(crate) const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/reviews";

/// An identity as a verifier would hand it out.
pub(crate) fn peer(id: &str) -> PeerIdentity {
    PeerIdentity::new(id.parse().unwrap(), mesh_core::clock::wall(), Arc::from([]))
}

/// A directory that goes away with the test.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mesh-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority that signs anything.
pub(crate) struct Forger {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root: CertificateDer<'static>,
    pub(crate) root_pem: String,
}

/// A chain and its key.
pub(crate) struct Forged {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Forged {
    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }

    pub(crate) fn certified_key(&self) -> CertifiedKey {
        let key = self.key.serialize_der().try_into().unwrap();
        CertifiedKey::new(self.chain.clone(), provider().key_provider.load_private_key(key).unwrap())
    }
}

impl Forger {
    pub(crate) fn new() -> Self {
        Self::named("forger")
    }

    pub(crate) fn named(subject: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(subject);
        let root = params.self_signed(&key).unwrap();
        Self { root: root.der().clone(), root_pem: root.pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_der(vec![self.root.clone()]).unwrap()
    }

    /// Trust in this authority for `cluster.local`.
    pub(crate) fn bundles(&self) -> TrustBundles {
        TrustBundles::single(TrustDomain::cluster_local(), self.bundle())
    }

    /// A leaf as it should be, but for `change`.
    pub(crate) fn leaf(&self, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> Forged {
        let mut params = leaf_params(uri);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Forged { chain: vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()], key }
    }

    /// A good leaf below an intermediate that is good but for `change`.
    pub(crate) fn leaf_below(&self, change: impl FnOnce(&mut CertificateParams)) -> Forged {
        let mut params = ca_params("intermediate");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let below =
            Self { root: certificate.der().clone(), root_pem: certificate.pem(), issuer: Issuer::new(params, key) };
        let mut forged = below.leaf(REVIEWS, |_| {});
        forged.chain.push(below.root);
        forged
    }
}

fn ca_params(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn hours_ago(hours: u64) -> SystemTime {
    mesh_core::clock::wall() - Duration::from_secs(hours * 3600)
}

pub(crate) fn expire(params: &mut CertificateParams) {
    params.not_before = hours_ago(2).into();
    params.not_after = hours_ago(1).into();
}

/// A second URI that is no text: webpki leaves it out of its list, x509-parser does not.
fn two_names_of_which_parsers_skip_one(params: &mut CertificateParams) {
    let mut names = vec![0x86, u8::try_from(REVIEWS.len()).unwrap()];
    names.extend_from_slice(REVIEWS.as_bytes());
    names.extend_from_slice(&[0x86, 0x01, 0xff]);
    let mut sequence = vec![0x30, u8::try_from(names.len()).unwrap()];
    sequence.append(&mut names);
    params.subject_alt_names = vec![];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], sequence)];
}

/// What must be refused, and the rule that refuses it: X509-SVID 2 to 5.2 and the history of getting it wrong
/// (CVE-2022-21656, CVE-2022-21657, CVE-2025-66220).
pub(crate) fn forgeries(ca: &Forger) -> Vec<(Forged, Rejected)> {
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign, KeyEncipherment};
    let with = |change: &dyn Fn(&mut CertificateParams)| ca.leaf(REVIEWS, change);
    let named = |name: &str| ca.leaf(name, |_| {});
    let usages = |usages: &[KeyUsagePurpose]| with(&|params| params.key_usages = usages.to_vec());
    let text = |san: fn(rcgen::string::Ia5String) -> SanType| {
        with(&|params| params.subject_alt_names = vec![san(REVIEWS.try_into().unwrap())])
    };
    vec![
        (with(&|params| params.subject_alt_names.push(uri(PRODUCTPAGE))), Rejected::ManyUriSans(2)),
        (with(&|params| params.subject_alt_names.push(uri(REVIEWS))), Rejected::ManyUriSans(2)),
        (with(&|params| params.subject_alt_names.insert(0, uri("https://reviews"))), Rejected::ManyUriSans(2)),
        (with(&|params| params.subject_alt_names = vec![]), Rejected::NoUriSan),
        (with(&two_names_of_which_parsers_skip_one), Rejected::AmbiguousUriSan),
        (text(SanType::Rfc822Name), Rejected::NoUriSan),
        (text(SanType::DnsName), Rejected::NoUriSan),
        (named("https://reviews"), InvalidSpiffeId::Scheme.into()),
        (named("spiffe://cluster.local"), InvalidSpiffeId::NoPath.into()),
        (named("spiffe://Cluster.local/ns/a/sa/b"), InvalidSpiffeId::TrustDomain.into()),
        (named("spiffe://cluster.local/ns/a/sa/b\0c"), InvalidSpiffeId::Path.into()),
        (named("spiffe://other/ns/default/sa/reviews"), Rejected::UnknownTrustDomain("other".parse().unwrap())),
        (with(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), Rejected::CertificateAuthority),
        (with(&|params| params.is_ca = IsCa::NoCa), Rejected::NoBasicConstraints),
        (usages(&[]), Rejected::NoKeyUsage),
        (usages(&[DigitalSignature, KeyCertSign]), Rejected::SigningKeyUsage),
        (usages(&[DigitalSignature, CrlSign]), Rejected::SigningKeyUsage),
        (usages(&[KeyEncipherment]), Rejected::NoDigitalSignature),
        (
            with(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            Rejected::ExtendedKeyUsage,
        ),
        (
            with(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            Rejected::ExtendedKeyUsage,
        ),
        (with(&expire), Rejected::Expired),
        (
            with(&|params| params.not_before = (mesh_core::clock::wall() + Duration::from_secs(3600)).into()),
            Rejected::NotYetValid,
        ),
        (Forger::named("another authority").leaf(REVIEWS, |_| {}), Rejected::UnknownIssuer),
        (ca.leaf_below(|params| params.key_usages.clear()), Rejected::IssuerKeyUsage),
        (ca.leaf_below(|params| params.key_usages = vec![CrlSign]), Rejected::IssuerKeyUsage),
        (ca.leaf_below(|params| params.subject_alt_names = vec![uri(REVIEWS)]), Rejected::IssuerSpiffeId),
        (ca.leaf_below(|params| params.subject_alt_names = vec![uri("spiffe://other")]), Rejected::IssuerSpiffeId),
        (ca.leaf_below(expire), Rejected::Expired),
    ]
}

/// A transport that reads and writes one byte at a time. (A pipe one byte wide would do for plaintext; rustls does not
/// read while it has handshake bytes to write, so there both ends would wait for each other.)
#[derive(Debug)]
pub(crate) struct ByteByByte<IO>(pub(crate) IO);

impl<IO: AsyncRead + Unpin> AsyncRead for ByteByByte<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ByteByByte<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit > chunk.len() { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
