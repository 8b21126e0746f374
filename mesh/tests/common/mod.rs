//! A small world: services on loopback that find each other through a registry directory and share a development CA.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "each test binary uses a part; a fixture may panic"
)]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use mesh::{Body, Builder, Client, Labels, Mesh, Workload};
use mesh_test::Scratch;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::ServiceExt as _;

pub const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

/// Directories that the services of one test share.
pub struct World {
    pub scratch: Scratch,
}

/// A running service.
pub struct Running {
    pub mesh: Mesh,
    pub address: SocketAddr,
    pub server: JoinHandle<std::io::Result<()>>,
}

impl World {
    pub fn new() -> Self {
        let world = Self { scratch: Scratch::new() };
        world.write("strict.yaml", STRICT);
        world
    }

    pub fn ca(&self) -> PathBuf {
        self.scratch.path().join("ca")
    }

    pub fn config(&self) -> PathBuf {
        self.scratch.dir("config")
    }

    /// Write a file of configuration that every service of this world watches.
    pub fn write(&self, name: &str, yaml: &str) -> PathBuf {
        self.config();
        self.scratch.write(&format!("config/{name}"), yaml)
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.config().join(name)).unwrap();
    }

    /// A Kubernetes service with one port.
    pub fn service(&self, name: &str, port: u16, port_name: &str) {
        self.write(
            &format!("service-{name}.yaml"),
            &format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: {name}}}\n  \
                 ports: [{{name: {port_name}, port: {port}}}]\n"
            ),
        );
    }

    pub fn builder(&self, app: &str, version: &str) -> Builder {
        let workload = Workload::new("default", &format!("{app}-{version}"))
            .with_labels(Labels::from_iter([("app", app), ("version", version)]))
            .with_service_account(app);
        Mesh::builder()
            .workload(workload)
            .config_path(self.config())
            .development_identity(self.ca())
            .linger(Duration::from_millis(300))
    }

    pub async fn mesh(&self, app: &str, version: &str) -> Mesh {
        self.builder(app, version).start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Run an axum service of the world, registered.
    pub async fn run(&self, app: &str, version: &str, router: Router) -> Running {
        let mesh = self.mesh(app, version).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = mesh.clone();
        let server = tokio::spawn(async move { serving.serve(listener, router).await });
        mesh.register(self.config(), address).unwrap();
        Running { mesh, address, server }
    }
}

/// Send one request and read the whole response.
pub async fn fetch<B>(client: &Client<B>, request: Request<B>) -> Response<Bytes>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<mesh::BoxError>,
{
    let (parts, body) = client.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Response::from_parts(parts, body)
}

pub fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

/// Wait until a condition holds; fails the test when it does not within 20 s.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), holds).await.is_ok(), "not within 20 s: {what}");
}

/// Send requests from `tasks` tasks until `enough` says so; every response goes to `check`.
pub async fn load(
    client: &Client<Body>,
    tasks: usize,
    request: impl Fn(usize) -> Request<Body> + Send + Sync + 'static,
    check: impl Fn(usize, Response<Bytes>) + Send + Sync + 'static,
    enough: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> usize {
    let (request, check, enough) = (Arc::new(request), Arc::new(check), Arc::new(enough));
    let counter = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (client, counter) = (client.clone(), Arc::clone(&counter));
        let (request, check, enough) = (Arc::clone(&request), Arc::clone(&check), Arc::clone(&enough));
        running.spawn(async move {
            loop {
                let index = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if enough(index) {
                    return;
                }
                check(index, fetch(&client, request(index)).await);
            }
        });
    }
    while let Some(task) = running.join_next().await {
        task.unwrap();
    }
    counter.load(std::sync::atomic::Ordering::Relaxed) - tasks
}
