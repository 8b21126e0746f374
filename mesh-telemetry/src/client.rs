//! The caller's side: what I asked of others.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwap;
use http::{Request, Response};
use http_body::Body;
use mesh_core::{ClusterName, Endpoint, Exchange, Progress, ServiceName, Workload, clock, identity::SpiffeId};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    body::{CountedBody, RecordingBody},
    host::Host,
    metrics::{ConnectionSecurity, Edge, EdgeLabels, Metrics, Reporter, UNKNOWN, WorkloadLabels},
    peer,
    recording::{Place, Recording},
    span,
    trace::{self, Sampler, TraceContext},
};

/// Istio's names of the routes and clusters for hosts outside the registry.
const BLOCK_ALL: &str = "block_all";
const BLACKHOLE: &str = "BlackHoleCluster";

/// Edges remembered by address before the memory starts again from nothing.
const MAX_REMEMBERED: usize = 1_024;

/// Telemetry of the requests that a workload sends. Clones are one.
#[derive(Clone, Debug)]
pub struct ClientTelemetry {
    state: Arc<State>,
    sampler: Sampler,
}

#[derive(Debug)]
struct State {
    metrics: Metrics,
    own: WorkloadLabels,
    memory: ArcSwap<Memory>,
}

/// Edges already built, for the labels that hold now.
///
/// Clusters and endpoints are known by their addresses, which is why they are kept alive here: an address that
/// could be used again would name another endpoint.
#[derive(Clone, Debug, Default)]
struct Memory {
    identity: Option<SpiffeId>,
    routed: HashMap<(usize, usize, ConnectionSecurity), RoutedEdge>,
    unrouted: HashMap<Arc<str>, Arc<Edge>>,
    passthrough: HashMap<Arc<str>, Arc<Edge>>,
    blocked: HashMap<Arc<str>, Arc<Edge>>,
}

#[derive(Clone, Debug)]
struct RoutedEdge {
    edge: Arc<Edge>,
    _cluster: Arc<ClusterName>,
    _endpoint: Option<Arc<Endpoint>>,
}

/// Where a request without a cluster of the registry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outside {
    Unrouted,
    Passthrough,
    Blocked,
}

impl ClientTelemetry {
    /// Telemetry into `metrics`, of requests that `workload` sends.
    #[must_use]
    pub fn new(metrics: Metrics, workload: &Workload) -> Self {
        let own = WorkloadLabels::own(workload);
        Self { state: Arc::new(State { metrics, own, memory: ArcSwap::default() }), sampler: Sampler::default() }
    }

    /// Record this share of the traces that begin here, instead of 1 %.
    #[must_use]
    pub fn with_sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = sampler;
        self
    }

    /// My own identity: `source_principal` of requests over mutual TLS.
    pub fn set_identity(&self, identity: Option<SpiffeId>) {
        if self.state.memory.load().identity != identity {
            self.state.memory.store(Arc::new(Memory { identity, ..Memory::default() }));
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.state.metrics
    }

    /// The edge of a request to `host` that ended with `exchange`.
    pub(crate) fn edge(&self, exchange: Option<&Exchange>, host: &str) -> Arc<Edge> {
        let outside = match exchange {
            Some(Exchange { cluster: Some(cluster), .. }) if cluster.is_passthrough() => Outside::Passthrough,
            Some(exchange @ Exchange { cluster: Some(cluster), .. }) => return self.routed(cluster, exchange),
            Some(exchange) if exchange.route.as_deref() == Some(BLOCK_ALL) => Outside::Blocked,
            _ => Outside::Unrouted,
        };
        self.outside(outside, host, exchange.is_some_and(|exchange| exchange.endpoint.is_some()))
    }

    fn routed(&self, cluster: &Arc<ClusterName>, exchange: &Exchange) -> Arc<Edge> {
        let endpoint = exchange.endpoint.as_ref();
        let address = |endpoint: &Arc<Endpoint>| Arc::as_ptr(endpoint).addr();
        let security = security(exchange);
        let key = (Arc::as_ptr(cluster).addr(), endpoint.map_or(0, address), security);
        let memory = self.state.memory.load();
        if let Some(known) = memory.routed.get(&key) {
            return Arc::clone(&known.edge);
        }
        let labels = self.routed_labels(&memory, cluster, exchange, security);
        let edge = self.state.metrics.edge(&labels);
        self.remember(&memory.identity, |memory| {
            let routed =
                RoutedEdge { edge: Arc::clone(&edge), _cluster: Arc::clone(cluster), _endpoint: endpoint.cloned() };
            memory.routed.insert(key, routed);
        });
        edge
    }

    fn routed_labels(
        &self,
        memory: &Memory,
        cluster: &ClusterName,
        exchange: &Exchange,
        security: ConnectionSecurity,
    ) -> EdgeLabels {
        let own = &self.state.own;
        let mutual = security == ConnectionSecurity::MutualTls;
        let mut destination = match exchange.endpoint.as_deref() {
            Some(endpoint) => WorkloadLabels::of_endpoint(endpoint, &own.cluster)
                .with_principal(endpoint.identity.as_ref().filter(|_| mutual)),
            None => WorkloadLabels::unknown(),
        };
        let mut service = cluster.service.clone();
        if service.namespace.is_empty() {
            service.namespace = Arc::clone(&destination.namespace);
        }
        // kiali IsBadDestTelemetry: a service with a namespace and an unknown cluster is dropped.
        if &*service.namespace != UNKNOWN {
            destination.cluster = Arc::clone(&own.cluster);
        }
        EdgeLabels {
            reporter: Reporter::Source,
            source: own.clone().with_principal(memory.identity.as_ref().filter(|_| mutual)),
            destination,
            service,
            security,
        }
    }

    // envoy istio_stats: outbound, the Host header stands in for a service that is not known, and for its name too
    // unless the route or cluster has one of Istio's names for such traffic.
    fn outside(&self, outside: Outside, host: &str, connected: bool) -> Arc<Edge> {
        let memory = self.state.memory.load();
        if let Some(edge) = memory.outside(outside).get(host) {
            return Arc::clone(edge);
        }
        let key: Arc<str> = host.into();
        let host = if host.is_empty() { UNKNOWN.into() } else { Arc::clone(&key) };
        let name = match outside {
            Outside::Unrouted => Arc::clone(&host),
            Outside::Passthrough => ClusterName::PASSTHROUGH.into(),
            Outside::Blocked => BLACKHOLE.into(),
        };
        let edge = self.state.metrics.edge(&EdgeLabels {
            reporter: Reporter::Source,
            source: self.state.own.clone(),
            destination: WorkloadLabels::unknown(),
            service: ServiceName { host: Arc::clone(&host), name, namespace: UNKNOWN.into() },
            security: if connected { ConnectionSecurity::None } else { ConnectionSecurity::Unknown },
        });
        self.remember(&memory.identity, |memory| {
            memory.outside_mut(outside).insert(Arc::clone(&key), Arc::clone(&edge));
        });
        edge
    }

    /// Add to the memory, unless the labels have changed since `identity` was read.
    fn remember(&self, identity: &Option<SpiffeId>, add: impl Fn(&mut Memory)) {
        self.state.memory.rcu(|memory| {
            if memory.identity != *identity {
                return Arc::clone(memory);
            }
            let mut memory = if memory.len() < MAX_REMEMBERED {
                Memory::clone(memory)
            } else {
                Memory { identity: identity.clone(), ..Memory::default() }
            };
            add(&mut memory);
            Arc::new(memory)
        });
    }

    /// The context of a request that goes out: the application's, else the task's, else the one its headers say.
    fn context<B>(&self, request: &Request<B>) -> TraceContext {
        let mut rng = rand::rng();
        match request.extensions().get().cloned().or_else(trace::current) {
            Some(context) => context.child(&mut rng),
            None => trace::from_headers(request.headers(), self.sampler, &mut rng),
        }
    }
}

/// Without an answer and without mutual TLS there may have been no connection at all: then nothing is claimed of it.
fn security(exchange: &Exchange) -> ConnectionSecurity {
    match exchange.endpoint {
        Some(_) if exchange.mutual_tls => ConnectionSecurity::MutualTls,
        Some(_) if exchange.details.is_empty() => ConnectionSecurity::None,
        _ => ConnectionSecurity::Unknown,
    }
}

impl Memory {
    fn outside(&self, outside: Outside) -> &HashMap<Arc<str>, Arc<Edge>> {
        match outside {
            Outside::Unrouted => &self.unrouted,
            Outside::Passthrough => &self.passthrough,
            Outside::Blocked => &self.blocked,
        }
    }

    fn outside_mut(&mut self, outside: Outside) -> &mut HashMap<Arc<str>, Arc<Edge>> {
        match outside {
            Outside::Unrouted => &mut self.unrouted,
            Outside::Passthrough => &mut self.passthrough,
            Outside::Blocked => &mut self.blocked,
        }
    }

    fn len(&self) -> usize {
        self.routed.len() + self.unrouted.len() + self.passthrough.len() + self.blocked.len()
    }
}

/// Records requests that go out, and gives them their trace context. The outermost layer of a client.
#[derive(Clone, Debug)]
pub struct ClientTelemetryLayer(ClientTelemetry);

impl ClientTelemetryLayer {
    /// A layer that records into `telemetry`.
    #[must_use]
    pub fn new(telemetry: ClientTelemetry) -> Self {
        Self(telemetry)
    }
}

impl<S> Layer<S> for ClientTelemetryLayer {
    type Service = ClientTelemetryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientTelemetryService { inner, telemetry: self.0.clone() }
    }
}

/// The service of [`ClientTelemetryLayer`].
#[derive(Clone, Debug)]
pub struct ClientTelemetryService<S> {
    inner: S,
    telemetry: ClientTelemetry,
}

impl<S, B, R> Service<Request<B>> for ClientTelemetryService<S>
where
    S: Service<Request<CountedBody<B>>, Response = Response<R>>,
    S::Error: 'static,
    B: Body,
    R: Body,
{
    type Response = Response<RecordingBody<R>>;
    type Error = S::Error;
    type Future = ClientResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let start = clock::now();
        let context = self.telemetry.context(&request);
        trace::inject(&context, request.headers_mut());
        let host = Host::of(&request);
        let span = span::client(&context, &request, &host);
        request.extensions_mut().insert(context);
        let progress = Progress::default();
        request.extensions_mut().insert(progress.clone());
        let request = request.map(CountedBody::new);
        let place = Place::Open(self.telemetry.clone(), host, progress);
        let recording = Recording::new(&request, request.body().count(), place, start, span);
        let inner = {
            let _entered = recording.enter();
            self.inner.call(request)
        };
        ClientResponseFuture { inner, recording: Some(recording) }
    }
}

pin_project! {
    /// The future of [`ClientTelemetryService`]. Dropped before its end, it records that the caller went away.
    #[derive(Debug)]
    pub struct ClientResponseFuture<F> {
        #[pin]
        inner: F,
        recording: Option<Box<Recording>>,
    }
}

impl<F, R, E> Future for ClientResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: 'static,
{
    type Output = Result<Response<RecordingBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = {
            let _entered = this.recording.as_deref().map(Recording::enter);
            this.inner.poll(cx)
        };
        let result = ready!(polled);
        let mut recording = this.recording.take().expect("a future is not polled after its end");
        Poll::Ready(match result {
            Ok(mut response) => {
                recording.response(&response);
                // What the callee told of itself the registry already said; the application has no use for it.
                peer::take(response.headers_mut());
                Ok(response.map(|body| RecordingBody::new(body, recording, None)))
            }
            Err(error) => {
                recording.call_error(&error);
                Err(error)
            }
        })
    }
}

#[cfg(test)]
mod tests;
