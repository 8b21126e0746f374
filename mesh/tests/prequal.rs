//! Prequal's wire over real sockets: who tells how busy it is, to whom, and what comes of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body as AxumBody,
    middleware::{Next, from_fn},
    routing::get as route,
};
use common::{World, fetch, get, until};
use http::{Method, Request};
use mesh::{Body, Client, Mesh, Workload};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Time enough for an answer on a machine that does other things too.
const PREQUAL: &str = "apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {name: prequal}\nspec:\n  \
                       loadBalancing: [{hosts: [a], prequal: {probeTimeout: 10s, probeMaxAge: 20s}}]\n";

async fn name(client: &Client<Body>) -> String {
    let response = fetch(client, get("http://a/")).await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("x-mesh-load"), "the application sees nothing of it");
    String::from_utf8(response.into_body().to_vec()).unwrap()
}

/// A server that is busy with what others asked is avoided by a client that never sent it anything: it was told, over the
/// mutual TLS of requests.
#[tokio::test]
async fn a_server_that_others_keep_busy_is_avoided() {
    let world = World::new();
    // Over HTTP/2 here, over HTTP/1.1 below.
    world.service("a", 80, "http2");
    world.write(
        "busy.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  subsets: \
         [{name: v1, labels: {version: v1}}]\n---\napiVersion: networking.istio.io/v1\nkind: \
         VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - match: [{uri: {exact: /held}}]\n    \
         route: [{destination: {host: a, subset: v1}}]\n  - route: [{destination: {host: a}}]\n",
    );
    let (held, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let mut servers = Vec::new();
    for version in ["v1", "v2", "v3", "v4"] {
        let (held, go) = (Arc::clone(&held), Arc::clone(&go));
        let hold = move || async move {
            held.fetch_add(1, Ordering::SeqCst);
            go.acquire().await.unwrap().forget();
        };
        let router = Router::new().route("/held", route(hold)).route("/", route(move || async move { version }));
        servers.push(world.run("a", version, router).await);
    }
    let other = world.mesh("other", "v1").await;
    until("all are known", || async { other.endpoints("a", 80).len() == 4 }).await;
    // Servers count from the first question on: so somebody asks, before the others come.
    let builder = world.builder("caller", "v1").config_text("prequal.yaml", PREQUAL);
    let client = builder.start().await.unwrap().client();
    until("all were asked", || async {
        let mut seen = Vec::new();
        for _ in 0..40 {
            seen.push(name(&client).await);
        }
        ["v1", "v2", "v3", "v4"].iter().all(|version| seen.iter().any(|seen| seen == version))
    })
    .await;
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = other.client::<Body>();
        busy.spawn(async move { fetch(&client, get("http://a/held")).await.status() });
    }
    until("v1 has 20 of somebody else's", || async { held.load(Ordering::SeqCst) == 20 }).await;

    // What was known before is used up, and then what is known is true.
    until("v1 is avoided", || async {
        let mut of_v1 = 0;
        for _ in 0..100 {
            of_v1 += usize::from(name(&client).await == "v1");
        }
        // One in four of a client that is told nothing.
        of_v1 <= 5
    })
    .await;
    go.add_permits(20);
    while let Some(status) = busy.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
}

/// A server of this machine, in plaintext, that counts the probes it gets; with the inbound stack of a mesh, or without.
struct Open {
    address: SocketAddr,
    probes: Arc<AtomicUsize>,
    arrived: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
    _mesh: Option<Mesh>,
}

impl Open {
    async fn start(name: &'static str, with_stack: bool) -> Self {
        let (probes, arrived) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counts, held, go) = (Arc::clone(&probes), Arc::clone(&arrived), Arc::new(Semaphore::new(0)));
        let waits = Arc::clone(&go);
        let hold = move || async move {
            held.fetch_add(1, Ordering::SeqCst);
            waits.acquire().await.unwrap().forget();
            name
        };
        let mut router = Router::new().route("/", route(move || async move { name })).route("/held", route(hold));
        let mut mesh = None;
        if with_stack {
            let workload = Workload::new("default", name);
            let started = Mesh::builder().workload(workload).dangerous().without_identity().start().await.unwrap();
            router = router.layer(started.inbound_layer());
            mesh = Some(started);
        }
        let count = move |request: Request<AxumBody>, next: Next| {
            let probes = Arc::clone(&counts);
            async move {
                if request.method() == Method::OPTIONS {
                    assert_eq!(
                        (request.uri().path(), &request.headers()["x-mesh-load"]),
                        ("*", &"probe".parse().unwrap())
                    );
                    probes.fetch_add(1, Ordering::SeqCst);
                }
                next.run(request).await
            }
        };
        // Around the router, for paths that it does not have too.
        let service = tower::ServiceBuilder::new().layer(from_fn(count)).service(router);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = axum::ServiceExt::<Request<AxumBody>>::into_make_service(service);
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { address, probes, arrived, go, _mesh: mesh }
    }

    fn probes(&self) -> usize {
        self.probes.load(Ordering::SeqCst)
    }
}

/// A client without an identity, of these servers.
async fn caller(servers: &[&Open], policy: &str) -> Mesh {
    let endpoints = servers
        .iter()
        .map(|server| format!("  - {{address: 127.0.0.1, ports: {{http: {}}}}}\n", server.address.port()));
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec:\n  hosts: \
         [a.default.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: http, \
         protocol: HTTP}}]\n  endpoints:\n{}",
        endpoints.collect::<String>()
    );
    let builder = Mesh::builder().workload(Workload::new("default", "caller")).config_text("entry.yaml", &entry);
    builder.config_text("prequal.yaml", policy).dangerous().without_identity().start().await.unwrap()
}

/// Busy: answers ride on responses.
#[tokio::test]
async fn a_busy_client_sends_few_probes() {
    let servers = [Open::start("one", true).await, Open::start("two", true).await, Open::start("three", true).await];
    let caller = caller(&servers.each_ref(), PREQUAL).await;
    let client = caller.client();
    let probes = || servers.iter().map(Open::probes).sum::<usize>();
    for _ in 0..20 {
        name(&client).await;
    }
    until("it asked around", || async { probes() > 0 }).await;
    let before = probes();
    for _ in 0..400 {
        name(&client).await;
    }
    let while_busy = probes() - before;
    // Two for each request, if nothing rode on responses; an eighth of that goes on in any case, and some are due where few
    // answers are known.
    assert!(while_busy <= 2 * 400 / 8 + 16, "{while_busy} probes for 400 requests");
}

/// Idle: answers grow old, and are replaced, though nobody sends a request.
#[tokio::test]
async fn an_idle_client_probes() {
    let servers = [Open::start("one", true).await, Open::start("two", true).await];
    let caller = caller(&servers.each_ref(), &PREQUAL.replace("probeMaxAge: 20s", "probeMaxAge: 40ms")).await;
    name(&caller.client()).await;
    let from = servers.each_ref().map(|server| server.probes());
    until("each is asked again and again", || async {
        servers.iter().zip(from).all(|(server, from)| server.probes() >= from + 5)
    })
    .await;
}

/// Nobody answers: each is asked once, and the one with fewer requests of this client's gets the next.
#[tokio::test]
async fn servers_without_an_answer_are_chosen_by_requests_in_flight() {
    let servers = [Open::start("one", false).await, Open::start("two", false).await];
    let caller = caller(&servers.each_ref(), PREQUAL).await;
    let client = caller.client();
    let mut names = Vec::new();
    for _ in 0..40 {
        names.push(name(&client).await);
    }
    assert!(["one", "two"].iter().all(|name| names.iter().any(|seen| seen == name)), "{names:?}");
    let held = tokio::spawn({
        let client = client.clone();
        async move { fetch(&client, get("http://a/held")).await.into_body() }
    });
    let holding = |server: &Open| server.arrived.load(Ordering::SeqCst) == 1;
    until("one request is held", || async { servers.iter().any(holding) }).await;
    let free = if holding(&servers[0]) { "two" } else { "one" };
    for _ in 0..40 {
        assert_eq!(name(&client).await, free, "least request");
    }
    servers.iter().for_each(|server| server.go.add_permits(1));
    assert_ne!(held.await.unwrap(), free);
    for server in &servers {
        assert!(server.probes() <= 1, "{} probes of one that does not answer", server.probes());
    }
}

/// A stranger on a port that takes plaintext, and a question that somebody tries to pass on through a proxy.
#[tokio::test]
async fn strangers_are_told_nothing_and_nobodys_question_is_passed_on() {
    let world = World::new();
    world.remove("strict.yaml");
    world.service("a", 80, "http");
    let application = |request: Request<AxumBody>| async move {
        assert!(!request.headers().contains_key("x-mesh-load"));
        "the application"
    };
    let router = Router::new().route("/", route(application)).fallback(|| async { "nothing here" });
    let server = world.run("a", "v1", router).await;
    let stranger = async |request: &str| {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let report = stranger("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-mesh-load: report\r\n\r\n").await;
    assert!(report.starts_with("HTTP/1.1 200") && report.ends_with("the application"), "{report}");
    let probe = stranger("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-mesh-load: probe\r\n\r\n").await;
    assert!(probe.ends_with("the application"), "{probe}");
    assert!(!report.contains("x-mesh-load") && !probe.contains("x-mesh-load"), "{report}{probe}");

    let caller = world.mesh("caller", "v1").await;
    for question in ["probe", "report"] {
        let request = Request::get("http://a/").header("x-mesh-load", question).body(Body::empty()).unwrap();
        let response = fetch(&caller.client(), request).await;
        assert!(!response.headers().contains_key("x-mesh-load"));
        assert_eq!(response.body(), "the application", "{question}");
    }
}
