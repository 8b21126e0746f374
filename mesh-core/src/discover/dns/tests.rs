//! The source in virtual time, with a resolver that says what it is told.

use std::{
    collections::HashMap,
    future::{Future, pending, poll_fn, ready},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::DnsSource;
use crate::{
    Endpoint, EndpointAddress, Labels, Locality,
    discover::{Discover as _, Update, Updates, Wanted},
    identity::{SpiffeId, TrustDomain},
    registry::{Answer, Found, Place, Resolve},
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Says {
    Answer(Answer),
    Fails,
    Hangs,
}

#[derive(Clone, Debug, Default)]
struct Script(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    says: HashMap<String, Says>,
    asked: Vec<(String, Instant)>,
}

impl Script {
    fn say(&self, name: &str, says: Says) {
        self.0.lock().unwrap().says.insert(name.to_owned(), says);
    }

    fn set(&self, name: &str, addresses: &[u8], ttl: u64) {
        let answer = Answer::addresses(addresses.iter().map(|last| ip(*last)));
        self.say(name, Says::Answer(answer.with_ttl(Duration::from_secs(ttl))));
    }

    fn asked(&self, name: &str) -> usize {
        self.0.lock().unwrap().asked.iter().filter(|(asked, _)| asked == name).count()
    }
}

impl Resolve for Script {
    fn resolve<'a>(&'a self, host: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Answer>> + Send + 'a>> {
        let mut told = self.0.lock().unwrap();
        told.asked.push((host.to_owned(), Instant::now()));
        match told.says.get(host).cloned().unwrap_or(Says::Fails) {
            Says::Answer(answer) => Box::pin(ready(Ok(answer))),
            Says::Fails => Box::pin(ready(Err(io::Error::other("SERVFAIL")))),
            Says::Hangs => Box::pin(pending()),
        }
    }
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn named(names: &[(&str, u16)]) -> Vec<Arc<Endpoint>> {
    names.iter().map(|(name, port)| Arc::new(Endpoint::new(EndpointAddress::new(name, *port)))).collect()
}

struct Follower {
    updates: Updates,
    set: Vec<Arc<Endpoint>>,
}

impl Follower {
    fn new(source: &DnsSource, endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self { updates: source.subscribe(&Wanted::new("db.test", 80, endpoints)), set: Vec::new() }
    }

    async fn next(&mut self) -> Update {
        let update = poll_fn(|cx| self.updates.as_mut().poll_next(cx)).await.unwrap();
        match &update {
            Update::Reset(endpoints) => self.set.clone_from(endpoints),
            Update::Add(endpoint) => {
                self.set.retain(|known| known.address != endpoint.address);
                self.set.push(Arc::clone(endpoint));
            }
            Update::Remove(address) => self.set.retain(|known| known.address != *address),
            Update::Gone => self.set.clear(),
        }
        update
    }

    /// What is known when nothing more comes for a while.
    async fn after(&mut self, pause: Duration) -> Vec<String> {
        let until = Instant::now() + pause;
        while tokio::time::timeout_at(until, self.next()).await.is_ok() {}
        self.known()
    }

    fn known(&self) -> Vec<String> {
        let mut known: Vec<_> = self.set.iter().map(|endpoint| endpoint.address.to_string()).collect();
        known.sort();
        known
    }
}

fn start(script: &Script) -> (DnsSource, Follower) {
    let source = DnsSource::new(Arc::new(script.clone()));
    let follower = Follower::new(&source, named(&[("db.test", 80)]));
    (source, follower)
}

/// issue 4: "NXDOMAIN or an empty answer is an answer".
#[tokio::test(start_paused = true)]
async fn a_name_goes_empty_and_comes_back() {
    let script = Script::default();
    script.set("db.test", &[1, 2], 30);
    let (_source, mut follower) = start(&script);
    assert!(matches!(follower.next().await, Update::Reset(set) if set.len() == 2));
    script.set("db.test", &[], 30);
    assert!(follower.after(34 * SECOND).await.is_empty());
    script.set("db.test", &[3], 30);
    assert_eq!(follower.after(34 * SECOND).await, ["10.0.0.3:80"]);
}

/// issue 4: "an answer that removes more than half of at least 4 endpoints takes effect after a second equal answer (at most
/// 5 s)".
#[tokio::test(start_paused = true)]
async fn the_loss_of_more_than_half_is_believed_the_second_time() {
    let script = Script::default();
    script.set("db.test", &[1, 2, 3, 4], 30);
    let (_source, mut follower) = start(&script);
    follower.next().await;
    script.set("db.test", &[], 30);
    while script.asked("db.test") < 2 {
        sleep(SECOND / 10).await;
    }
    let doubted = Instant::now();
    assert_eq!(follower.known().len(), 4);
    follower.next().await;
    assert!(doubted.elapsed() <= 5 * SECOND && doubted.elapsed() > 3 * SECOND, "{:?}", doubted.elapsed());
    assert!(follower.after(SECOND).await.is_empty());
    assert_eq!(script.asked("db.test"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_moment_without_most_endpoints_is_not_noticed() {
    let script = Script::default();
    script.set("db.test", &[1, 2, 3, 4, 5], 30);
    let (_source, mut follower) = start(&script);
    follower.next().await;
    script.set("db.test", &[1], 30);
    while script.asked("db.test") < 2 {
        sleep(SECOND / 10).await;
    }
    // The second says otherwise, and is judged itself: two of five gone is no reason to doubt.
    script.set("db.test", &[1, 2, 3], 30);
    assert_eq!(follower.after(5 * SECOND).await, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
}

/// issue 4: "SERVFAIL and a timeout are not" an answer.
#[tokio::test(start_paused = true)]
async fn failures_keep_the_last_answer_and_are_asked_again_ever_later() {
    let script = Script::default();
    script.set("db.test", &[1], 10);
    let (_source, mut follower) = start(&script);
    follower.next().await;
    for says in [Says::Fails, Says::Hangs] {
        script.say("db.test", says);
        assert_eq!(follower.after(3600 * SECOND).await, ["10.0.0.1:80"]);
    }
    // Ten minutes of failures, at most 70 s apart with a hanging lookup's ten.
    let asked = script.asked("db.test");
    follower.after(600 * SECOND).await;
    let asked = script.asked("db.test") - asked;
    assert!((7..=10).contains(&asked), "{asked}");
    script.set("db.test", &[2], 10);
    assert_eq!(follower.after(80 * SECOND).await, ["10.0.0.2:80"]);
}

/// issue 4: "TTL 0 and back".
#[tokio::test(start_paused = true)]
async fn a_ttl_of_zero_is_asked_for_every_few_seconds() {
    let script = Script::default();
    script.set("db.test", &[1], 0);
    let (_source, mut follower) = start(&script);
    follower.after(60 * SECOND).await;
    // envoy cluster.proto dns_refresh_rate: 5 s, later by up to a tenth.
    let asked = script.asked("db.test");
    assert!((11..=13).contains(&asked), "{asked}");
    script.set("db.test", &[1], 30);
    follower.after(6 * SECOND).await;
    let asked = script.asked("db.test");
    follower.after(300 * SECOND).await;
    let asked = script.asked("db.test") - asked;
    assert!((9..=10).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn the_same_answer_in_another_order_is_no_update() {
    let script = Script::default();
    script.set("db.test", &[1, 2, 3], 1);
    let (_source, mut follower) = start(&script);
    follower.next().await;
    // envoy BaseDynamicClusterImpl::updateDynamicHostList; Kubernetes' DNS shuffles.
    script.set("db.test", &[3, 1, 2, 1], 1);
    assert!(timeout(60 * SECOND, follower.next()).await.is_err());
    assert!(script.asked("db.test") > 50);
}

#[tokio::test(start_paused = true)]
async fn one_lookup_serves_all_who_want_the_name_and_ends_with_the_last() {
    let script = Script::default();
    script.set("db.test", &[1], 10);
    let source = DnsSource::new(Arc::new(script.clone()));
    let mut one = Follower::new(&source, named(&[("db.test", 80)]));
    let mut two = Follower::new(&source, named(&[("db.test", 443), ("10.0.0.9", 443)]));
    assert_eq!(one.after(SECOND).await, ["10.0.0.1:80"]);
    assert_eq!(two.after(SECOND).await, ["10.0.0.1:443"]);
    assert_eq!((source.len(), script.asked("db.test")), (1, 1));
    drop(one);
    script.set("db.test", &[2], 10);
    assert_eq!(two.after(12 * SECOND).await, ["10.0.0.2:443"]);
    // Whoever asks anew before the other lets go finds what is known, and nobody is asked again.
    let asked = script.asked("db.test");
    let mut three = Follower::new(&source, named(&[("db.test", 8443)]));
    drop(two);
    assert_eq!(three.after(SECOND).await, ["10.0.0.2:8443"]);
    assert_eq!(script.asked("db.test"), asked);
    drop(three);
    assert_eq!(source.len(), 0);
    let asked = script.asked("db.test");
    sleep(600 * SECOND).await;
    assert_eq!(script.asked("db.test"), asked);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_never_answered_stands_as_a_name() {
    let script = Script::default();
    let source = DnsSource::new(Arc::new(script.clone()));
    let mut follower = Follower::new(&source, named(&[("a.test", 80), ("b.test", 81)]));
    assert!(timeout(60 * SECOND, follower.next()).await.is_err(), "nothing is known");
    script.set("a.test", &[1], 10);
    assert_eq!(follower.after(70 * SECOND).await, ["10.0.0.1:80", "b.test:81"]);
    script.set("b.test", &[], 10);
    assert_eq!(follower.after(70 * SECOND).await, ["10.0.0.1:80"]);
    // Without names there is nothing to look up.
    let mut follower = Follower::new(&source, named(&[("10.0.0.1", 80)]));
    assert_eq!(follower.next().await, Update::Gone);
}

#[tokio::test(start_paused = true)]
async fn what_is_found_carries_on_what_the_registry_says() {
    let script = Script::default();
    script.set("db.test", &[1, 2], 10);
    let source = DnsSource::new(Arc::new(script.clone()));
    let identity = SpiffeId::kubernetes(&TrustDomain::cluster_local(), "ns", "db").unwrap();
    let locality: Locality = "r/z/s".parse().unwrap();
    let endpoint = Endpoint::new(EndpointAddress::new("db.test", 80)).with_labels(Labels::from_iter([("v", "1")]));
    let endpoint = endpoint.with_weight(7).with_locality(&locality).with_identity(identity);
    let mut follower = Follower::new(&source, vec![Arc::new(endpoint.clone())]);
    follower.next().await;
    for found in &follower.set {
        let mut expected = endpoint.clone();
        expected.address = found.address.clone();
        assert_eq!(**found, expected);
    }
    assert_eq!(follower.known(), ["10.0.0.1:80", "10.0.0.2:80"]);
}

fn record(target: &str, port: u16, priority: u16, weight: u16) -> Found {
    Found::record(Place::Host(target.into()), port, priority, weight)
}

fn weights(follower: &Follower) -> Vec<(String, u32)> {
    let mut known: Vec<_> = follower.set.iter().map(|e| (e.address.to_string(), e.weight)).collect();
    known.sort();
    known
}

#[tokio::test(start_paused = true)]
async fn service_records_become_endpoints_with_their_ports_and_weights() {
    let script = Script::default();
    let records = |found: Vec<Found>| Says::Answer(Answer::new(found).with_ttl(10 * SECOND));
    let service = "_http._tcp.web.test";
    script.say(
        service,
        records(vec![record("a.test.", 81, 1, 3), record("b.test.", 82, 1, 1), record("c.test.", 83, 2, 1)]),
    );
    script.set("a.test.", &[1, 2], 10);
    script.set("b.test.", &[3], 10);
    script.set("c.test.", &[4], 10);
    let source = DnsSource::new(Arc::new(script.clone()));
    let endpoint = Endpoint::new(EndpointAddress::new(service, 80)).with_weight(2);
    let mut follower = Follower::new(&source, vec![Arc::new(endpoint)]);
    follower.after(SECOND).await;
    // RFC 2782: the lowest priority, "proportionately" to the weights, times the endpoint's own.
    let expected = [("10.0.0.1:81", 6), ("10.0.0.2:81", 6), ("10.0.0.3:82", 2)];
    assert_eq!(weights(&follower), expected.map(|(address, weight)| (address.to_owned(), weight)));
    assert_eq!(script.asked("c.test."), 0);
    // RFC 2782: beside others a weight of zero has "a very small chance".
    script.say(service, records(vec![record("a.test.", 81, 1, 3), record("b.test.", 82, 1, 0)]));
    follower.after(12 * SECOND).await;
    let expected = [("10.0.0.1:81", 600), ("10.0.0.2:81", 600), ("10.0.0.3:82", 2)];
    assert_eq!(weights(&follower), expected.map(|(address, weight)| (address.to_owned(), weight)));
    // "the lowest-numbered priority it can reach": where that one has no address, the next.
    script.say(service, records(vec![record("b.test.", 82, 1, 0), record("c.test.", 83, 2, 0)]));
    script.set("b.test.", &[], 10);
    assert_eq!(follower.after(24 * SECOND).await, ["10.0.0.4:83"]);
    // A target that fails keeps its last addresses; it is a name of its own.
    script.say("c.test.", Says::Fails);
    assert_eq!(follower.after(600 * SECOND).await, ["10.0.0.4:83"]);
    // Targets are followed as long as records name them. One that is a service again leads nowhere.
    script.say(service, records(vec![record(service, 82, 1, 0), record("_x._tcp.y.test.", 1, 0, 1)]));
    assert!(follower.after(24 * SECOND).await.is_empty());
    assert_eq!(source.len(), 1);
}

/// issue 4: memory stays where it is when names and answers churn.
#[tokio::test(start_paused = true)]
async fn names_that_nobody_wants_any_more_are_forgotten() {
    let script = Script::default();
    let source = DnsSource::new(Arc::new(script.clone()));
    for round in 0..1000 {
        let name = format!("{round}.test");
        script.set(&name, &[1], 10);
        let mut follower = Follower::new(&source, named(&[(&name, 80)]));
        follower.next().await;
        assert_eq!(source.len(), 1);
    }
    assert_eq!(source.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_moves_is_never_gone_in_between() {
    let script = Script::default();
    script.set("db.test", &[1], 5);
    let (_source, mut follower) = start(&script);
    follower.next().await;
    script.set("db.test", &[2], 5);
    assert!(matches!(follower.next().await, Update::Add(_)));
    assert_eq!(follower.next().await, Update::Remove(EndpointAddress::new("10.0.0.1", 80)));
    assert_eq!(follower.known(), ["10.0.0.2:80"]);
    // Many steps are told as a whole.
    script.set("db.test", &(10..100).collect::<Vec<_>>(), 5);
    assert!(matches!(follower.next().await, Update::Reset(set) if set.len() == 90));
}
