//! A server of one's own on loopback, which counts, and answers when it is told to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{Body, Builder, Client, Mesh};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::common::World;

/// What one address of the server has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) accepted: usize,
    pub(crate) open: usize,
    pub(crate) requests: usize,
}

/// It listens on every address of loopback, each an endpoint to whoever asks.
///
/// `/held` is answered when there is a permit, `/slow` in pieces with pauses, anything else at once.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    pub(crate) held: Arc<Semaphore>,
    pub(crate) waiting: Arc<AtomicUsize>,
    seen: Arc<Mutex<HashMap<SocketAddr, Seen>>>,
}

impl Upstream {
    /// `streams`: how many an HTTP/2 connection may have at a time.
    pub(crate) async fn start(protocol: &'static str, streams: u32) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let (held, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let upstream = Self { port: listener.local_addr().unwrap().port(), held, waiting, seen: Arc::default() };
        let (held, waiting, seen) =
            (Arc::clone(&upstream.held), Arc::clone(&upstream.waiting), Arc::clone(&upstream.seen));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let address = stream.local_addr().unwrap();
                let counted = Counted::new(&seen, address);
                let (held, waiting, seen) = (Arc::clone(&held), Arc::clone(&waiting), Arc::clone(&seen));
                tokio::spawn(async move {
                    let _counted = counted;
                    let answer = service_fn(move |request: Request<Incoming>| {
                        seen.lock().unwrap().entry(address).or_default().requests += 1;
                        answer(request, Arc::clone(&held), Arc::clone(&waiting))
                    });
                    let io = TokioIo::new(stream);
                    let _ended = match protocol {
                        "http2" => {
                            let mut builder = http2::Builder::new(TokioExecutor::new());
                            builder.max_concurrent_streams(streams).serve_connection(io, answer).await
                        }
                        _ => http1::Builder::new().serve_connection(io, answer).await,
                    };
                });
            }
        });
        upstream
    }

    /// Of one address of loopback.
    pub(crate) fn at(&self, ip: &str) -> Seen {
        let address = SocketAddr::new(ip.parse().unwrap(), self.port);
        self.seen.lock().unwrap().get(&address).copied().unwrap_or_default()
    }

    pub(crate) fn each(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().values().copied().collect()
    }

    pub(crate) fn open(&self) -> usize {
        self.each().iter().map(|seen| seen.open).sum()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.each().iter().map(|seen| seen.accepted).sum()
    }

    /// Requests of `/held` that wait for their permit.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

async fn answer(
    request: Request<Incoming>,
    held: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let sent = request.into_body().collect().await?.to_bytes();
    match path.as_str() {
        "/held" => {
            let here = Waiting::new(waiting);
            held.acquire().await.unwrap().forget();
            drop(here);
        }
        "/slow" => {
            pause().await;
            let pieces = futures_util::stream::unfold(0, |n| async move {
                pause().await;
                (n < 3).then(|| (Ok::<_, hyper::Error>(Frame::data(Bytes::from_static(b"piece"))), n + 1))
            });
            return Ok(Response::new(Body::new(StreamBody::new(pieces))));
        }
        _ => {}
    }
    Ok(Response::new(Body::from(sent)))
}

/// So that what comes next is another event for the peer.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(waiting: Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Counted(Arc<Mutex<HashMap<SocketAddr, Seen>>>, SocketAddr);

impl Counted {
    fn new(seen: &Arc<Mutex<HashMap<SocketAddr, Seen>>>, address: SocketAddr) -> Self {
        let mut all = seen.lock().unwrap();
        let here = all.entry(address).or_default();
        (here.accepted, here.open) = (here.accepted + 1, here.open + 1);
        drop(all);
        Self(Arc::clone(seen), address)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock().unwrap().entry(self.1).or_default().open -= 1;
    }
}

/// The service `all.example`, with these endpoints on these addresses of loopback and this trafficPolicy; nothing is
/// retried.
pub(crate) fn service(world: &World, protocol: &str, port: u16, ips: &[String], policy: &str) {
    let endpoints: Vec<String> = ips.iter().map(|ip| format!("{{address: {ip}, ports: {{web: {port}}}}}")).collect();
    let rule = match policy {
        "" => String::new(),
        policy => format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: all}}\nspec: {{host: all.example, \
             trafficPolicy: {{{policy}}}}}\n"
        ),
    };
    world.write(
        "all.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: all}}\nspec:\n  hosts: [all.example]\n  \
             location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: web, protocol: {}}}]\n  endpoints: \
             [{}]\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: all}}\nspec:\n  hosts: \
             [all.example]\n  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: all.example}}}}]}}]\n{rule}",
            protocol.to_uppercase(),
            endpoints.join(", "),
        ),
    );
}

/// A caller, with its client.
pub(crate) async fn caller(builder: Builder) -> (Mesh, Client<Body>) {
    let mesh = builder.start().await.unwrap_or_else(|error| panic!("{error}"));
    let client = mesh.client();
    (mesh, client)
}

/// What a mesh counts of `all.example`, from its page for people.
pub(crate) struct Page(SocketAddr);

impl Page {
    pub(crate) async fn of(mesh: &Mesh) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mesh = mesh.clone();
        tokio::spawn(async move { mesh.serve_admin(listener).await });
        Self(address)
    }

    /// The sum of every `name` on the page; `cluster` and `cluster::endpoint` each have a line of their own.
    pub(crate) async fn sum(&self, name: &str) -> usize {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let ask = "GET /clusters HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        let ours = page.lines().filter(|line| line.starts_with("outbound|80||all.example::"));
        let named = ours.filter_map(|line| line.split_once(&format!("::{name}::")).map(|(_, count)| count));
        let counts: Vec<usize> = named.map(|count| count.trim().parse().unwrap()).collect();
        assert!(!counts.is_empty(), "{name}: {page}");
        counts.iter().sum()
    }

    /// Nothing is in flight or waits, and as many connections are counted as the server has.
    pub(crate) async fn is_quiet(&self, upstream: &Upstream, limited: bool) -> bool {
        self.sum("rq_active").await == 0
            && self.sum("rq_pending_active").await == 0
            && (!limited || self.sum("cx_active").await == upstream.open())
    }
}
