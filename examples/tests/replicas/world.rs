//! Replicas as processes, and what they share.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use mesh::{Body, Client, Mesh, Workload};
use mesh_test::Scratch;
use serde_json::Value;

use crate::REPLICA_STATE;

/// What a test may wait for takes milliseconds to seconds; beyond this it does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the replicas come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The bookinfo example as a user starts it: `bookinfo --service ratings-v1`. HTTP/1.1.
    Bookinfo,
    /// [`replica_process`]: its answers take 20 ms, so that many requests are in flight, on few HTTP/2 connections.
    Http2,
}

impl Kind {
    pub(crate) fn host(self) -> &'static str {
        match self {
            Self::Bookinfo => "ratings",
            Self::Http2 => "slow",
        }
    }

    pub(crate) fn uri(self) -> &'static str {
        match self {
            Self::Bookinfo => "http://ratings:9080/ratings/0",
            Self::Http2 => "http://slow:9080/",
        }
    }
}

/// What the processes of one round share.
pub(crate) struct World {
    scratch: Scratch,
    kind: Kind,
}

impl World {
    pub(crate) fn new(kind: Kind) -> Self {
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

    pub(crate) async fn client(&self, rules: &str) -> Client<Body> {
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
    pub(crate) async fn replica(&self) -> Replica {
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

pub(crate) fn builder(state: &Path, workload: Workload) -> mesh::Builder {
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
  ports: [{name: grpc, port: 9080}, {name: http, port: 9081}]
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

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A replica's process. Never outlives the test.
pub(crate) struct Replica {
    child: Option<Child>,
    pub(crate) address: String,
}

impl Replica {
    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// SIGKILL. Returns when its sockets are closed, and between which instants that happened.
    pub(crate) async fn kill(&mut self) -> Death {
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

    pub(crate) fn terminate(&mut self) {
        let pid = self.child().id();
        let kill = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status();
        assert!(kill.unwrap().success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
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
pub(crate) struct Death {
    pub(crate) signalled: Instant,
    pub(crate) gone: Instant,
}
