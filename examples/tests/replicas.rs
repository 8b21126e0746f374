//! Replicas that die and replicas that leave, as processes under load.
//!
//! The load comes from this process, through a mesh client that shares registry and development CA with two replica
//! processes. Every request is recorded: when it began and ended, which endpoint its last attempt went to, and why it
//! failed. What must hold is then checked request by request, not by comparing sums: a request may have failed only if
//! it was in flight on the replica that died, at the moment it died.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers of tests; processes live in real time")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use axum::{Router, routing::get};
use http::{Method, Request};
use http_body_util::BodyExt;
use mesh::{Body, Client, Exchange, Labels, Mesh, Workload};
use mesh_test::Scratch;
use serde_json::Value;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Requests at a time.
const TASKS: usize = 32;
/// Races differ from run to run.
const ROUNDS: usize = 3;
/// What a test may wait for takes milliseconds to seconds; beyond this it does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the replicas come from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// The bookinfo example as a user starts it: `bookinfo --service ratings-v1`. HTTP/1.1.
    Bookinfo,
    /// [`replica_process`]: its answers take 20 ms, so that many requests are in flight, on few HTTP/2 connections.
    Http2,
}

impl Kind {
    fn host(self) -> &'static str {
        match self {
            Self::Bookinfo => "ratings",
            Self::Http2 => "slow",
        }
    }

    fn uri(self) -> &'static str {
        match self {
            Self::Bookinfo => "http://ratings:9080/ratings/0",
            Self::Http2 => "http://slow:9080/",
        }
    }
}

/// What the processes of one round share.
struct World {
    scratch: Scratch,
    kind: Kind,
}

impl World {
    fn new(kind: Kind) -> Self {
        let scratch = Scratch::new();
        let _ = scratch.dir("workloads");
        Self { scratch, kind }
    }

    fn state(&self) -> &Path {
        self.scratch.path()
    }

    fn builder(&self, workload: Workload) -> mesh::Builder {
        builder(self.state(), workload)
    }

    async fn client(&self, rules: &str) -> Client<Body> {
        let workload = Workload::new("default", "load").with_service_account("load");
        let mesh = self.builder(workload).config_text("rules", rules).start().await;
        // The client holds no mesh: without one nobody would follow the registry.
        let mesh = mesh.unwrap_or_else(|error| panic!("{error}"));
        let client = mesh.client();
        tokio::spawn(async move {
            let _mesh = mesh;
            std::future::pending::<()>().await;
        });
        client
    }

    /// Start a replica and wait until it is announced.
    async fn replica(&self) -> Replica {
        let mut command = match self.kind {
            Kind::Bookinfo => {
                let mut command = Command::new(bookinfo());
                command.args(["--service", "ratings-v1", "--state"]).arg(self.state());
                command
            }
            Kind::Http2 => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--exact", "replica_process", "--nocapture"]).env(REPLICA_STATE, self.state());
                command
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut replica = Replica { child: Some(child), address: String::new() };
        let pid = replica.child().id().to_string();
        until("the replica announces itself", || {
            replica.address = announced(&self.state().join("workloads"), &pid).unwrap_or_default();
            !replica.address.is_empty()
        })
        .await;
        replica
    }
}

fn builder(state: &Path, workload: Workload) -> mesh::Builder {
    Mesh::builder()
        .workload(workload)
        .config_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("bookinfo/mesh/registry"))
        .config_path(state.join("workloads"))
        .config_text("slow", SLOW)
        .development_identity(state.join("ca"))
}

const SLOW: &str = "
apiVersion: v1
kind: Service
metadata: {name: slow}
spec:
  selector: {app: slow}
  ports: [{name: grpc, port: 9080}]
";

/// The example as `cargo test` builds it beside this test; built here where only this test was asked for, and the one
/// that lies there is older than the library or not there at all.
fn bookinfo() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let binary = profile.join("examples/bookinfo");
        let library = |path: &Path| path.extension().is_some_and(|extension| extension == "rlib");
        let files = std::fs::read_dir(profile.join("deps")).unwrap().map(|file| file.unwrap().path());
        let ours = files.filter(|path| library(path) && path.to_string_lossy().contains("libmesh_examples-"));
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let newest = ours.chain([manifest.join("bookinfo/main.rs")]).filter_map(|path| changed(&path)).max();
        if changed(&binary) < newest {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["build", "--quiet", "-p", env!("CARGO_PKG_NAME"), "--example", "bookinfo", "--target-dir"]);
            cargo.arg(profile.parent().unwrap()).current_dir(manifest);
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success(), "the example builds");
        }
        binary
    };
    BINARY.get_or_init(find).clone()
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Where the process `pid` says that it listens.
fn announced(workloads: &Path, pid: &str) -> Option<String> {
    std::fs::read_dir(workloads).unwrap().find_map(|file| {
        let entry: Value = serde_json::from_slice(&std::fs::read(file.ok()?.path()).ok()?).ok()?;
        let spec = &entry["spec"];
        let found = entry["metadata"]["annotations"]["mesh.rs/pid"] == pid;
        found.then(|| format!("{}:{}", spec["address"].as_str().unwrap(), spec["ports"]["http"]))
    })
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A replica's process. Never outlives the test.
struct Replica {
    child: Option<Child>,
    address: String,
}

impl Replica {
    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// SIGKILL. Returns when its sockets are closed, and between which instants that happened.
    async fn kill(&mut self) -> Death {
        let mut child = self.child.take().unwrap();
        let kill = move || {
            let signalled = Instant::now();
            child.kill().unwrap();
            // A process is waited for only after the kernel has closed its files.
            child.wait().unwrap();
            Death { signalled, gone: Instant::now() }
        };
        tokio::task::spawn_blocking(kill).await.unwrap()
    }

    fn terminate(&mut self) {
        let pid = self.child().id();
        let kill = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status();
        assert!(kill.unwrap().success());
    }

    async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        until("the replica exits", || {
            status = self.child().try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[derive(Clone, Copy)]
struct Death {
    signalled: Instant,
    gone: Instant,
}

/// What became of one request.
#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    started: Instant,
    ended: Instant,
    /// Of the last attempt.
    endpoint: String,
    attempts: u32,
    failure: Option<String>,
}

impl Sent {
    fn in_flight_at(&self, death: Death) -> bool {
        self.started <= death.gone && self.ended >= death.signalled
    }
}

/// A load of [`TASKS`] requests at a time.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Sent>>>,
    tasks: JoinSet<()>,
}

impl Load {
    /// The n-th request of each task has the n-th of these methods, and over again.
    fn start(client: &Client<Body>, kind: Kind, methods: &'static [Method]) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let (client, stop, sent) = (client.clone(), Arc::clone(&stop), Arc::clone(&sent));
            tasks.spawn(async move {
                for method in methods.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = send(&client, kind, method).await;
                    sent.lock().unwrap().push(outcome);
                }
            });
        }
        Self { stop, sent, tasks }
    }

    fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// Wait for this many more requests.
    async fn more(&self, count: usize) {
        let enough = self.count() + count;
        until("the load goes on", || self.count() >= enough).await;
    }

    /// Wait until each of these has answered a good many requests.
    async fn reached(&self, replicas: [&Replica; 2]) {
        let answered = |replica: &Replica| {
            let sent = self.sent.lock().unwrap();
            sent.iter().filter(|sent| sent.endpoint == replica.address && sent.failure.is_none()).count()
        };
        until("both replicas answer", || replicas.iter().all(|replica| answered(replica) >= 200)).await;
    }

    async fn stop(mut self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

async fn send(client: &Client<Body>, kind: Kind, method: &Method) -> Sent {
    let mut request = Request::builder().method(method).uri(kind.uri());
    let mut body = Body::empty();
    if method == Method::POST {
        request = request.header("content-type", "application/json");
        body = Body::from(r#"{"Reviewer1": 5, "Reviewer2": 4}"#);
    }
    let started = Instant::now();
    let response = client.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let exchange = parts.extensions.get::<Exchange>().cloned().unwrap_or_default();
    let endpoint = exchange.endpoint.as_ref().map(|endpoint| endpoint.address.to_string()).unwrap_or_default();
    let failure = match &body {
        Err(error) => Some(format!("{} body: {error}", parts.status)),
        Ok(_) if parts.status == 200 => None,
        Ok(body) => Some(format!("{} {} {body:?}", parts.status, exchange.flags)),
    };
    Sent { method: method.clone(), started, ended: Instant::now(), endpoint, attempts: exchange.attempts, failure }
}

/// How often each failure happened, and to whom: what a failing test prints.
fn summary<'a>(sent: impl IntoIterator<Item = &'a Sent>, since: Instant) -> String {
    let mut kinds = BTreeMap::<String, (usize, Duration, Duration)>::new();
    for sent in sent {
        let key = format!("{} {} x{}: {:?}", sent.method, sent.endpoint, sent.attempts, sent.failure);
        let (start, end) = (sent.started.saturating_duration_since(since), sent.ended.saturating_duration_since(since));
        let kind = kinds.entry(key).or_insert((0, start, end));
        *kind = (kind.0 + 1, kind.1.max(start), kind.2.max(end));
    }
    let lines = kinds.iter().map(|(kind, (count, start, end))| {
        format!("  {count:6} {kind}; last began {start:?} after the signal, ended {end:?}\n")
    });
    lines.collect()
}

/// One of two replicas dies under load, round after round; every request is then judged.
async fn kill_one(kind: Kind, rules: &str, judge: impl Fn(&Sent, Death, &str) -> bool) {
    for round in 0..ROUNDS {
        let world = World::new(kind);
        let (mut dies, stays) = tokio::join!(world.replica(), world.replica());
        let client = world.client(rules).await;
        let load = Load::start(&client, kind, &[Method::GET]);
        load.reached([&dies, &stays]).await;
        let death = dies.kill().await;
        // Its WorkloadEntry stays: half of these go to where nobody listens, first.
        load.more(1500).await;
        let sent = load.stop().await;

        let total = sent.len();
        let in_flight = sent.iter().filter(|sent| sent.endpoint == dies.address && sent.in_flight_at(death)).count();
        let failed: Vec<_> = sent.iter().filter(|sent| sent.failure.is_some()).collect();
        let report = summary(failed.iter().copied(), death.signalled);
        println!(
            "{kind:?} round {round}: {total} requests, {in_flight} in flight on the one while it died, {} failed, {} retried\n{report}",
            failed.len(),
            sent.iter().filter(|sent| sent.attempts > 1).count(),
        );
        assert!(total >= 1900);
        let unforgiven = failed.iter().copied().filter(|sent| !judge(sent, death, &dies.address));
        let unforgiven = summary(unforgiven, death.signalled);
        assert!(unforgiven.is_empty(), "round {round}, of {total} requests:\n{unforgiven}");
        assert!(failed.len() <= TASKS, "round {round}: {report}");
        let retried = sent.iter().filter(|sent| sent.attempts > 1 && sent.endpoint == stays.address);
        assert!(retried.count() > 0, "somebody met the dead one and was served by the other");
    }
}

/// With Istio's default retries a request may fail only if it was in flight on the replica, when that died.
fn was_in_flight(sent: &Sent, death: Death, dead: &str) -> bool {
    sent.endpoint == dead && sent.in_flight_at(death)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_loses_what_was_in_flight_on_it_and_nothing_else() {
    kill_one(Kind::Bookinfo, "", was_in_flight).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_h2_replica_loses_what_was_in_flight_on_it_and_nothing_else() {
    kill_one(Kind::Http2, "", was_in_flight).await;
}

const RETRY_RESETS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: HOST}
spec:
  hosts: [HOST]
  http:
  - route: [{destination: {host: HOST}}]
    retries: {attempts: 2, retryOn: 'reset,connect-failure'}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: HOST}
spec:
  host: HOST
  trafficPolicy:
    retryBudget: {percent: 100}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_loses_nothing_where_resets_are_retried() {
    kill_one(Kind::Bookinfo, &RETRY_RESETS.replace("HOST", Kind::Bookinfo.host()), |_, _, _| false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_h2_replica_loses_nothing_where_resets_are_retried() {
    kill_one(Kind::Http2, &RETRY_RESETS.replace("HOST", Kind::Http2.host()), |_, _, _| false).await;
}

const NO_RETRIES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: HOST}
spec:
  hosts: [HOST]
  http:
  - route: [{destination: {host: HOST}}]
    retries: {attempts: 0}
";

/// One of two replicas is told to leave under load, round after round.
async fn terminate_one(kind: Kind, rules: &str) {
    for round in 0..ROUNDS {
        let world = World::new(kind);
        let (mut leaves, stays) = tokio::join!(world.replica(), world.replica());
        let client = world.client(rules).await;
        let load = Load::start(&client, kind, &[Method::GET, Method::POST]);
        load.reached([&leaves, &stays]).await;
        let signalled = Instant::now();
        leaves.terminate();
        let exit = async { (leaves.exit().await, Instant::now()) };
        let ((status, exited), ()) = tokio::join!(exit, load.more(1500));
        load.more(500).await;
        let sent = load.stop().await;

        let total = sent.len();
        let posts = sent.iter().filter(|sent| sent.method == Method::POST).count();
        let after = sent.iter().filter(|sent| sent.endpoint == leaves.address && sent.started > signalled).count();
        println!(
            "{kind:?} round {round}: {total} requests, {posts} of them POST, {after} answered by the leaving one after \
             the signal, which exited after {:?}",
            exited - signalled,
        );
        let failed = summary(sent.iter().filter(|sent| sent.failure.is_some()), signalled);
        assert!(failed.is_empty(), "round {round}, of {total} requests:\n{failed}");
        assert_eq!(status.code(), Some(0), "it ends by itself");
        assert!(total >= 2400 && posts.abs_diff(total - posts) <= TASKS);
        let late = sent.iter().filter(|sent| sent.endpoint == leaves.address && sent.started > exited).count();
        assert_eq!(late, 0, "it has left discovery");
    }
}

/// Nothing is retried: a leaving replica has to take in what still comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_told_to_leave_loses_nothing() {
    terminate_one(Kind::Bookinfo, &NO_RETRIES.replace("HOST", Kind::Bookinfo.host())).await;
}

/// With Istio's default retries: a stream that crosses with GOAWAY is refused, unprocessed, and sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_h2_replica_that_is_told_to_leave_loses_nothing() {
    terminate_one(Kind::Http2, "").await;
}

/// Set for a process that is to be a replica.
const REPLICA_STATE: &str = "REPLICAS_TEST_STATE";

/// Not a test: the service `slow`, when this binary is started as one of its replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_process() {
    let Some(state) = std::env::var_os(REPLICA_STATE).map(PathBuf::from) else { return };
    let workload = Workload::new("default", "slow-v1")
        .with_labels(Labels::from_iter([("app", "slow")]))
        .with_service_account("slow");
    let mesh = builder(&state, workload).linger(Duration::from_millis(500)).start().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let slow = async |body: String| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        body
    };
    let serving = mesh.clone();
    let server =
        tokio::spawn(async move { serving.serve(listener, Router::new().route("/", get(slow).post(slow))).await });
    mesh.register(state.join("workloads"), address).unwrap();
    assert!(mesh.shutdown_on_signal().await, "in-flight requests end within the grace period");
    server.await.unwrap().unwrap();
}
