//! The stack over an upstream that answers as the suite's echo server does, and tells what it got.

use std::{
    cell::Cell,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty, Full};
use mesh_core::{
    ClusterName, Error, LocalReplyLayer, MeshConfig, Reason, Routed, Workload,
    config::Issues,
    registry::{KubernetesService, Registry, ServiceEntry, Sources},
};
use mesh_routing::{
    CompileInput, CorsLayer, FaultLayer, GatewayRoutes, GrpcRoute, HttpRoute, MirrorBody, MirrorLayer, ReferenceGrant,
    ReplayBody, RetryLayer, RetryPolicy, RouteLayer, RoutePolicy, RouteTable, TimeoutLayer,
};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use super::{case::Case, manifest};

type Upstream =
    Routed<Request<ReplayBody<MirrorBody<Empty<Bytes>>>>, Arc<ClusterName>, Arc<RoutePolicy<Arc<ClusterName>>>>;

/// What an upstream got.
#[derive(Clone, Debug)]
pub struct Echo {
    pub backend: String,
    pub namespace: String,
    pub method: String,
    pub path: String,
    pub host: String,
    pub headers: HeaderMap,
    pub route: String,
}

/// What an upstream does, by the number of the attempt.
pub type Behaviour = fn(&Echo, usize) -> Result<StatusCode, Reason>;

pub struct World {
    table: Arc<ArcSwap<RouteTable<Arc<ClusterName>>>>,
}

thread_local! {
    static DRAWS: Cell<u64> = const { Cell::new(0) };
}

/// Every draw in turn: over a multiple of the weights' sum each destination gets its share to the request.
fn next() -> u64 {
    DRAWS.replace(DRAWS.get() + 1)
}

/// The number that [`next`] gives first, times a step that visits every share of a million evenly.
fn spread() -> u64 {
    next().wrapping_mul(7_919)
}

impl World {
    pub fn new(case: &Case) -> Self {
        Self::of(&case.manifest, &case.client, case.grants)
    }

    /// As a client of a namespace sees it.
    pub fn of(file: &str, client: &str, grants: bool) -> Self {
        let manifest = manifest::read(file, grants);
        let (mut issues, mut routes, mut sources) = (Issues::default(), GatewayRoutes::default(), Sources::default());
        for document in &manifest.documents {
            let issues = &mut issues;
            match document.kind() {
                "HTTPRoute" => routes.http.extend(HttpRoute::from_document(document, issues).map(Arc::new)),
                "GRPCRoute" => routes.grpc.extend(GrpcRoute::from_document(document, issues).map(Arc::new)),
                "ReferenceGrant" => routes.grants.extend(ReferenceGrant::from_document(document, issues).map(Arc::new)),
                "Service" => sources.services.extend(KubernetesService::from_document(document, issues).map(Arc::new)),
                "ServiceEntry" => {
                    sources.service_entries.extend(ServiceEntry::from_document(document, issues).map(Arc::new));
                }
                _ => {}
            }
        }
        assert!(!issues.has_errors(), "{file}: {issues}");
        let (mesh, workload) = (MeshConfig::default(), Workload::new(client, "client"));
        let registry = Registry::build(&sources, &mesh.trust_domain, client);
        let virtual_services = routes.join(&[], &registry, &workload, &mut issues);
        let input = CompileInput {
            workload: &workload,
            mesh: &mesh,
            registry: &registry,
            virtual_services: &virtual_services,
            default_retry: Some(RetryPolicy::istio_default()),
        };
        let mut clusters = |name: &ClusterName| {
            let service = registry.service(&name.service.host);
            let known = service.is_some_and(|service| service.port(name.port).is_some());
            known.then(|| Arc::new(name.clone()))
        };
        let table = RouteTable::compile(&input, &mut clusters, &mut issues);
        DRAWS.set(0);
        Self { table: Arc::new(ArcSwap::from_pointee(table)) }
    }

    /// Send a request; every upstream answers 200 after the delay that the query asks for, with these headers.
    pub async fn send(&self, request: Request<Empty<Bytes>>, answer: HeaderMap) -> (Response<Bytes>, Vec<Echo>) {
        self.send_to(request, answer, |_, _| Ok(StatusCode::OK)).await
    }

    pub async fn send_to(
        &self,
        request: Request<Empty<Bytes>>,
        answer: HeaderMap,
        behave: Behaviour,
    ) -> (Response<Bytes>, Vec<Echo>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let stack = ServiceBuilder::new()
            .layer(LocalReplyLayer)
            .layer(RouteLayer::new(Arc::clone(&self.table)).with_roll(next))
            .layer(FaultLayer::new())
            .layer(CorsLayer::new())
            .layer(MirrorLayer::new().with_roll(spread))
            .layer(TimeoutLayer::new())
            .layer(RetryLayer::new())
            .service(service_fn(move |routed: Upstream| {
                let echo = Echo::of(&routed);
                let mut seen = told.lock().unwrap();
                seen.push(echo.clone());
                let attempt = seen.len();
                drop(seen);
                let answer = answer.clone();
                async move {
                    if let Some(delay) = echo.path.split_once("delay=").map(|(_, delay)| delay) {
                        let seconds = delay.trim_end_matches('s').parse().unwrap();
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                    }
                    let mut response = Response::new(Full::<Bytes>::default());
                    *response.status_mut() = behave(&echo, attempt).map_err(Error::new)?;
                    *response.headers_mut() = answer;
                    Ok::<_, Error>(response)
                }
            }));
        let response: Result<_, Infallible> = stack.oneshot(request).await;
        let (head, body) = response.unwrap().into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        // Mirrors are tasks of their own.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        let seen = seen.lock().unwrap().clone();
        (Response::from_parts(head, body), seen)
    }
}

impl Echo {
    fn of(routed: &Upstream) -> Self {
        let (request, service) = (&routed.request, &routed.cluster.service);
        let host = request.headers().get(HOST).map(|host| host.to_str().unwrap());
        Self {
            backend: service.name.to_string(),
            namespace: service.namespace.to_string(),
            method: request.method().to_string(),
            path: request.uri().path_and_query().unwrap().to_string(),
            host: host.or_else(|| request.uri().host()).unwrap().to_owned(),
            headers: request.headers().clone(),
            route: routed.policy.name().unwrap().to_string(),
        }
    }
}
