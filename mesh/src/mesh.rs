//! The handle of a running mesh.

mod tasks;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use mesh_core::{
    BoxError, Endpoint, HostPattern, Workload,
    config::{Issue, Issues},
    discover::dns::DnsSource,
};
use mesh_lb::{Cluster, ClusterSet, Clusters, SubsetClient};
use mesh_routing::Explanation;
use mesh_tls::{Acceptor, IdentityHandle};
use tower::Layer as _;
use tower_service::Service;

use crate::{
    Builder, Client, InboundLayer, ServerBody, StartError, admin,
    config::{self, Compiled, Store},
    connect::{Connector, Dialer},
    inbound::{Inbound, PeerAuth},
    jwks::{self, Fetcher},
    limits::Limits,
    metrics::MeshMetrics,
    network::Listen,
    observability,
    outbound::Outbound,
    register::Registration,
    serve::{self, Drain, Phase},
    signal,
};

/// A running mesh: discovery, routes, policy and identity of one workload. Clones are the same mesh.
///
/// Made by [`Mesh::builder`]. Its background tasks (watching config, rotating identity, looking up names) end when
/// the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Mesh {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) workload: Arc<Workload>,
    pub(crate) metrics: MeshMetrics,
    pub(crate) outbound: Outbound,
    pub(crate) inbound: Inbound,
    pub(crate) acceptor: Option<Acceptor>,
    pub(crate) drain: Drain,
    pub(crate) limits: Limits,
    pub(crate) identity: Option<IdentityHandle>,
    pub(crate) in_force: ArcSwapOption<ClusterSet>,
    clusters: Clusters,
    issues: RwLock<Issues>,
    registrations: Mutex<Vec<Registration>>,
    tasks: OnceLock<tasks::Tasks>,
    linger: Duration,
}

impl Mesh {
    /// Begin: say who you are and where config and identity come from, then [`start`](Builder::start).
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn start(builder: Builder) -> Result<Self, StartError> {
        let texts = builder.reader.read();
        let mut issues = Issues::default();
        let store = Store::default().update(&texts, &mut issues);
        let models = store.models();
        let workload = Arc::new(builder.workload);
        let client = builder.client_index.map_or_else(|| SubsetClient::Seed(rand::random()), SubsetClient::Index);
        let mut discovery = builder.discovery;
        discovery.set_names(DnsSource::new(Arc::clone(&builder.resolve)));
        let (clusters, wants) = discovery.clusters(client);
        let compiled = config::compile(&models, &workload, &clusters, &mut issues);
        if issues.has_errors() {
            return Err(StartError::Config(issues));
        }
        let opened = builder.identity.open(&workload, &models.mesh.trust_domain).await;
        let identity = opened.map_err(StartError::Identity)?;
        let handle = identity.as_ref().map(|identity| identity.handle.clone());
        let egress_tls = crate::identity::egress(&builder.egress_roots).map_err(StartError::EgressRoots)?;
        let fetcher = Fetcher {
            connect: Arc::clone(&builder.connect),
            resolve: Arc::clone(&builder.resolve),
            tls: egress_tls.clone(),
        };
        let dialer = Dialer {
            connect: builder.connect,
            resolve: builder.resolve,
            mesh_tls: handle.clone().map(mesh_tls::MeshTls::new),
            egress_tls,
        };
        let connector = Connector::new(dialer, handle.clone(), &workload);
        let routes = Arc::clone(&compiled.routes);
        let metrics = MeshMetrics::new();
        let limits = Limits::new(builder.rate_limits, &metrics);
        let own_id = handle.as_ref().map(|handle| handle.current().identity().id().clone());
        let inner = Arc::new(Inner {
            outbound: Outbound::new(&metrics, &workload, own_id.clone(), routes, &limits, connector),
            inbound: Inbound::new(&metrics, &workload, own_id, &limits),
            acceptor: handle.clone().map(Acceptor::new),
            workload,
            metrics,
            drain: Drain::new(),
            limits,
            clusters,
            in_force: ArcSwapOption::empty(),
            identity: handle,
            issues: RwLock::default(),
            registrations: Mutex::default(),
            tasks: OnceLock::new(),
            linger: builder.linger,
        });
        jwks::prefetch(&fetcher, &inner.inbound.keys, &compiled.authentications).await;
        inner.publish(compiled, issues);
        let discovery = discovery.run(inner.clusters.clone(), wants);
        let tasks = tasks::spawn(&inner, builder.reader, texts, store, identity, discovery, fetcher);
        let _ = inner.tasks.set(tasks);
        Ok(Self { inner })
    }

    /// A client for request bodies of type `B`. All clients of a mesh share pools, limits and statistics.
    #[must_use]
    pub fn client<B>(&self) -> Client<B> {
        Outbound::client(&self.inner)
    }

    /// What would become of a request, and why, by the routes in force now. Nothing is sent, and nothing is drawn: a route
    /// with several destinations lists them.
    #[must_use]
    pub fn explain<B>(&self, request: &Request<B>) -> Explanation {
        self.inner.outbound.routes.load().explain(request, None)
    }

    /// The outbound stack without its connections, as a layer over any HTTP client: reqwest's, for instance.
    ///
    /// The client gets each request with the chosen endpoint's address in its URL. What it then lacks: mutual TLS with
    /// mesh identity, because the client dials by itself; endpoints that want it refuse.
    #[must_use]
    pub fn outbound_layer(&self) -> crate::OutboundLayer {
        Outbound::layer(&self.inner)
    }

    /// The inbound stack as a layer, for those with an accept loop of their own. Without
    /// [`serve`](Self::serve) no peer is authenticated: put the verified
    /// [`PeerIdentity`](mesh_core::identity::PeerIdentity) into the request's extensions yourself.
    #[must_use]
    pub fn inbound_layer(&self) -> InboundLayer {
        InboundLayer::new(&self.inner)
    }

    /// Serve a hyper, axum or tonic service behind the inbound stack, until [`shutdown`](Self::shutdown) has drained it.
    ///
    /// # Errors
    /// When the listener has no address.
    pub async fn serve<L, S, RB>(&self, listener: L, service: S) -> io::Result<()>
    where
        L: Listen,
        S: Service<Request<ServerBody>, Response = Response<RB>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: HttpBody<Data = Bytes> + Send + 'static,
        RB::Error: Into<BoxError>,
    {
        let stack = self.inner.inbound.stack().layer(service);
        serve::serve(Arc::clone(&self.inner), listener, stack).await
    }

    /// Serve `/metrics`, `/ready` and `/live` in plaintext, for scrapers and probes, until drained.
    ///
    /// # Errors
    /// None today: a failed accept is tried again.
    pub async fn serve_observability<L: Listen>(&self, listener: L) -> io::Result<()> {
        observability::serve(Arc::clone(&self.inner), listener, observability::answer).await
    }

    /// Serve what a person wants to know of this mesh, in plaintext and to this machine alone: `/issues`, `/clusters`,
    /// `/certs` and what [`serve_observability`](Self::serve_observability) has. Until drained.
    ///
    /// # Errors
    /// When the listener's address is not a loopback address.
    pub async fn serve_admin<L: Listen>(&self, listener: L) -> io::Result<()> {
        admin::serve(Arc::clone(&self.inner), listener).await
    }

    /// Write a WorkloadEntry for this workload into a directory that others watch: it answers at `address`, which
    /// they dial, on service ports named `http`, `http2` and `grpc`. Removed first of all by
    /// [`shutdown`](Self::shutdown), or when the mesh is dropped.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn register(&self, directory: impl AsRef<Path>, address: SocketAddr) -> io::Result<()> {
        let registration = Registration::write(directory.as_ref(), &self.inner.workload, address)?;
        self.inner.registrations.lock().unwrap_or_else(PoisonError::into_inner).push(registration);
        Ok(())
    }

    /// Leave without failing a request: not ready and out of discovery first, then linger, then finish what is in flight
    /// within `grace`. Returns whether every connection ended by itself.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.inner.registrations.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.inner.outbound.connector.close_idle();
        self.inner.drain.run(self.inner.linger, grace).await
    }

    /// Resolves when a shutdown has begun: for work of the application's own, WebSockets for instance, that should end
    /// before the grace does.
    pub async fn draining(&self) {
        self.inner.drain.reached(Phase::Lingering).await;
    }

    /// Shut down when the process is told to end (SIGTERM, or Ctrl-C), with 30 s of grace: Kubernetes' own.
    ///
    /// The process listens for signals from this call on, not only when the future is polled: call it before
    /// [`register`](Self::register), or a signal that comes early ends the process on the spot.
    pub fn shutdown_on_signal(&self) -> impl Future<Output = bool> + Send + 'static {
        let (mesh, signal) = (self.clone(), signal::listen());
        async move {
            signal.await;
            mesh.shutdown(Duration::from_secs(30)).await
        }
    }

    /// The endpoints of a service's port that this mesh knows now, healthy or not. A short name is one of the own
    /// namespace; a service that is not known has none. Asking is a use: its sources are followed from now on.
    #[must_use]
    pub fn endpoints(&self, host: &str, port: u16) -> Vec<Arc<Endpoint>> {
        let Ok(HostPattern::Exact(host)) = HostPattern::resolve(host, &self.inner.workload.namespace) else {
            return Vec::new();
        };
        let Some(set) = self.inner.in_force.load_full() else { return Vec::new() };
        let found = set.iter().find(|cluster| {
            let name = cluster.name();
            name.subset.is_none() && name.port == port && name.service.host == host
        });
        let asked = |cluster: &Cluster| {
            cluster.want();
            cluster.endpoints()
        };
        found.map(asked).unwrap_or_default()
    }

    /// What is wrong with the configuration in force: errors whose last good version stands in, and warnings.
    #[must_use]
    pub fn issues(&self) -> Vec<Issue> {
        self.inner.issues().iter().cloned().collect()
    }

    /// All metrics, in Prometheus' text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.inner.metrics_text()
    }

    /// Who I am.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.inner.workload
    }

    /// The SPIFFE ID in my certificate; `None` without an identity.
    #[must_use]
    pub fn spiffe_id(&self) -> Option<mesh_core::identity::SpiffeId> {
        self.inner.identity.as_ref().map(|handle| handle.current().identity().id().clone())
    }
}

impl Inner {
    /// Put compiled configuration in force. Routes and the clusters they point at arrive in one swap.
    /// Put a configuration in force, and say what is wrong with it: at the start, and at each change.
    fn publish(&self, compiled: Compiled, issues: Issues) {
        for issue in &issues {
            tracing::warn!(target: "mesh::config", "{issue}");
        }
        tracing::info!(target: "mesh::config", errors = issues.errors().count(), "configuration taken in");
        self.outbound.connector.set_policy(compiled.security);
        self.outbound.routes.store(compiled.routes);
        self.limits.publish(compiled.rate_limits);
        self.in_force.store(Some(Arc::new(compiled.clusters)));
        self.inbound.telemetry.set_services(compiled.own_services);
        self.inbound.path_normalization.store(Arc::new(compiled.path_normalization));
        // Keys that no rule names any more are fetched anew when one does again.
        let named: Vec<_> =
            compiled.authentications.remote_keys().filter_map(|(source, _)| source.location()).cloned().collect();
        self.inbound.keys.retain(|known| named.iter().any(|location| **location == *known));
        self.inbound.authentications.store(Arc::new(compiled.authentications));
        self.inbound.policies.store(Arc::new(compiled.policies));
        self.inbound.peer_authentication.store(Arc::new(PeerAuth {
            policies: compiled.peer_authentications,
            workload: Arc::clone(&self.workload),
            root_namespace: compiled.root_namespace,
        }));
        self.inbound.changed.send_modify(|generation| *generation += 1);
        self.metrics.config_in_force(&issues);
        *self.issues.write().unwrap_or_else(PoisonError::into_inner) = issues;
    }

    pub(crate) fn metrics_text(&self) -> String {
        self.limits.count();
        self.metrics.render()
    }

    pub(crate) fn issues(&self) -> Issues {
        self.issues.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why this process should get no traffic, if so.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        if self.drain.phase() != Phase::Serving {
            return Some("shutting down");
        }
        let expired = |handle: &IdentityHandle| handle.current().identity().expired(mesh_core::clock::wall());
        if self.identity.as_ref().is_some_and(expired) {
            return Some("the identity has expired");
        }
        None
    }
}
