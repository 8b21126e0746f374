//! Against a name server that writes its messages by hand.

use std::{net::IpAddr, time::Duration};

use hickory_resolver::proto::rr::Name;
use mesh_test::{NameServer, Says, kind};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::registry::{Found, Place};

const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

fn ip(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

fn v6(last: u16) -> IpAddr {
    [0, 0, 0, 0, 0, 0, 0, last].into()
}

fn resolver(server: &NameServer) -> HickoryResolver {
    HickoryResolver::with_servers([server.address()]).unwrap()
}

fn holds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn addresses(answer: &Answer) -> Vec<IpAddr> {
    let ip = |found: &Found| match found.at {
        Place::Ip(ip) => ip,
        Place::Host(_) => panic!("{found:?}"),
    };
    answer.found.iter().map(ip).collect()
}

#[tokio::test]
async fn addresses_come_with_the_shorter_ttl() {
    let server = NameServer::start();
    let (first, second) = (Says::address("db.test", ip(1), 30), Says::address("db.test", ip(2), 20));
    server.say("db.test", kind::A, first.and(second));
    server.say("db.test", kind::AAAA, Says::Nothing(1));
    let answer = resolver(&server).resolve("db.test").await.unwrap();
    assert_eq!((addresses(&answer), answer.ttl), (vec![ip(1), ip(2)], holds(20)));
    // AAAA alone, whether or not this machine has a route.
    server.set("six.test", &["2001:db8::1".parse().unwrap()], 0);
    let answer = resolver(&server).resolve("six.test").await.unwrap();
    assert_eq!((addresses(&answer), answer.ttl), (vec!["2001:db8::1".parse().unwrap()], holds(0)));
    // Both: what has a route.
    server.set("both.test", &[ip(1), v6(1)], 60);
    let answer = resolver(&server).resolve("both.test").await.unwrap();
    assert!(addresses(&answer).contains(&ip(1)) && answer.ttl == holds(60), "{answer:?}");
}

#[tokio::test]
async fn absence_is_an_answer_with_the_zones_ttl() {
    // RFC 2308 section 5: "Negative responses … The TTL of this record is set from the minimum of the MINIMUM field of the SOA
    // record and the TTL of the SOA itself".
    let server = NameServer::start();
    server.say_of_addresses("gone.test", &Says::NoSuchName(7));
    server.say_of_addresses("empty.test", &Says::Nothing(9));
    for (name, ttl) in [("gone.test", 7), ("empty.test", 9)] {
        let answer = resolver(&server).resolve(name).await.unwrap();
        assert_eq!(answer, Answer { ttl: holds(ttl), ..Answer::default() }, "{name}");
    }
}

#[tokio::test]
async fn failures_are_no_answers() {
    let server = NameServer::start();
    let garbage = [vec![], vec![0xc0, 0x0c], vec![0xff; 40], vec![0xc0, 0xff, 0, 1]];
    let failures = [Says::Code(SERVFAIL), Says::Code(REFUSED), Says::Referral].into_iter();
    for (index, says) in failures.chain(garbage.map(Says::Garbage)).enumerate() {
        server.say_of_addresses(&format!("{index}.test"), &says);
        server.say(&format!("_http._tcp.{index}.test"), kind::SRV, says);
    }
    let resolver = resolver(&server);
    let asked: Vec<_> = (0..7)
        .flat_map(|index| [format!("{index}.test"), format!("_http._tcp.{index}.test")])
        .map(|name| {
            let resolver = resolver.clone();
            tokio::spawn(async move { (resolver.resolve(&name).await, name) })
        })
        .collect();
    for answer in asked {
        let (answer, name) = answer.await.unwrap();
        assert!(answer.is_err(), "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn nothing_is_cached_and_every_server_is_asked() {
    let (first, second) = (NameServer::start(), NameServer::start());
    let resolver = HickoryResolver::with_servers([first.address(), second.address()]).unwrap();
    first.set("db.test", &[ip(1)], 300);
    resolver.resolve("db.test").await.unwrap();
    assert_eq!(resolver.resolve("db.test").await.unwrap().ttl, holds(300));
    assert_eq!((first.asked("db.test", kind::A), second.asked("db.test", kind::A)), (2, 0));
    // As glibc does: an error or silence of the first is not the last word; an absence is.
    for says in [Says::Code(SERVFAIL), Says::Code(REFUSED), Says::Silence] {
        first.say_of_addresses("db.test", &says);
        second.set("db.test", &[ip(2)], 300);
        assert_eq!(addresses(&resolver.resolve("db.test").await.unwrap()), [ip(2)], "{says:?}");
    }
    first.say_of_addresses("db.test", &Says::NoSuchName(1));
    assert!(resolver.resolve("db.test").await.unwrap().found.is_empty());
}

#[tokio::test]
async fn what_is_too_much_for_a_datagram_is_asked_for_over_tcp() {
    let server = NameServer::start();
    let many: Vec<IpAddr> = (0..200).map(ip).collect();
    let records = many.iter().map(|ip| Says::address("db.test", *ip, 30)).reduce(Says::and).unwrap();
    server.say("db.test", kind::A, Says::Truncated(Box::new(records)));
    server.say("db.test", kind::AAAA, Says::Nothing(30));
    let answer = resolver(&server).resolve("db.test").await.unwrap();
    assert_eq!(addresses(&answer), many);
    assert_eq!(server.asked_over_tcp(), 1);
}

#[tokio::test]
async fn aliases_are_followed_to_their_end() {
    let server = NameServer::start();
    // As a recursive server answers, the whole chain at once: the shortest TTL counts.
    let chain = Says::alias("www.test", "web.test", 10).and(Says::alias("web.test", "a.test", 5));
    server.say("www.test", kind::A, chain.and(Says::address("a.test", ip(1), 60)));
    server.say("www.test", kind::AAAA, Says::Nothing(60));
    let answer = resolver(&server).resolve("www.test").await.unwrap();
    assert_eq!((addresses(&answer), answer.ttl), (vec![ip(1)], holds(5)));
    // The alias alone: its target is asked for.
    server.say("part.test", kind::A, Says::alias("part.test", "b.test", 8));
    server.say("part.test", kind::AAAA, Says::alias("part.test", "b.test", 8));
    server.set("b.test", &[ip(2)], 60);
    let answer = resolver(&server).resolve("part.test").await.unwrap();
    assert_eq!((addresses(&answer), answer.ttl), (vec![ip(2)], holds(8)));
    // RFC 2308 section 2.1: a chain that ends in nothing is an absence.
    server.say_of_addresses("dead.test", &Says::alias("dead.test", "nobody.test", 8));
    assert!(resolver(&server).resolve("dead.test").await.unwrap().found.is_empty());
    // One without end is a failure.
    for (of, target) in [("self.test", "self.test"), ("x.test", "y.test"), ("y.test", "x.test")] {
        server.say_of_addresses(of, &Says::alias(of, target, 8));
    }
    assert!(resolver(&server).resolve("self.test").await.is_err());
    assert!(resolver(&server).resolve("x.test").await.is_err());
    // Records of another name are not ours.
    server.say_of_addresses("mine.test", &Says::address("other.test", ip(9), 60));
    assert!(resolver(&server).resolve("mine.test").await.is_err());
}

#[tokio::test]
async fn half_an_answer_is_an_answer_and_half_an_absence_is_not() {
    let server = NameServer::start();
    server.say("half.test", kind::A, Says::address("half.test", ip(1), 300));
    server.say("half.test", kind::AAAA, Says::Code(SERVFAIL));
    // No TTL: asked for again soon. And it is known to be half of one.
    let half = Answer { partial: true, ..Answer::addresses([ip(1)]) };
    assert_eq!(resolver(&server).resolve("half.test").await.unwrap(), half);
    server.say("half.test", kind::A, Says::Nothing(300));
    assert!(resolver(&server).resolve("half.test").await.is_err());
    // RFC 6724 rule 1: what leads nowhere does not take the place of what may.
    let far: IpAddr = "2001:db8::1".parse().unwrap();
    server.say("far.test", kind::A, Says::Code(SERVFAIL));
    server.say("far.test", kind::AAAA, Says::address("far.test", far, 300));
    assert_eq!(resolver(&server).resolve("far.test").await.is_ok(), local::has_route(far));
}

#[tokio::test]
async fn service_records_tell_targets_ports_priorities_and_weights() {
    let server = NameServer::start();
    let records = [(10, 5, 8080, "a.test"), (10, 0, 8081, "B.test"), (20, 1, 9000, "c.test")];
    let says = Says::services("_http._tcp.web.test", &records, 60).with_address("A.test", ip(1), 40);
    server.say("_http._tcp.web.test", kind::SRV, says.with_address("c.test", ip(3), 50));
    let answer = resolver(&server).resolve("_http._tcp.web.test").await.unwrap();
    let found = [
        Found::record(Place::Ip(ip(1)), 8080, 10, 5),
        // The server told no address of it. A whole name: no search domains.
        Found::record(Place::Host("b.test.".into()), 8081, 10, 0),
        Found::record(Place::Ip(ip(3)), 9000, 20, 1),
    ];
    assert_eq!(answer, Answer::new(found).with_ttl(Duration::from_secs(40)));
    assert_eq!(server.asked("_http._tcp.web.test", kind::A), 0);
    // RFC 2782: "A Target of "." means that the service is decidedly not available at this domain."
    server.say("_http._tcp.off.test", kind::SRV, Says::services("_http._tcp.off.test", &[(0, 0, 0, ".")], 60));
    let answer = resolver(&server).resolve("_http._tcp.off.test").await.unwrap();
    assert_eq!(answer, Answer { ttl: holds(60), ..Answer::default() });
    let answer = resolver(&server).resolve("_http._tcp.none.test").await.unwrap();
    assert!(answer.found.is_empty());
}

/// Settings as the operating system's files have them, but for the port of the server.
fn with_files(server: &NameServer, search: &[&str], ndots: usize, hosts: &str) -> HickoryResolver {
    with_servers_and_files(&[server], search, ndots, hosts)
}

fn with_servers_and_files(servers: &[&NameServer], search: &[&str], ndots: usize, hosts: &str) -> HickoryResolver {
    let search = search.iter().map(|domain| Name::from_ascii(domain).unwrap()).collect();
    let servers = servers.iter().map(|server| name_server(server.address())).collect();
    let config = ResolverConfig::from_parts(None, search, servers);
    let mut options = ResolverOpts::default();
    options.ndots = ndots;
    let mut known = Hosts::default();
    known.read_hosts_conf(hosts.as_bytes()).unwrap();
    HickoryResolver(Arc::new(System::given(Config::new(config, options, known).unwrap())))
}

#[tokio::test]
async fn an_absence_is_certain_only_when_no_search_domain_failed() {
    let server = NameServer::start();
    let resolver = with_files(&server, &["ns.test", "test"], 5, "");
    server.set("db.test", &[ip(1)], 60);
    assert_eq!(addresses(&resolver.resolve("db").await.unwrap()), [ip(1)]);
    assert_eq!((server.asked("db.ns.test", kind::A), server.asked("db", kind::A)), (1, 0));
    // What is found after a failure is found, as glibc has it; nothing found after a failure is a failure.
    server.say_of_addresses("db.ns.test", &Says::Code(SERVFAIL));
    assert_eq!(addresses(&resolver.resolve("db").await.unwrap()), [ip(1)]);
    server.say_of_addresses("db.test", &Says::NoSuchName(60));
    assert!(resolver.resolve("db").await.is_err());
    server.say_of_addresses("db.ns.test", &Says::NoSuchName(60));
    assert!(resolver.resolve("db").await.unwrap().found.is_empty());
    // Who does not answer does not answer to other names either.
    let asked = server.asked("db.test", kind::A);
    server.say_of_addresses("db.ns.test", &Says::Silence);
    assert_eq!(resolver.resolve("db").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(server.asked("db.test", kind::A), asked);
}

/// One that waited for it anew with each search domain would not be done before a lookup's time is over (10 s).
#[tokio::test]
async fn a_server_that_is_down_is_waited_for_once_in_a_lookup() {
    let (down, up) = (NameServer::start(), NameServer::start());
    let domains = ["a.test", "b.test", "c.test", "d.test", "e.test"];
    let resolver = with_servers_and_files(&[&down, &up], &domains, 5, "");
    for domain in domains {
        down.say_of_addresses(&format!("db.{domain}"), &Says::Silence);
    }
    up.set("db.e.test", &[ip(1)], 60);
    assert_eq!(addresses(&resolver.resolve("db").await.unwrap()), [ip(1)]);
    assert!(down.asked("db.a.test", kind::A) > 0);
    let later = domains[1..].iter().map(|domain| down.asked(&format!("db.{domain}"), kind::A));
    assert_eq!(later.sum::<usize>(), 0);
    // The next lookup begins with the first one again.
    down.set("db.a.test", &[ip(2)], 60);
    assert_eq!(addresses(&resolver.resolve("db").await.unwrap()), [ip(2)]);
}

#[tokio::test]
async fn the_hosts_file_comes_first() {
    let server = NameServer::start();
    let resolver = with_files(&server, &["test"], 1, "127.0.0.7 db DB.test # a comment\n127.0.0.8 db\n");
    assert_eq!(resolver.resolve("db").await.unwrap(), Answer::addresses([ip(7), ip(8)]));
    assert_eq!(resolver.resolve("db.Test.").await.unwrap(), Answer::addresses([ip(7)]));
    assert_eq!(server.asked("db.test", kind::A), 0);
}

#[tokio::test]
async fn hostile_names_are_not_asked_for() {
    let server = NameServer::start();
    let resolver = resolver(&server);
    let (long, label) = (["a"; 200].join("."), "a".repeat(64));
    for host in ["", ".", "..", "a..b", &long, &label, "\u{0}..", "é", "\\300", &"\\".repeat(300), &".".repeat(300)] {
        assert!(resolver.resolve(host).await.is_err(), "{host:?}");
    }
    let mut rng = StdRng::seed_from_u64(mesh_test::seed());
    for _ in 0..2000 {
        let length = rng.random_range(0..300);
        let host: String = (0..length).map(|_| char::from(rng.random_range(0..128u8))).collect();
        // What it says does not matter here, only that it says something.
        if let Ok(names) = Search::new(&ResolverConfig::from_parts(None, vec![], vec![]), 1).names(&host) {
            assert!(names.iter().all(|name| name.len() <= 255), "{host:?}");
        }
    }
}

#[tokio::test]
async fn garbage_is_a_failure_whatever_its_bytes() {
    let server = NameServer::start();
    let resolver = resolver(&server);
    let mut rng = StdRng::seed_from_u64(mesh_test::seed());
    let asked: Vec<_> = (0..64)
        .map(|index| {
            let mut bytes = vec![0; rng.random_range(0..200)];
            rng.fill_bytes(&mut bytes);
            let name = format!("_{index}._tcp.garbage.test");
            server.say(&name, kind::SRV, Says::Garbage(bytes));
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&name).await.is_err() })
        })
        .collect();
    for failed in asked {
        assert!(failed.await.unwrap());
    }
}

#[test]
fn without_servers_there_is_no_resolver() {
    assert!(HickoryResolver::with_servers([]).is_err());
}
