//! Our side: mesh-routing's layers behind a listener, so that both sides get the same bytes.
//!
//! The listener stands in for the application: it makes of what it reads the request that an application would make, and
//! tells of the response what the mesh says about it, in the headers in which Envoy says it.

use std::{
    cell::Cell,
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, uri};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mesh_core::{
    ClusterName, Error, Exchange, LocalReplyLayer, MeshConfig, OutboundTrafficPolicy, Progress, Reason, Routed,
    Workload,
    config::{Document, Issues},
    registry::Registry,
};
use mesh_routing::{
    CompileInput, CorsLayer, FaultLayer, MirrorBody, MirrorLayer, ReplayBody, RetryLayer, RetryPolicy, RouteLayer,
    RoutePolicy, RouteTable, TimeoutLayer, VirtualService,
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceBuilder};

use crate::{
    clusters::CLUSTERS,
    envoy::MODES,
    istio,
    model::{CLIENT_LABELS, CLIENT_NAMESPACE, Mode, PORTS, Table},
    translate::ROLL_HEADER,
};

pub(crate) type Cluster = Arc<ClusterName>;
type RequestBody = ReplayBody<MirrorBody<Full<Bytes>>>;

thread_local! {
    /// The draw of the request that is being routed: the router decides before its `call` returns.
    static ROLL: Cell<u64> = const { Cell::new(0) };
}

/// The mesh's client stack, on one listener per port.
#[derive(Debug)]
pub(crate) struct Ours {
    table: Arc<ArcSwap<RouteTable<Cluster>>>,
    fronts: HashMap<u16, SocketAddr>,
}

impl Ours {
    pub(crate) async fn start(upstreams: HashMap<String, SocketAddr>) -> io::Result<Self> {
        let empty = compile(&[], Mode { paths: 0, registry_only: false }).expect("no rule is no error");
        let table = Arc::new(ArcSwap::from_pointee(empty));
        let transport = Transport { upstreams: Arc::new(upstreams), idle: Arc::default() };
        let mut fronts = HashMap::new();
        for port in PORTS {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            fronts.insert(port, listener.local_addr()?);
            tokio::spawn(serve(listener, port, Arc::clone(&table), transport.clone()));
        }
        Ok(Self { table, fronts })
    }

    /// Put tables in force.
    ///
    /// # Errors
    /// When one of them does not compile: what is wrong with it.
    pub(crate) fn push(&self, tables: &[Table], mode: Mode) -> Result<(), String> {
        self.table.store(Arc::new(compile(tables, mode)?));
        Ok(())
    }

    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        self.fronts[&port]
    }
}

pub(crate) fn compile(tables: &[Table], mode: Mode) -> Result<RouteTable<Cluster>, String> {
    let mut issues = Issues::default();
    let (mut documents, mut virtual_services) = (Vec::new(), Vec::new());
    for (index, document) in istio::upstreams().into_iter().chain(tables.iter().flat_map(istio::documents)).enumerate()
    {
        let rules = document["kind"] == "VirtualService";
        for document in Document::parse_all(&format!("{index}.yaml"), &document.to_string(), &mut issues) {
            if rules {
                virtual_services.extend(VirtualService::from_document(&document, &mut issues).map(Arc::new));
            } else {
                documents.push(document);
            }
        }
    }
    let mut mesh = MeshConfig::default();
    mesh.path_normalization = MODES[mode.paths].1;
    if mode.registry_only {
        mesh.outbound_traffic_policy = OutboundTrafficPolicy::RegistryOnly;
    }
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    if issues.has_errors() {
        return Err(issues.to_string());
    }
    let labels = CLIENT_LABELS.iter().map(|(key, value)| (*key, *value)).collect();
    let workload = Workload::new(CLIENT_NAMESPACE, "referee").with_labels(labels);
    let input = CompileInput {
        workload: &workload,
        mesh: &mesh,
        registry: &registry,
        virtual_services: &virtual_services,
        default_retry: Some(RetryPolicy::istio_default()),
    };
    Ok(RouteTable::compile(
        &input,
        &mut |name| CLUSTERS.contains_key(&name.to_string()).then(|| Arc::new(name.clone())),
        &mut issues,
    ))
}

async fn serve(listener: TcpListener, port: u16, table: Arc<ArcSwap<RouteTable<Cluster>>>, transport: Transport) {
    let stack = ServiceBuilder::new()
        .layer(LocalReplyLayer)
        .layer(RouteLayer::new(table).with_roll(|| ROLL.get()))
        .layer(FaultLayer::new())
        .layer(CorsLayer::new())
        .layer(MirrorLayer::new())
        .layer(TimeoutLayer::new())
        .layer(RetryLayer::new())
        .service(transport);
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let stack = stack.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut stack = stack.clone();
            async move {
                let (mut head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                as_dialled(&mut head, port);
                let roll = head.headers.get(ROLL_HEADER).and_then(|roll| roll.to_str().ok()?.parse().ok());
                ROLL.set(roll.unwrap_or_default());
                // As telemetry does, which stands outermost in a mesh's own client.
                head.extensions.insert(Progress::default());
                let request = Request::from_parts(head, Full::new(body));
                let response = stack.call(request).await.unwrap_or_else(|never| match never {});
                let (mut head, body) = response.into_parts();
                reveal(&mut head);
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                Ok::<_, hyper::Error>(Response::from_parts(head, Full::new(body)))
            }
        });
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The URI that an application dials: what of it is not in the bytes is the port, and the scheme, which Envoy takes from
/// `x-forwarded-proto`.
pub(crate) fn as_dialled(head: &mut http::request::Parts, port: u16) {
    let https = head.headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(if https { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    parts.authority = format!("dialled:{port}").parse().ok();
    parts.path_and_query.get_or_insert_with(|| uri::PathAndQuery::from_static("/"));
    head.uri = Uri::from_parts(parts).expect("a scheme, an authority and a path");
}

fn reveal(head: &mut http::response::Parts) {
    let exchange = head.extensions.get::<Exchange>().cloned().unwrap_or_default();
    let mut tell = |name: &'static str, value: &str| {
        head.headers.insert(name, HeaderValue::from_str(value).expect("names are visible ASCII"));
    };
    tell("x-o-route", exchange.route.as_deref().unwrap_or("-"));
    tell("x-o-cluster", &exchange.cluster.map_or_else(|| "-".to_owned(), |cluster| cluster.to_string()));
    tell("x-o-flags", &exchange.flags.to_string());
    tell("x-o-attempts", &exchange.attempts.to_string());
}

/// The innermost service: connections to the upstreams of the referee.
#[derive(Clone, Debug)]
struct Transport {
    upstreams: Arc<HashMap<String, SocketAddr>>,
    idle: Arc<Mutex<HashMap<SocketAddr, Vec<http1::SendRequest<RequestBody>>>>>,
}

impl Service<Routed<Request<RequestBody>, Cluster, Arc<RoutePolicy<Cluster>>>> for Transport {
    type Response = Response<Full<Bytes>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed<Request<RequestBody>, Cluster, Arc<RoutePolicy<Cluster>>>) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move { transport.send(routed).await })
    }
}

impl Transport {
    async fn send(
        &self,
        routed: Routed<Request<RequestBody>, Cluster, Arc<RoutePolicy<Cluster>>>,
    ) -> Result<Response<Full<Bytes>>, Error> {
        let address =
            *self.upstreams.get(&routed.cluster.to_string()).ok_or_else(|| Error::new(Reason::NoHealthyUpstream))?;
        let mut request = routed.request;
        Progress::note(request.extensions(), |known| known.attempts = routed.attempt.number + 1);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.expect("a routed request has a path"));
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&address).and_then(Vec::pop);
        let mut sender = match idle.filter(http1::SendRequest::is_ready) {
            Some(sender) => sender,
            None => connect(address).await?,
        };
        let reset = |error: hyper::Error| Error::new(Reason::Reset { request_sent: true }).with_source(error);
        let (head, body) = sender.send_request(request).await.map_err(reset)?.into_parts();
        let body = body.collect().await.map_err(reset)?.to_bytes();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().push(sender);
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

async fn connect(address: SocketAddr) -> Result<http1::SendRequest<RequestBody>, Error> {
    let failed = |error: io::Error| Error::new(Reason::ConnectFailure).with_source(error);
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| failed(io::Error::other(error)))?;
    tokio::spawn(connection);
    Ok(sender)
}
