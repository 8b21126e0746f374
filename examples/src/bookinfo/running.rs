//! Bookinfo as it runs: each service with a socket, an identity and a mesh of its own, all in this process.

use std::{collections::BTreeMap, io, net::SocketAddr, path::Path, time::Duration};

use mesh::Mesh;
use tokio::{net::TcpListener, task::JoinSet};

use super::{Deployment, Options, ServiceKind, router, state};

/// Why bookinfo does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The state directory cannot be made or read.
    #[error("state directory {path}")]
    State {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// No socket for a service.
    #[error("{name} cannot listen on {address}")]
    Listen {
        /// The service.
        name: String,
        /// Where it was to listen.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A service's mesh does not start; its configuration for instance.
    #[error("{name}")]
    Mesh {
        /// The service.
        name: String,
        /// Every reason, one a line.
        source: mesh::StartError,
    },
    /// A service cannot announce itself.
    #[error("{name} cannot write its WorkloadEntry")]
    Register {
        /// The service.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

/// A bookinfo that runs until [`shutdown`](Running::shutdown). Dropping it stops accepting and waits for nothing.
#[derive(Debug)]
pub struct Running {
    /// All services, in the order of [`Options::deployments`].
    pub services: Vec<RunningService>,
    grace: Duration,
}

/// One service of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunningService {
    /// `reviews-v2`; further replicas are `reviews-v2-2` and so on. The `podname` in its answers.
    pub name: String,
    /// What it is.
    pub deployment: Deployment,
    /// Where it serves the mesh (productpage: browsers too).
    pub address: SocketAddr,
    /// Where it serves `/metrics`, `/ready` and `/live`, in plaintext.
    pub observability: SocketAddr,
    /// Where it shows a person its endpoints, certificate and config issues.
    pub admin: SocketAddr,
    mesh: Mesh,
    tasks: JoinSet<io::Result<()>>,
}

/// The port of every Service of bookinfo, here and in Istio's YAML.
const PORT: u16 = 9080;

/// How long [`start`] waits for the services to read each other's announcements: a registry of the caller's own may not
/// have them.
const ACQUAINTED: Duration = Duration::from_secs(3);

/// Start what `options` say. When this returns, each service listens, is announced, and knows the others.
///
/// # Errors
/// When the state directory, a socket, an identity or the configuration is not good; what was started ends.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let workloads = state::prepare(&options.state)
        .map_err(|source| StartError::State { path: options.state.display().to_string(), source })?;
    let mut replicas = BTreeMap::<String, u32>::new();
    let mut services = Vec::with_capacity(options.deployments.len());
    for deployment in &options.deployments {
        let replica = replicas.entry(deployment.to_string()).and_modify(|count| *count += 1).or_insert(1);
        let name = if *replica == 1 { deployment.to_string() } else { format!("{deployment}-{replica}") };
        services.push(RunningService::start(name, *deployment, &options, &workloads).await?);
    }
    let _ = tokio::time::timeout(ACQUAINTED, acquainted(&services)).await;
    Ok(Running { services, grace: options.grace })
}

/// Each service reads the announcements of the others from files, a moment after they were written.
async fn acquainted(services: &[RunningService]) {
    let knows = |mesh: &Mesh, other: &RunningService| {
        let endpoints = mesh.endpoints(other.deployment.service.name(), PORT);
        endpoints.iter().any(|endpoint| endpoint.address == other.address.into())
    };
    for service in services {
        while !services.iter().all(|other| knows(service.mesh(), other)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Running {
    /// Where to point a browser; `None` when productpage does not run here.
    #[must_use]
    pub fn productpage(&self) -> Option<SocketAddr> {
        let page = self.services.iter().find(|service| service.deployment.service == ServiceKind::Productpage)?;
        Some(page.address)
    }

    /// A service by name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&RunningService> {
        self.services.iter().find(|service| service.name == name)
    }

    /// End without failing a request: the page first, while those that it calls still answer, then the others.
    pub async fn shutdown(self) {
        let is_page = |service: &RunningService| service.deployment.service == ServiceKind::Productpage;
        let (pages, others): (Vec<_>, Vec<_>) = self.services.into_iter().partition(is_page);
        for group in [pages, others] {
            let mut ending = JoinSet::new();
            for service in group {
                ending.spawn(service.shutdown(self.grace));
            }
            ending.join_all().await;
        }
    }
}

impl RunningService {
    async fn start(
        name: String,
        deployment: Deployment,
        options: &Options,
        workloads: &Path,
    ) -> Result<Self, StartError> {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let wanted = if deployment.service == ServiceKind::Productpage { options.productpage } else { free };
        let (listener, address) = listen(&name, wanted).await?;
        let (metrics, observability) = listen(&name, free).await?;
        let (pages, admin) = listen(&name, free).await?;

        let started = options.builder(deployment, workloads).start().await;
        let mesh = started.map_err(|source| StartError::Mesh { name: name.clone(), source })?;

        let mut tasks = JoinSet::new();
        let app = router(deployment, &name, mesh.client());
        let inbound = mesh.clone();
        tasks.spawn(async move { inbound.serve(listener, app).await });
        let observed = mesh.clone();
        tasks.spawn(async move { observed.serve_observability(metrics).await });
        let shown = mesh.clone();
        tasks.spawn(async move { shown.serve_admin(pages).await });

        let registered = mesh.register(workloads, address);
        registered.map_err(|source| StartError::Register { name: name.clone(), source })?;
        Ok(Self { name, deployment, address, observability, admin, mesh, tasks })
    }

    /// Its mesh: clients of it call as this service does.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// End this service alone without failing a request, within the grace period for those in flight.
    pub async fn shutdown(mut self, grace: Duration) {
        self.mesh.shutdown(grace).await;
        self.tasks.shutdown().await;
    }
}

async fn listen(name: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { name: name.into(), address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
