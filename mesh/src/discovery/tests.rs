//! With a scripted source and the clock paused: time passes only where a test lets it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use mesh_core::{
    Endpoint, MeshConfig, Workload,
    config::{Document, Issues},
    discover::Published,
    registry::Registry,
};
use mesh_lb::{Cluster, DestinationRules};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, yield_now},
    time::{Instant, advance},
};

use super::*;

const HOST: &str = "db.test";

fn yaml(endpoints: &str) -> String {
    format!(
        "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {{name: db}}\nspec:\n  hosts: [{HOST}]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: DNS\n  endpoints: [{endpoints}]\n"
    )
}

fn build(clusters: &Clusters, yaml: &str) -> Cluster {
    let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
    let documents = Document::parse_all("db.yaml", yaml, &mut issues);
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    assert!(!issues.has_errors(), "{issues}");
    let set = clusters.build(&registry, &DestinationRules::new(&[]), &Workload::new("default", "client"), &mesh);
    set.iter().next().unwrap().clone()
}

fn start(discovery: Discovery) -> (Clusters, JoinHandle<()>) {
    let (clusters, wants) = discovery.clusters(SubsetClient::Seed(1));
    let running = tokio::spawn(discovery.run(clusters.clone(), wants));
    (clusters, running)
}

fn endpoint(ip: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointAddress::new(ip, 80)))
}

fn hosts(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints().iter().map(|endpoint| endpoint.address.host().into_owned()).collect()
}

/// What can happen without time passing happens.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// Each subscription is one of these streams.
#[derive(Clone, Debug, Default)]
struct Scripted {
    streams: Arc<Mutex<VecDeque<mpsc::UnboundedReceiver<Update>>>>,
    subscribed: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<Wanted>>>,
}

impl Scripted {
    /// The sender's end of the next subscription; dropping it loses the source.
    fn next(&self) -> mpsc::UnboundedSender<Update> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.streams.lock().unwrap().push_back(receiver);
        sender
    }

    fn subscribed(&self) -> usize {
        self.subscribed.load(Ordering::Relaxed)
    }
}

struct Stage(mpsc::UnboundedReceiver<Update>);

impl Stream for Stage {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.0.poll_recv(cx)
    }
}

impl Discover for Scripted {
    fn subscribe(&self, wanted: &Wanted) -> Updates {
        self.subscribed.fetch_add(1, Ordering::Relaxed);
        self.asked.lock().unwrap().push(wanted.clone());
        let next = self.streams.lock().unwrap().pop_front();
        // Nothing prepared: a source that cannot be reached.
        Box::pin(Stage(next.unwrap_or_else(|| mpsc::unbounded_channel().1)))
    }
}

fn with(source: impl Discover) -> Discovery {
    let mut discovery = Discovery::default();
    discovery.push(source);
    discovery
}

/// Issue "Discovery": "Subscriptions start on first use, are shared by the whole process".
#[tokio::test(start_paused = true)]
async fn a_service_is_followed_from_its_first_use_and_once() {
    let source = Scripted::default();
    let sender = source.next();
    let (clusters, _running) = start(with(source.clone()));
    let cluster = build(&clusters, &yaml("{address: 10.0.0.1}"));
    settle().await;
    assert_eq!(source.subscribed(), 0);
    (0..100).for_each(|_| cluster.clone().want());
    settle().await;
    sender.send(Update::Reset(vec![endpoint("10.0.0.9")])).unwrap();
    let cluster = build(&clusters, &yaml("{address: 10.0.0.2}"));
    (0..100).for_each(|_| cluster.want());
    settle().await;
    assert_eq!(hosts(&cluster), ["10.0.0.9", "10.0.0.2"]);
    assert_eq!(source.subscribed(), 1);
}

/// Issue "Discovery": "A change is in effect for the next pick within 10 ms of the source seeing it": no timer stands
/// between, so the paused clock does not move.
#[tokio::test(start_paused = true)]
async fn a_change_in_code_takes_no_time() {
    let published = Published::new();
    let (clusters, _running) = start(with(published.clone()));
    let cluster = build(&clusters, &yaml("{address: 10.0.0.1}"));
    let start = Instant::now();
    cluster.want();
    for n in 0..50 {
        let other = EndpointAddress::new(&format!("10.1.0.{n}"), 80);
        published.set(HOST, 80, [Endpoint::new(other.clone())]);
        settle().await;
        assert_eq!(cluster.endpoints()[0].address, other);
        published.remove(HOST, 80, &other);
        settle().await;
        assert_eq!(hosts(&cluster), ["10.0.0.1"]);
    }
    assert_eq!(Instant::now(), start);
}

/// Issue "Discovery": "Losing a source keeps the last good set."
#[tokio::test(start_paused = true)]
async fn a_lost_source_leaves_what_it_said_and_is_asked_again() {
    let source = Scripted::default();
    let sender = source.next();
    let (clusters, _running) = start(with(source.clone()));
    let cluster = build(&clusters, &yaml("{address: 10.0.0.1}"));
    cluster.want();
    sender.send(Update::Reset(vec![endpoint("10.0.0.8"), endpoint("10.0.0.9")])).unwrap();
    settle().await;
    drop(sender);
    // It cannot be reached for a while, and a request now and then keeps it wanted.
    for _ in 0..300 {
        cluster.want();
        advance(Duration::from_secs(1)).await;
        settle().await;
        assert_eq!(hosts(&cluster), ["10.0.0.8", "10.0.0.9", "10.0.0.1"]);
    }
    let tries = source.subscribed();
    assert!((8..100).contains(&tries), "{tries}: less and less often");
    let sender = source.next();
    for _ in 0..31 {
        advance(Duration::from_secs(1)).await;
        settle().await;
    }
    assert_eq!(source.subscribed(), tries + 1);
    sender.send(Update::Reset(vec![endpoint("10.0.0.7")])).unwrap();
    settle().await;
    assert_eq!(hosts(&cluster), ["10.0.0.7", "10.0.0.1"]);
}

/// Issue "Discovery": subscriptions "end when idle", and start again with the next use.
#[tokio::test(start_paused = true)]
async fn an_idle_service_is_let_go_and_comes_back() {
    let source = Scripted::default();
    let (first, second) = (source.next(), source.next());
    let (clusters, _running) = start(with(source.clone()));
    let cluster = build(&clusters, &yaml("{address: 10.0.0.1}"));
    cluster.want();
    first.send(Update::Reset(vec![endpoint("10.0.0.9")])).unwrap();
    for _ in 0..20 {
        advance(Duration::from_secs(60)).await;
        cluster.want();
        settle().await;
    }
    assert!(!first.is_closed(), "in use for twenty minutes");
    let idle = Instant::now();
    while !first.is_closed() {
        advance(Duration::from_secs(5)).await;
        settle().await;
    }
    let idle = (Instant::now() - idle).as_secs();
    assert!((295..=455).contains(&idle), "{idle} s");
    assert_eq!(hosts(&cluster), ["10.0.0.9", "10.0.0.1"], "what it said last stays");
    cluster.want();
    second.send(Update::Reset(vec![endpoint("10.0.0.10")])).unwrap();
    settle().await;
    assert_eq!((source.subscribed(), hosts(&cluster)), (2, vec!["10.0.0.10".to_owned(), "10.0.0.1".to_owned()]));
}

/// A source that has not answered when its stream ends is not taken for one that has nothing.
#[tokio::test(start_paused = true)]
async fn all_have_answered_when_each_has_said_something() {
    let (one, two) = (Scripted::default(), Scripted::default());
    let senders = [one.next(), two.next(), two.next()];
    let mut discovery = with(one.clone());
    discovery.push(two.clone());
    let (clusters, mut wants) = discovery.clusters(SubsetClient::Seed(1));
    let cluster = build(&clusters, &yaml("{address: 10.0.0.1}"));
    cluster.want();
    let want = wants.next().await.unwrap();
    let interest = Arc::clone(&want.interest);
    let _running = tokio::spawn(discovery.follow(clusters.clone(), want));
    let awaited = || interest.awaited_until(Duration::from_secs(10), Instant::now()).is_some();
    let [first, lost, second] = senders;
    first.send(Update::Gone).unwrap();
    drop(lost);
    settle().await;
    assert!(awaited());
    advance(Duration::from_secs(1)).await;
    settle().await;
    second.send(Update::Gone).unwrap();
    settle().await;
    assert!(!awaited());
    assert_eq!(two.subscribed(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_changed_name_is_another_question_and_names_alone_are_looked_up() {
    let source = Scripted::default();
    let senders = [source.next(), source.next()];
    let mut discovery = Discovery::default();
    discovery.set_names(source.clone());
    let (clusters, _running) = start(discovery);
    let cluster = build(&clusters, &yaml("{address: a.test}"));
    cluster.want();
    senders[0].send(Update::Reset(vec![endpoint("10.0.0.9")])).unwrap();
    settle().await;
    assert_eq!(hosts(&cluster), ["10.0.0.9"]);
    let cluster = build(&clusters, &yaml("{address: b.test}"));
    settle().await;
    assert_eq!(hosts(&cluster), ["b.test"]);
    assert!(senders[0].is_closed());
    senders[1].send(Update::Reset(vec![endpoint("10.0.0.8")])).unwrap();
    settle().await;
    assert_eq!(hosts(&cluster), ["10.0.0.8"]);
    let names: Vec<_> = source.asked.lock().unwrap().iter().map(|w| w.named[0].address.to_string()).collect();
    assert_eq!(names, ["a.test:80", "b.test:80"]);
    // Without names there is nothing to look up.
    build(&clusters, &yaml("{address: 10.0.0.1}"));
    settle().await;
    assert_eq!(source.subscribed(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_is_followed_no_more() {
    let source = Scripted::default();
    let sender = source.next();
    let (clusters, running) = start(with(source.clone()));
    let cluster = build(&clusters, &yaml("{address: 10.0.0.1}"));
    cluster.want();
    settle().await;
    assert!(!sender.is_closed());
    let other = yaml("{address: 10.0.0.1}").replace(HOST, "other.test");
    build(&clusters, &other);
    settle().await;
    assert!(sender.is_closed());
    // With the mesh ends everything.
    running.abort();
}
