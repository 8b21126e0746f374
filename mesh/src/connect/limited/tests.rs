use std::{convert::Infallible, future, io, net::SocketAddr, sync::Barrier};

use bytes::Bytes;
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::{
    ClusterName, MeshConfig, Workload,
    config::{Document, Issues},
    registry::{Registry, SystemResolver},
};
use mesh_lb::{Clusters, DestinationRule, DestinationRules, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
    time::Instant,
};

use super::{
    super::{
        pool::{Limits, PoolKey, Pools},
        security::Security,
    },
    *,
};
use crate::{
    Body,
    network::{BoxFuture, BoxIo, Connect},
};

/// Connections to whoever reads from the channel; none at all when nobody does.
#[derive(Debug)]
struct Network(Option<mpsc::UnboundedSender<DuplexStream>>);

impl Connect for Network {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>> {
        Box::pin(async {
            let Some(peers) = &self.0 else { return future::pending().await };
            let (near, far) = duplex(4096);
            match peers.send(far) {
                Ok(()) => Ok(Box::new(near) as BoxIo),
                Err(_) => future::pending().await,
            }
        })
    }
}

struct World {
    cluster: Cluster,
    pool: Arc<HostPool>,
    dialer: Arc<Dialer>,
}

impl World {
    fn new(peers: Option<mpsc::UnboundedSender<DuplexStream>>) -> Arc<Self> {
        Self::limited("{tcp: {maxConnections: 1}}", peers)
    }

    fn limited(pool: &str, peers: Option<mpsc::UnboundedSender<DuplexStream>>) -> Arc<Self> {
        let [cluster] = clusters([pool]);
        let limits = Limits { cluster: Arc::clone(cluster.name()), limits: cluster.connection_limits().clone() };
        let address = cluster.endpoints()[0].address.clone();
        let key = PoolKey {
            address,
            security: Security::Plaintext,
            limits: Some(Arc::new(limits)),
            transport: Transport::default(),
        };
        let dialer = Arc::new(Dialer {
            connect: Arc::new(Network(peers)),
            resolve: Arc::new(SystemResolver),
            mesh_tls: None,
            egress_tls: Default::default(),
        });
        Arc::new(Self { cluster, pool: Pools::default().get(key, false), dialer })
    }

    async fn connection(&self, protocol: Alpn) -> Result<Checkout, Error> {
        let timeout = Duration::from_secs(10);
        connection(&self.dialer, (&self.cluster, None), &self.pool, protocol, false, timeout).await
    }
}

/// The cluster as one configuration after the other has it, with these connectionPools.
pub(in super::super) fn clusters<const N: usize>(pools: [&str; N]) -> [Cluster; N] {
    let clusters = Clusters::new();
    pools.map(|pool| {
        let yaml = format!(
            "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {{name: db}}\nspec:\n  hosts: \
             [db.example.com]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
             endpoints: [{{address: 10.0.0.1}}]\n---\nkind: DestinationRule\nmetadata: {{name: db}}\nspec:\n  host: \
             db.example.com\n  trafficPolicy: {{connectionPool: {pool}}}\n"
        );
        let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
        let documents = Document::parse_all("db.yaml", &yaml, &mut issues);
        let registry = Registry::from_documents(&documents[..1], &mesh.trust_domain, &mut issues);
        let rule = DestinationRule::from_document(&documents[1], &mut issues).unwrap();
        let rules = DestinationRules::new(&[Arc::new(rule)]);
        let set = clusters.build(&registry, &rules, &Workload::new("default", "client"), &mesh);
        let service = registry.service("db.example.com").unwrap().name.clone();
        set.get(&ClusterName { service, port: 80, subset: None }).unwrap().clone()
    })
}

/// envoy has a pool per endpoint and version of HTTP, and each gets its first connection past the limit: a connection that
/// is idle but of the other version would keep a request waiting for as long as it lives.
#[tokio::test(start_paused = true)]
async fn a_connection_of_the_other_version_is_in_nobodys_way() {
    let (peers, mut far) = mpsc::unbounded_channel();
    let world = World::new(Some(peers));
    let Checkout::H1(one) = world.connection(Alpn::H1).await.unwrap() else { panic!("asked for HTTP/1.1") };
    Arc::clone(&world.pool).give_back(one);
    let _far = far.recv().await;
    let second = tokio::time::timeout(Duration::from_secs(60), world.connection(Alpn::H2)).await;
    assert!(matches!(second.expect("nobody to wait for"), Ok(Checkout::H2 { .. })));
}

/// envoy ConnPoolImplBase::onConnectionEvent: "If we see a connect failure, we purge all pending streams".
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_connection_that_fails_waits_for_no_other() {
    for protocol in [Alpn::H1, Alpn::H2] {
        let (world, start) = (World::new(None), Instant::now());
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let world = Arc::clone(&world);
            requests.spawn(async move { world.connection(protocol).await.map(drop).map_err(|error| error.reason()) });
        }
        assert_eq!(requests.join_all().await, [Err(Reason::ConnectFailure); 5]);
        assert_eq!(start.elapsed().as_secs(), 10, "one timeout, not five");
    }
}

/// envoy: an upgraded connection is an active one until it closes.
#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_keeps_its_place() {
    let (peers, mut far) = mpsc::unbounded_channel();
    let world = World::new(Some(peers));
    let Checkout::H1(mut one) = world.connection(Alpn::H1).await.unwrap() else { panic!("asked for HTTP/1.1") };
    let mut far = far.recv().await.unwrap();
    let request = Request::get("/").header("connection", "upgrade").header("upgrade", "chat");
    let answer = async {
        let mut read = [0; 1024];
        assert!(far.read(&mut read).await.unwrap() > 0);
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
        far.write_all(head).await.unwrap();
    };
    let body = Body::new(http_body_util::Empty::<Bytes>::new());
    let (response, ()) = tokio::join!(one.sender.send_request(request.body(body).unwrap()), answer);
    let upgraded = hyper::upgrade::on(response.unwrap()).await.unwrap();
    drop(one);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.cluster.open_connection(false).is_none(), "bytes still go over it");
    drop(upgraded);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.cluster.open_connection(false).is_some());
}

/// maxConnections: one request of a burst makes the endpoint's first connection; the others wait for it.
#[test]
fn of_a_burst_one_is_the_first() {
    let world = World::new(None);
    for _ in 0..300 {
        let (counted, barrier) = (world.pool.counted(Alpn::H1), Barrier::new(8));
        let held = std::thread::scope(|scope| {
            let ask = || {
                barrier.wait();
                counted.hold(&world.cluster)
            };
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asked.into_iter().filter_map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(held.len(), 1);
    }
}

/// One request makes a second connection, which takes long; another one gets the first as soon as that is free.
#[tokio::test(start_paused = true)]
async fn what_comes_free_is_not_for_who_makes_a_connection() {
    for protocol in [Alpn::H1, Alpn::H2] {
        let (peers, mut dialled) = mpsc::unbounded_channel();
        let world = World::limited("{tcp: {maxConnections: 2}}", Some(peers));
        let mut first = world.connection(protocol).await.unwrap();
        let far = TokioIo::new(dialled.recv().await.unwrap());
        // The next one takes for ever.
        drop(dialled);
        let answer = service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(http::Response::new(String::new())));
        tokio::spawn(async move {
            match protocol {
                Alpn::H1 => future::pending().await,
                Alpn::H2 => {
                    let mut server = http2::Builder::new(TokioExecutor::new());
                    let _ended = server.max_concurrent_streams(1).serve_connection(far, answer).await;
                }
            }
        });
        let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        wait(1).await;
        // With requests the client sees how many streams there may be.
        for _ in 0..2 {
            if let Checkout::H2 { sender, .. } = &mut first {
                let body = Body::new(http_body_util::Empty::<Bytes>::new());
                sender.send_request(Request::get("http://db.example.com/").body(body).unwrap()).await.unwrap();
            }
        }
        let ask = || {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.connection(protocol).await.map(drop) })
        };
        let making = ask();
        wait(1).await;
        let waiting = [ask(), ask()];
        wait(1).await;
        match first {
            Checkout::H1(first) => Arc::clone(&world.pool).give_back(first),
            stream @ Checkout::H2 { .. } => drop(stream),
        }
        wait(1).await;
        assert!(waiting.iter().any(tokio::task::JoinHandle::is_finished), "{protocol:?}");
        assert!(!making.is_finished(), "{protocol:?}");
    }
}
