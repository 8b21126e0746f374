use std::time::Duration;

use mesh_core::identity::TrustDomain;
use proptest::prelude::*;
use rcgen::SanType;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{PeerRole, Rejected, verify_peer};
use crate::{
    InvalidBundle, TrustBundle, TrustBundles,
    forge::{Forger, PRODUCTPAGE, REVIEWS, forgeries, uri},
};

const ROLES: [PeerRole; 2] = [PeerRole::Client, PeerRole::Server];

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(mesh_core::clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap())
}

/// X509-SVID 2 to 5.2: each refusal names its rule, in both roles.
#[test]
fn every_forgery_is_refused_by_its_rule() {
    let ca = Forger::new();
    for (index, (forged, rule)) in forgeries(&ca).into_iter().enumerate() {
        for role in ROLES {
            let outcome = verify_peer(&forged.chain, role, now(), &ca.bundles());
            assert_eq!(outcome.unwrap_err(), rule, "forgery {index} as {role:?}");
        }
    }
    assert_eq!(verify_peer(&[], PeerRole::Client, now(), &ca.bundles()).unwrap_err(), Rejected::NoCertificate);
}

/// RFC 5280 4.2: "A certificate MUST NOT include more than one instance of a particular extension."
#[test]
fn a_second_list_of_names_is_refused() {
    let ca = Forger::new();
    let forged = ca.leaf(REVIEWS, |params| {
        let names = vec![0x30, 0x03, 0x86, 0x01, b'x'];
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
    });
    let outcome = verify_peer(&forged.chain, PeerRole::Client, now(), &ca.bundles());
    assert!(matches!(outcome, Err(Rejected::Unparsable(_))), "{outcome:?}");
}

/// X509-SVID 2: names of other types may stand beside the URI. 4.4: extended key usage may be absent. 3.2: an issuer
/// may carry its trust domain's own ID.
#[test]
fn what_the_standard_allows_is_accepted() {
    let ca = Forger::new();
    for forged in [
        ca.leaf(REVIEWS, |_| {}),
        ca.leaf(REVIEWS, |params| params.subject_alt_names.push(SanType::DnsName("reviews".try_into().unwrap()))),
        ca.leaf(REVIEWS, |params| params.extended_key_usages.clear()),
        ca.leaf_below(|_| {}),
        ca.leaf_below(|params| params.subject_alt_names = vec![uri("spiffe://cluster.local")]),
    ] {
        for role in ROLES {
            let peer = verify_peer(&forged.chain, role, now(), &ca.bundles()).unwrap();
            assert_eq!(peer.id().as_str(), REVIEWS);
            assert_eq!(peer.chain().len(), forged.chain.len());
        }
    }
}

/// SPIFFE Federation 4.2: bundles are not merged, so one trusted domain cannot name the workloads of another.
#[test]
fn a_trusted_domain_cannot_forge_another() {
    let (ours, theirs) = (Forger::named("ours"), Forger::named("theirs"));
    let other: TrustDomain = "other".parse().unwrap();
    let bundles =
        TrustBundles::new([(TrustDomain::cluster_local(), ours.bundle()), (other.clone(), theirs.bundle())]).unwrap();
    let check = |ca: &Forger, name: &str| {
        verify_peer(&ca.leaf(name, |_| {}).chain, PeerRole::Client, now(), &bundles).map(|peer| peer.id().to_string())
    };
    let foreign = "spiffe://other/ns/default/sa/reviews";
    assert_eq!(check(&ours, REVIEWS).as_deref(), Ok(REVIEWS));
    assert_eq!(check(&theirs, foreign).as_deref(), Ok(foreign));
    assert_eq!(check(&theirs, REVIEWS), Err(Rejected::UnknownIssuer));
    assert_eq!(check(&ours, foreign), Err(Rejected::UnknownIssuer));
    let twice = TrustBundles::new([(other.clone(), ours.bundle()), (other.clone(), theirs.bundle())]);
    assert_eq!(twice, Err(InvalidBundle::Duplicate(other)));
}

/// spire#1004: authorities that renew their key keep their subject, and path building has a budget.
#[test]
fn fifty_roots_of_one_subject_are_no_obstacle() {
    let forgers: Vec<_> = (0..50).map(|_| Forger::new()).collect();
    let bundle = TrustBundle::from_der(forgers.iter().map(|forger| forger.root.clone()).collect()).unwrap();
    let bundles = TrustBundles::single(TrustDomain::cluster_local(), bundle);
    for forger in [&forgers[0], &forgers[49]] {
        let chain = forger.leaf(REVIEWS, |_| {}).chain;
        assert!(verify_peer(&chain, PeerRole::Server, now(), &bundles).is_ok());
    }
}

#[test]
fn a_bundle_is_taken_whole_or_not_at_all() {
    let ca = Forger::new();
    let leaf = ca.leaf(REVIEWS, |_| {}).chain.remove(0);
    let unconstrained = ca.leaf(REVIEWS, |params| {
        params.key_usages.clear();
        params.is_ca = rcgen::IsCa::NoCa;
    });
    let garbage = CertificateDer::from(vec![0x30, 0x00]);
    let refused = |roots: Vec<CertificateDer<'static>>| TrustBundle::from_der(roots).unwrap_err();
    assert_eq!(refused(vec![]), InvalidBundle::Empty);
    assert_eq!(refused(vec![ca.root.clone(), leaf]), InvalidBundle::NotAnAuthority(1));
    assert_eq!(refused(unconstrained.chain), InvalidBundle::NotAnAuthority(0));
    assert!(matches!(refused(vec![ca.root.clone(), garbage]), InvalidBundle::Unparsable { index: 1, .. }));
    assert_eq!(refused(vec![ca.root.clone(); 65]), InvalidBundle::TooManyRoots(65));
    assert_eq!(TrustBundle::from_pem(b"nothing here"), Err(InvalidBundle::Empty));
    let broken = format!("{}-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", ca.root_pem);
    assert!(matches!(TrustBundle::from_pem(broken.as_bytes()), Err(InvalidBundle::Pem(_))));
}

/// RFC 5280 4.1.2.5: the validity period includes both of its ends.
#[test]
fn validity_is_checked_against_the_time_given() {
    let ca = Forger::new();
    let chain = ca.leaf(PRODUCTPAGE, |_| {}).chain;
    let at = |seconds| verify_peer(&chain, PeerRole::Client, UnixTime::since_unix_epoch(seconds), &ca.bundles());
    let peer = at(Duration::from_secs(now().as_secs())).unwrap();
    let end = peer.not_after().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(at(end).is_ok());
    assert_eq!(at(end + Duration::from_secs(1)).unwrap_err(), Rejected::Expired);
    assert_eq!(at(Duration::from_secs(1)).unwrap_err(), Rejected::NotYetValid);
}

proptest! {
    /// No single changed byte leaves a certificate acceptable.
    #[test]
    fn a_changed_byte_is_refused(index in any::<prop::sample::Index>(), change in 1..=255_u8) {
        thread_local! {
            static GOOD: (TrustBundles, Vec<u8>) = {
                let ca = Forger::new();
                (ca.bundles(), ca.leaf(REVIEWS, |_| {}).chain[0].to_vec())
            };
        }
        GOOD.with(|(bundles, good)| {
            let mut der = good.clone();
            der[index.index(good.len())] ^= change;
            let outcome = verify_peer(&[CertificateDer::from(der)], PeerRole::Client, now(), bundles);
            prop_assert!(outcome.is_err());
            Ok(())
        })?;
    }

    /// Outside bytes never panic a parser.
    #[test]
    fn garbage_is_refused(der in prop::collection::vec(any::<u8>(), 0..512)) {
        let bundles = TrustBundles::new([]).unwrap();
        prop_assert!(verify_peer(&[CertificateDer::from(der)], PeerRole::Server, now(), &bundles).is_err());
    }
}
