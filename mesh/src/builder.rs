//! Starting a mesh: who I am, where config and identity come from.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mesh_core::{
    Workload,
    config::Issues,
    discover::Discover,
    registry::{Resolve, SystemResolver},
};
use mesh_routing::RateLimits;

use crate::{
    Mesh,
    config::{Reader, Source},
    discovery::Discovery,
    identity::IdentityOrigin,
    network::{Connect, Tcp},
};

/// Where a workload's certificate, key and roots lie when the builder is told nothing: where Istio mounts them
/// (istio `FILE_MOUNTED_CERTS`).
const DEFAULT_CERTS: &str = "/etc/certs";

/// Builds a [`Mesh`]. Made by [`Mesh::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until start() is called"]
pub struct Builder {
    pub(crate) workload: Workload,
    pub(crate) reader: Reader,
    pub(crate) identity: IdentityOrigin,
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) resolve: Arc<dyn Resolve>,
    pub(crate) discovery: Discovery,
    pub(crate) egress_roots: Vec<Vec<u8>>,
    pub(crate) linger: Duration,
    pub(crate) rate_limits: RateLimits,
    pub(crate) client_index: Option<u32>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let certs = Path::new(DEFAULT_CERTS);
        Self {
            workload: Workload::new("default", "unknown"),
            reader: Reader::default(),
            identity: IdentityOrigin::Files {
                cert: certs.join("cert-chain.pem"),
                key: certs.join("key.pem"),
                roots: certs.join("root-cert.pem"),
            },
            connect: Arc::new(Tcp),
            resolve: default_resolver(),
            discovery: Discovery::default(),
            egress_roots: Vec::new(),
            linger: Duration::from_secs(5),
            rate_limits: RateLimits::default(),
            client_index: None,
        }
    }

    /// Who I am: namespace, workload name, labels and service account. Config is read from this point of view.
    pub fn workload(mut self, workload: Workload) -> Self {
        self.workload = workload;
        self
    }

    /// Read configuration from a file of YAML documents, or from a directory's `*.yaml`, `*.yml` and `*.json`
    /// (subdirectories are not read; one that holds configuration is a warning). Watched: a change is in force within a moment. May be called again; files are
    /// taken in the order of the calls, and by name within a directory.
    pub fn config_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.reader.sources.push(Source::Path(path.into()));
        self
    }

    /// Take configuration from text in code. `name` stands where a file's name would in messages.
    pub fn config_text(mut self, name: &str, yaml: &str) -> Self {
        self.reader.sources.push(Source::Text(name.into(), yaml.into()));
        self
    }

    /// Take an object of configuration from a value in code: `json!({"apiVersion": …, "kind": …, …})`.
    pub fn config_value(self, name: &str, object: &serde_json::Value) -> Self {
        // JSON is YAML.
        self.config_text(name, &object.to_string())
    }

    /// Take the workload's identity from PEM files: certificate chain, private key, and the roots of the own trust
    /// domain. Re-read when they change. Default: `cert-chain.pem`, `key.pem` and `root-cert.pem` in `/etc/certs`.
    pub fn identity_files(
        mut self,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        roots: impl Into<PathBuf>,
    ) -> Self {
        self.identity = IdentityOrigin::Files { cert: cert.into(), key: key.into(), roots: roots.into() };
        self
    }

    /// Take the workload's identity from an embedded certificate authority for development, kept in a directory
    /// that the processes of one demonstration share. Whoever reads that directory can be anybody.
    #[cfg(feature = "dev-ca")]
    pub fn development_identity(mut self, directory: impl Into<PathBuf>) -> Self {
        self.identity = IdentityOrigin::Development(directory.into());
        self
    }

    /// How connections are made. Default [`Tcp`].
    pub fn connect(mut self, connect: impl Connect) -> Self {
        self.connect = Arc::new(connect);
        self
    }

    /// How names are looked up. Default: with DNS itself, as the operating system's settings say (`HickoryResolver`, feature
    /// `dns`); [`SystemResolver`] without that feature, or where there are no such settings.
    pub fn resolver(mut self, resolve: impl Resolve) -> Self {
        self.resolve = Arc::new(resolve);
        self
    }

    /// Take endpoints from one more source, [`Published`](crate::Published) in code for instance. May be called again.
    ///
    /// A source is asked about the services that configuration names (a ServiceEntry needs no endpoints of its own), each
    /// from its first request on, once for the whole process, and left alone when a service is idle
    /// ([`discovery_idle`](Self::discovery_idle)). Where several know an address, the source that was given first describes
    /// it; every source knows better than documents, and documents better than DNS. A source that is lost takes nothing with
    /// it: what it said last stays. The first requests to a service that has no endpoint yet wait for the sources' first
    /// answers, at most for the connect timeout.
    ///
    /// ```
    /// use mesh::{Endpoint, EndpointAddress, Mesh, Published};
    /// use serde_json::json;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let entry = json!({
    ///     "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "inventory"},
    ///     "spec": {
    ///         "hosts": ["inventory.internal"], "location": "MESH_INTERNAL", "resolution": "STATIC",
    ///         "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    ///     },
    /// });
    /// let published = Published::new();
    /// let mesh = Mesh::builder()
    ///     .config_value("inventory", &entry)
    ///     .discover(published.clone())
    ///     .dangerous()
    ///     .without_identity()
    ///     .start()
    ///     .await?;
    ///
    /// // Whenever the application knows: in effect for the next request.
    /// published.add("inventory.internal", 80, Endpoint::new(EndpointAddress::new("10.0.0.7", 8080)));
    /// # drop(mesh);
    /// # Ok(())
    /// # }
    /// ```
    pub fn discover(mut self, source: impl Discover) -> Self {
        self.discovery.push(source);
        self
    }

    /// How long after its last request a service's sources are still followed. Default 5 min. What they said last stays in
    /// force, and with the next request they are asked again.
    pub fn discovery_idle(mut self, idle: Duration) -> Self {
        self.discovery.set_idle(idle);
        self
    }

    /// Roots (PEM) for TLS to servers outside the mesh, instead of the operating system's. May be called again.
    pub fn egress_roots_pem(mut self, pem: &[u8]) -> Self {
        self.egress_roots.push(pem.to_vec());
        self
    }

    /// How long idle HTTP/1.1 connections are still answered after shutdown began. Default 5 s.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Local rate limits made in code; they are asked before those of a MeshPolicy, and no change of configuration
    /// touches them.
    pub fn rate_limits(mut self, limits: RateLimits) -> Self {
        self.rate_limits = limits;
        self
    }

    /// Which one of its fleet this process is, counted from 0 without gaps: a StatefulSet's ordinal, for instance. Where a
    /// MeshPolicy has `subsetting`, clients with an index share out the endpoints of large services evenly (see
    /// [`mesh_lb::Subsetting`]); without one the fullest endpoint may have twice the mean.
    pub fn client_index(mut self, index: u32) -> Self {
        self.client_index = Some(index);
        self
    }

    /// Switches that weaken a default.
    pub fn dangerous(self) -> Dangerous {
        Dangerous(self)
    }

    /// Read config and identity, and start.
    ///
    /// # Errors
    /// Any error in configuration (there is no last good version yet), or no identity. [`StartError`] displays
    /// every issue with its place.
    pub async fn start(self) -> Result<Mesh, StartError> {
        Mesh::start(self).await
    }
}

/// DNS itself, where the operating system says whom to ask.
fn default_resolver() -> Arc<dyn Resolve> {
    #[cfg(feature = "dns")]
    match mesh_core::registry::HickoryResolver::from_system() {
        Ok(resolver) => return Arc::new(resolver),
        Err(error) => tracing::info!(target: "mesh::dns", %error, "names are looked up by the operating system"),
    }
    Arc::new(SystemResolver)
}

/// Switches that weaken a default, by name.
#[derive(Debug)]
#[must_use = "a builder does nothing until start() is called"]
pub struct Dangerous(Builder);

impl Dangerous {
    /// No identity: no mutual TLS in either direction. Servers accept plaintext only where PeerAuthentication does not
    /// say STRICT, and clients call in-mesh endpoints in plaintext.
    pub fn without_identity(mut self) -> Builder {
        self.0.identity = IdentityOrigin::None;
        self.0
    }
}

/// Why a mesh did not start.
///
/// Its `Debug` is its `Display`: a `main` that returns it shows the text meant for people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Configuration has errors. Displays all issues, warnings too, one a line.
    #[error("configuration has errors:\n{0}")]
    Config(Issues),
    /// The workload has no identity.
    #[error(
        "no identity for the workload: {0}. Give Builder::identity_files(cert, key, roots), for development \
         Builder::development_identity(dir), or Builder::dangerous().without_identity()"
    )]
    Identity(#[source] mesh_core::BoxError),
    /// Roots given for egress are not certificates.
    #[error("egress roots: {0}")]
    EgressRoots(#[source] mesh_core::BoxError),
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
