//! The callee's side: what others asked of me.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Response, header::Entry};
use http_body::Body;
use mesh_core::{
    ServiceName, Workload, clock,
    identity::{PeerIdentity, SpiffeId},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    body::{CountedBody, RecordingBody},
    host::{Host, without_port},
    metrics::{ConnectionSecurity, Edge, EdgeLabels, Metrics, Reporter, WorkloadLabels},
    peer::{self, PeerMetadata},
    recording::{Place, Recording},
    span,
    trace::{self, REQUEST_ID, Sampler, Scoped, TraceContext},
};

/// Callers remembered before the memory starts again from nothing.
const MAX_REMEMBERED: usize = 1_024;

/// Telemetry of the requests that a workload receives. Clones are one.
#[derive(Clone, Debug)]
pub struct ServerTelemetry {
    state: Arc<State>,
    sampler: Sampler,
}

#[derive(Debug)]
struct State {
    metrics: Metrics,
    own: WorkloadLabels,
    metadata: PeerMetadata,
    memory: ArcSwap<Memory>,
}

/// Edges already built, for the labels that hold now.
#[derive(Clone, Debug, Default)]
struct Memory {
    identity: Option<SpiffeId>,
    services: Arc<[ServiceName]>,
    /// By place in `services`; one, where there are none.
    callers: Vec<Callers>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Callers {
    anonymous: Option<Arc<Edge>>,
    /// By identity, then by what the peer told of itself: its header, byte for byte, empty for nothing. A header that
    /// only names somebody, as Envoy's cache has it, would let one peer speak for another.
    known: HashMap<SpiffeId, HashMap<Arc<[u8]>, Arc<Edge>>>,
}

impl Memory {
    fn new(identity: Option<SpiffeId>, services: Arc<[ServiceName]>) -> Self {
        let callers = vec![Callers::default(); services.len().max(1)];
        Self { identity, services, callers, len: 0 }
    }

    /// Which of my services a request is for: the one its host names, else the first. A host that names none of them
    /// never becomes a label (istio telemetry.go: disable_host_header_fallback is true inbound).
    fn service(&self, host: &str) -> usize {
        if self.services.len() < 2 {
            return 0;
        }
        let host = without_port(host);
        let is = |name: &str| name.eq_ignore_ascii_case(host);
        self.services.iter().position(|service| is(&service.host) || is(&service.name)).unwrap_or(0)
    }
}

impl ServerTelemetry {
    /// Telemetry into `metrics`, of requests that `workload` receives.
    #[must_use]
    pub fn new(metrics: Metrics, workload: &Workload) -> Self {
        let own = WorkloadLabels::own(workload);
        let memory = ArcSwap::from_pointee(Memory::new(None, Arc::default()));
        Self {
            state: Arc::new(State { metrics, own, metadata: PeerMetadata::of(workload), memory }),
            sampler: Sampler::default(),
        }
    }

    /// Record this share of the traces that begin here, instead of 1 %.
    #[must_use]
    pub fn with_sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = sampler;
        self
    }

    /// My own identity: `destination_principal` of requests over mutual TLS.
    pub fn set_identity(&self, identity: Option<SpiffeId>) {
        self.state.memory.rcu(|memory| Memory::new(identity.clone(), Arc::clone(&memory.services)));
    }

    /// The services that this workload belongs to: `destination_service` and its parts. Without any, Istio's fallback is
    /// the canonical service.
    pub fn set_services(&self, services: impl IntoIterator<Item = ServiceName>) {
        let services: Arc<[ServiceName]> = services.into_iter().collect();
        self.state.memory.rcu(|memory| Memory::new(memory.identity.clone(), Arc::clone(&services)));
    }

    fn edge(&self, peer: Option<&PeerIdentity>, told: Option<&HeaderValue>, host: &Host) -> Arc<Edge> {
        let memory = self.state.memory.load();
        let at = memory.service(host.as_str());
        let callers = &memory.callers[at];
        let header = told.map_or(b"".as_slice(), HeaderValue::as_bytes);
        let known = match peer {
            Some(peer) => callers.known.get(peer.id()).and_then(|known| known.get(header)),
            None => callers.anonymous.as_ref(),
        };
        if let Some(edge) = known {
            return Arc::clone(edge);
        }
        let edge = self.state.metrics.edge(&self.labels(&memory, at, peer, told));
        self.state.memory.rcu(|now| {
            if now.identity != memory.identity || now.services != memory.services {
                return Arc::clone(now);
            }
            let mut now = if now.len < MAX_REMEMBERED {
                Memory::clone(now)
            } else {
                Memory::new(now.identity.clone(), Arc::clone(&now.services))
            };
            now.len += 1;
            match peer {
                Some(peer) => {
                    let known = now.callers[at].known.entry(peer.id().clone()).or_default();
                    known.insert(header.into(), Arc::clone(&edge));
                }
                None => now.callers[at].anonymous = Some(Arc::clone(&edge)),
            }
            Arc::new(now)
        });
        edge
    }

    fn labels(
        &self,
        memory: &Memory,
        service: usize,
        peer: Option<&PeerIdentity>,
        told: Option<&HeaderValue>,
    ) -> EdgeLabels {
        let own = &self.state.own;
        let canonical = || ServiceName {
            host: Arc::clone(&own.canonical_service),
            name: Arc::clone(&own.canonical_service),
            namespace: Arc::clone(&own.namespace),
        };
        let mutual = peer.is_some();
        EdgeLabels {
            reporter: Reporter::Destination,
            source: match peer {
                Some(peer) => match told.and_then(peer::decode) {
                    Some(told) => WorkloadLabels::of_peer(peer.id(), &told, &own.cluster),
                    None => WorkloadLabels::of_identity(peer.id(), &own.cluster),
                },
                None => WorkloadLabels::unknown(),
            },
            destination: own.clone().with_principal(memory.identity.as_ref().filter(|_| mutual)),
            service: memory.services.get(service).cloned().unwrap_or_else(canonical),
            security: if mutual { ConnectionSecurity::MutualTls } else { ConnectionSecurity::None },
        }
    }
}

/// Records requests that come in, and runs their handlers inside their trace context. The outermost layer of a server.
#[derive(Clone, Debug)]
pub struct ServerTelemetryLayer(ServerTelemetry);

impl ServerTelemetryLayer {
    /// A layer that records into `telemetry`.
    #[must_use]
    pub fn new(telemetry: ServerTelemetry) -> Self {
        Self(telemetry)
    }
}

impl<S> Layer<S> for ServerTelemetryLayer {
    type Service = ServerTelemetryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ServerTelemetryService { inner, telemetry: self.0.clone() }
    }
}

/// The service of [`ServerTelemetryLayer`].
#[derive(Clone, Debug)]
pub struct ServerTelemetryService<S> {
    inner: S,
    telemetry: ServerTelemetry,
}

impl<S, B, R> Service<Request<B>> for ServerTelemetryService<S>
where
    S: Service<Request<CountedBody<B>>, Response = Response<R>>,
    S::Error: 'static,
    B: Body,
    R: Body,
{
    type Response = Response<RecordingBody<R>>;
    type Error = S::Error;
    type Future = ServerResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let start = clock::now();
        let telemetry = &self.telemetry;
        let context = trace::from_headers(request.headers(), telemetry.sampler, &mut rand::rng());
        let host = Host::of(&request);
        // Believed beside a verified identity only, and never the application's to read.
        let told = peer::take(request.headers_mut());
        let identity = request.extensions().get::<PeerIdentity>();
        let told = told.filter(|_| identity.is_some());
        let edge = telemetry.edge(identity, told.as_ref(), &host);
        let span = span::server(&context, &request, &host);
        let request = request.map(CountedBody::new);
        let place = Place::Known(telemetry.state.metrics.clone(), edge);
        // Before a request id is added: what came in is what is counted.
        let mut recording = Recording::new(&request, request.body().count(), place, start, span);
        recording.request_id(context.request_id_value());
        let request = with_context(request, &context);
        let inner = {
            let _entered = recording.enter();
            trace::enter(context.clone(), || self.inner.call(request))
        };
        let answer = told.map(|_| telemetry.state.metadata.clone());
        ServerResponseFuture {
            inner: trace::scoped(context.clone(), inner),
            context,
            answer,
            recording: Some(recording),
        }
    }
}

/// What the handler may read: the context in the extensions, the request id in the headers.
fn with_context<B>(mut request: Request<B>, context: &TraceContext) -> Request<B> {
    if let (Entry::Vacant(vacant), Some(id)) = (request.headers_mut().entry(REQUEST_ID), context.request_id_value()) {
        vacant.insert(HeaderValue::clone(id));
    }
    request.extensions_mut().insert(context.clone());
    request
}

pin_project! {
    /// The future of [`ServerTelemetryService`]. Dropped before its end, it records that the caller went away.
    pub struct ServerResponseFuture<F> {
        #[pin]
        inner: Scoped<F>,
        context: TraceContext,
        // Who I am, for a peer that said who it is.
        answer: Option<PeerMetadata>,
        recording: Option<Box<Recording>>,
    }
}

impl<F> std::fmt::Debug for ServerResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerResponseFuture").field("recording", &self.recording).finish_non_exhaustive()
    }
}

impl<F, R, E> Future for ServerResponseFuture<F>
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
                if let Some(metadata) = this.answer {
                    metadata.inject(response.headers_mut());
                }
                recording.response(&response);
                let context = this.context.clone();
                Ok(response.map(|body| RecordingBody::new(body, recording, Some(context))))
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
