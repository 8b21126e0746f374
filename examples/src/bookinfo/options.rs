//! What to start.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use super::Deployment;

type Configure = dyn Fn(Deployment, mesh::Builder) -> mesh::Builder + Send + Sync;

/// How [`start`](super::start) starts bookinfo. [`Options::new`] is what `cargo run --example bookinfo` does.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Shared by all processes of one bookinfo: the development CA and one WorkloadEntry per running service.
    /// Created with mode 0700.
    pub state: PathBuf,
    /// Where productpage listens; port 0 takes a free one. Default `127.0.0.1:9080`.
    pub productpage: SocketAddr,
    /// What to run; one that is listed twice runs as two replicas. Default: all eight once.
    pub deployments: Vec<Deployment>,
    /// The services themselves and who may speak to them: always loaded. Default `bookinfo/mesh/registry`.
    pub registry: PathBuf,
    /// Traffic rules: files or directories, watched. Default `bookinfo/mesh`.
    pub apply: Vec<PathBuf>,
    /// Further config in code: a name for error messages, and YAML.
    pub texts: Vec<(String, String)>,
    /// How long in-flight requests may take at shutdown. Default 10 s, above the slowest answer of bookinfo.
    pub grace: Duration,
    configure: Arc<Configure>,
}

impl Options {
    /// All of bookinfo with its own rules and this state directory.
    #[must_use]
    pub fn new(state: impl Into<PathBuf>) -> Self {
        let mesh = own_config();
        Self {
            state: state.into(),
            productpage: SocketAddr::from(([127, 0, 0, 1], 9080)),
            deployments: Deployment::ALL.to_vec(),
            registry: mesh.join("registry"),
            apply: vec![mesh],
            texts: Vec::new(),
            grace: Duration::from_secs(10),
            configure: Arc::new(|_, builder| builder),
        }
    }

    /// Change each service's mesh before it starts: a resolver, roots for egress, another identity.
    #[must_use]
    pub fn configure<F>(mut self, configure: F) -> Self
    where
        F: Fn(Deployment, mesh::Builder) -> mesh::Builder + Send + Sync + 'static,
    {
        self.configure = Arc::new(configure);
        self
    }

    pub(super) fn builder(&self, deployment: Deployment, workloads: &std::path::Path) -> mesh::Builder {
        let mut builder = mesh::Mesh::builder()
            .workload(deployment.workload())
            .development_identity(self.state.join("ca"))
            .config_path(&self.registry)
            .config_path(workloads);
        for path in &self.apply {
            builder = builder.config_path(path);
        }
        for (name, text) in &self.texts {
            builder = builder.config_text(name, text);
        }
        (self.configure)(deployment, builder)
    }
}

/// `bookinfo/mesh` beside this crate's manifest where that is still there, else below the current directory.
fn own_config() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bookinfo/mesh");
    if here.is_dir() { here } else { PathBuf::from("examples/bookinfo/mesh") }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("state", &self.state)
            .field("productpage", &self.productpage)
            .field("deployments", &self.deployments)
            .field("registry", &self.registry)
            .field("apply", &self.apply)
            .field("texts", &self.texts)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}
