use std::{sync::mpsc, time::Duration};

use mesh_core::{Endpoint, EndpointAddress};
use proptest::prelude::*;

use super::*;
use crate::{Maglev, OutlierDetection, Ring, hash};

fn members(weights: &[u32]) -> Members {
    let member = |(n, weight): (usize, &u32)| {
        let address = EndpointAddress::new(&format!("10.0.{}.{}", n / 250, n % 250 + 1), 80);
        Member::new(Arc::new(Endpoint::new(address).with_weight(*weight)), Arc::default())
    };
    weights.iter().enumerate().map(member).collect()
}

fn lookup(hash: u64, ejections: Option<Ejections>) -> Lookup {
    Lookup { hash, ejections, in_flight: 0 }
}

fn eject(member: &Member, at: Duration) -> u64 {
    u64::try_from(member.detector().eject(&OutlierDetection::default(), at).as_nanos()).unwrap()
}

const TABLES: [HashTable; 2] = [HashTable::DEFAULT_RING, HashTable::DEFAULT_MAGLEV];

/// What a table over only these members chooses.
fn over(table: HashTable, members: &Members, numbers: &[usize], hash: u64) -> Option<usize> {
    let host = |n: &usize| (members.at(*n).endpoint().address.to_string(), members.at(*n).endpoint().weight);
    let hosts: Vec<_> = numbers.iter().map(host).collect();
    let picked = match table {
        HashTable::Ring { minimum_size } => Ring::new(&hosts, minimum_size).pick(hash, 0),
        HashTable::Maglev { size } => Maglev::new(&hosts, size).pick(hash, 0),
    };
    picked.map(|n| numbers[n])
}

/// envoy thread_aware_lb_impl: tables over the healthy hosts, and over all when nobody is ejected or in panic mode.
/// Without tokio a table is made where it is needed.
#[test]
fn tables_are_over_those_in_service() {
    for table in TABLES {
        let members = members(&[1, 2, 5, 3, 7, 1, 1]);
        let tables = Tables::new(&ConsistentHash::new(table), &members, None);
        let back = eject(members.at(4), Duration::from_secs(1));
        let later = eject(members.at(2), Duration::from_secs(15));
        assert!(back < later);
        let all = [0, 1, 2, 3, 4, 5, 6];
        for (at, left) in
            [(1, &[0, 1, 3, 5, 6][..]), (back - 1, &[0, 1, 3, 5, 6]), (back, &[0, 1, 3, 4, 5, 6]), (later, &all)]
        {
            for n in 0..20_u64 {
                let hash = hash(&n.to_le_bytes());
                let in_service = |member: &Member| !member.detector().is_ejected_at(at);
                let picked = tables.pick(lookup(hash, Some(Ejections { at, count: 2 })), in_service);
                assert_eq!(picked, over(table, &members, left, hash), "{table:?} at {at}");
                let in_panic = tables.pick(lookup(hash, None), |_| true);
                assert_eq!(in_panic, over(table, &members, &all, hash), "{table:?}: nobody is left out");
            }
        }
    }
}

/// While a table is being made, picks go on with the old one, past who is ejected.
#[test]
fn an_old_table_is_gone_on_with() {
    for table in TABLES {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let _in_it = runtime.enter();
        // The one thread that could make a table waits.
        let (free, held) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || held.recv());
        let members = members(&[1; 20]);
        let tables = Tables::new(&ConsistentHash::new(table), &members, None);
        for (count, member) in (1..20).zip(members.iter()) {
            eject(member, Duration::ZERO);
            let pick = |n: u64| {
                let lookup = lookup(n << 44, Some(Ejections { at: 1, count }));
                tables.pick(lookup, |member| !member.detector().is_ejected_at(1)).unwrap()
            };
            assert!((0..1000).all(|n| pick(n) >= count as usize), "{table:?} with {count} ejected");
        }
        assert!(tables.in_service.load().is_none(), "still waiting");
        drop(free);
        // It knows of the one ejection that it was asked about first: the next pick asks for another.
        let all = Ejections { at: 1, count: 19 };
        while !tables.in_service.load().as_ref().is_some_and(|made| made.is_of(all)) {
            let picked = tables.pick(lookup(7, Some(all)), |member| !member.detector().is_ejected_at(1));
            assert_eq!(picked, Some(19));
            std::thread::yield_now();
        }
    }
}

/// A runtime that ends before it made a table leaves nobody waiting for it.
#[test]
fn another_table_is_made_when_one_was_given_up() {
    let members = members(&[1; 3]);
    let tables = Tables::new(&ConsistentHash::new(HashTable::DEFAULT_RING), &members, None);
    eject(members.at(0), Duration::ZERO);
    let now = Ejections { at: 1, count: 1 };
    drop(Build { tables: Arc::clone(&tables), ejections: now });
    tables.building.store(true, Ordering::Release);
    drop(Build { tables: Arc::clone(&tables), ejections: now });
    tables.build(now);
    assert!(tables.in_service.load().as_ref().is_some_and(|made| made.is_of(now)));
}

/// envoy hash_balance_factor; Mirrokni and others: no load is above ceil(c x average), and a key whose endpoint has room
/// stays where it is.
#[test]
fn a_popular_key_does_not_bury_its_endpoint() {
    for table in TABLES {
        let members = members(&[1, 1, 2, 4]);
        let bound = BoundedLoad::percent(125).unwrap();
        let tables = Tables::new(&ConsistentHash::new(table).with_bounded_load(bound), &members, None);
        let hash = hash(b"popular");
        let first = over(table, &members, &[0, 1, 2, 3], hash);
        for in_flight in 0..800 {
            let picked = tables.pick(Lookup { hash, ejections: None, in_flight }, |_| true).unwrap();
            let before = first.map(|first| members.at(first)).unwrap();
            if bound.admits(before.in_flight(), in_flight, before.endpoint().weight, 8) {
                assert_eq!(Some(picked), first);
            }
            members.at(picked).load().add();
            let cap = bound.cap(in_flight, members.at(picked).endpoint().weight, 8);
            assert!(members.at(picked).in_flight() <= cap, "{table:?}: {in_flight}");
        }
        // 1.25 times its share each: four fifths of the weight are needed.
        assert!(members.iter().filter(|member| member.in_flight() > 0).count() >= 3, "{table:?}");
    }
}

#[test]
fn load_from_elsewhere_leaves_the_least_loaded() {
    let members = members(&[1, 2, 4]);
    let bounded = ConsistentHash::new(HashTable::DEFAULT_RING).with_bounded_load(BoundedLoad::percent(100).unwrap());
    let tables = Tables::new(&bounded, &members, None);
    // The cluster knows of no request; its endpoints have some from the service's other clusters.
    for (member, load) in members.iter().zip([10, 18, 40]) {
        (0..load).for_each(|_| member.load().add());
    }
    assert!((0..100).all(|n| tables.pick(lookup(n << 57, None), |_| true) == Some(1)), "9 for each unit of weight");
}

proptest! {
    #[test]
    fn never_who_is_not_allowed(
        weights in proptest::collection::vec((1_u32..5, any::<bool>(), any::<bool>()), 1..40),
        maglev: bool,
        hashes in proptest::collection::vec(any::<u64>(), 1..20),
    ) {
        let members = members(&weights.iter().map(|(weight, ..)| *weight).collect::<Vec<_>>());
        let table = if maglev { HashTable::Maglev { size: 251 } } else { HashTable::DEFAULT_RING };
        let tables = Tables::new(&ConsistentHash::new(table), &members, None);
        for (member, _) in members.iter().zip(&weights).filter(|(_, (_, ejected, _))| *ejected) {
            eject(member, Duration::ZERO);
        }
        let allowed = |member: &Member| {
            let (_, ejected, tried) = weights[members.iter().position(|known| std::ptr::eq(&**known, member)).unwrap()];
            !ejected && !tried
        };
        let expected = members.iter().any(|member| allowed(member));
        for hash in hashes {
            let picked = tables.pick(lookup(hash, Some(Ejections { at: 1, count: 9 })), allowed);
            prop_assert_eq!(picked.is_some(), expected);
            prop_assert!(picked.is_none_or(|picked| allowed(members.at(picked))));
        }
    }
}
