use std::{
    convert::Infallible,
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use mesh_core::{Labels, Reason};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::{ClientTelemetry, ClientTelemetryLayer, trace::Traceparent};

type Received = Request<CountedBody<Empty<Bytes>>>;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn workload() -> Workload {
    Workload::new("default", "reviews-v2").with_labels(Labels::from_iter([("app", "reviews"), ("version", "v2")]))
}

fn telemetry() -> (Metrics, ServerTelemetry) {
    let metrics = Metrics::new();
    (metrics.clone(), ServerTelemetry::new(metrics, &workload()))
}

fn from_productpage(uri: &str) -> Request<Empty<Bytes>> {
    let id = "spiffe://cluster.local/ns/web/sa/bookinfo-productpage".parse().unwrap();
    let mut request = get(uri);
    request.extensions_mut().insert(PeerIdentity::new(id, UNIX_EPOCH, Arc::default()));
    request
}

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

fn series(metrics: &Metrics) -> Vec<String> {
    let text = metrics.render();
    text.lines().filter_map(|line| line.strip_prefix("istio_requests_total")).map(str::to_owned).collect()
}

fn only(metrics: &Metrics) -> String {
    let mut series = series(metrics);
    assert_eq!(series.len(), 1, "{series:#?}");
    series.remove(0)
}

async fn serve(telemetry: &ServerTelemetry, request: Request<Empty<Bytes>>) {
    let service = ServiceBuilder::new()
        .layer(ServerTelemetryLayer::new(telemetry.clone()))
        .service_fn(|_: Received| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    service.oneshot(request).await.unwrap();
}

// istio/proxy testdata/metric: labels of the server's side.
#[tokio::test]
async fn golden_labels_of_the_destination() {
    let (metrics, telemetry) = telemetry();
    telemetry.set_identity(Some("spiffe://cluster.local/ns/default/sa/bookinfo-reviews".parse().unwrap()));
    telemetry.set_services([ServiceName::of_host("reviews.default.svc.cluster.local", "default")]);
    serve(&telemetry, from_productpage("/reviews/0")).await;
    assert_eq!(
        only(&metrics),
        "{reporter=\"destination\",source_workload=\"unknown\",source_canonical_service=\"unknown\",\
         source_canonical_revision=\"latest\",source_workload_namespace=\"web\",\
         source_principal=\"spiffe://cluster.local/ns/web/sa/bookinfo-productpage\",source_app=\"unknown\",\
         source_version=\"unknown\",source_cluster=\"Kubernetes\",destination_workload=\"reviews-v2\",\
         destination_workload_namespace=\"default\",\
         destination_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-reviews\",destination_app=\"reviews\",\
         destination_version=\"v2\",destination_service=\"reviews.default.svc.cluster.local\",\
         destination_canonical_service=\"reviews\",destination_canonical_revision=\"v2\",\
         destination_service_name=\"reviews\",destination_service_namespace=\"default\",\
         destination_cluster=\"Kubernetes\",request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\",\
         response_flags=\"-\",connection_security_policy=\"mutual_tls\"} 1"
    );
}

#[tokio::test]
async fn a_plaintext_caller_is_unknown_and_its_host_is_no_label() {
    let (metrics, telemetry) = telemetry();
    telemetry.set_identity(Some("spiffe://cluster.local/ns/default/sa/bookinfo-reviews".parse().unwrap()));
    for n in 0..100 {
        serve(&telemetry, get(&format!("http://attacker-{n}.example/"))).await;
    }
    let series = only(&metrics);
    for expected in [
        "source_principal=\"unknown\"",
        "source_workload_namespace=\"unknown\"",
        "source_cluster=\"unknown\"",
        "destination_principal=\"unknown\"",
        "destination_service=\"reviews\"",
        "destination_service_name=\"reviews\"",
        "connection_security_policy=\"none\"} 100",
    ] {
        assert!(series.contains(expected), "{expected} is not in {series}");
    }
}

#[tokio::test]
async fn of_several_services_the_host_chooses_among_the_configured_ones() {
    let (metrics, telemetry) = telemetry();
    telemetry.set_services(
        ["a.default.svc.cluster.local", "b.default.svc.cluster.local"]
            .map(|host| ServiceName::of_host(host, "default")),
    );
    for (host, service) in [("B.default.svc.cluster.local:9080", "b"), ("b", "b"), ("a:1", "a"), ("evil", "a")] {
        let before = series(&metrics).len();
        let mut request = get("/");
        request.headers_mut().insert("host", host.parse().unwrap());
        serve(&telemetry, request).await;
        let line = series(&metrics).into_iter().find(|line| line.contains(&format!("service_name=\"{service}\"")));
        assert!(line.is_some(), "{host} after {before}");
    }
    assert_eq!(series(&metrics).len(), 2);
}

// istio peer_metadata.cc: headers of the peer fill in its labels, and the answer carries ours.
#[tokio::test]
async fn a_verified_peer_says_which_workload_it_is() {
    let productpage = Workload::new("spoofed", "productpage-v1")
        .with_labels(Labels::from_iter([("app", "productpage"), ("version", "v1")]));
    for verified in [true, false] {
        let (metrics, telemetry) = telemetry();
        let service = ServiceBuilder::new().layer(ServerTelemetryLayer::new(telemetry)).service_fn(
            |request: Received| async move {
                assert!(request.headers().keys().all(|name| !name.as_str().contains("peer-metadata")));
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            },
        );
        for _ in 0..2 {
            let mut request = if verified { from_productpage("/") } else { get("/") };
            PeerMetadata::of(&productpage).inject(request.headers_mut());
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers().contains_key("x-envoy-peer-metadata"), verified);
            assert_eq!(response.headers().contains_key("x-envoy-peer-metadata-id"), verified);
        }
        let series = only(&metrics);
        assert!(series.ends_with(" 2"));
        let expected = if verified {
            "source_workload=\"productpage-v1\",source_canonical_service=\"productpage\",\
             source_canonical_revision=\"v1\",source_workload_namespace=\"web\",\
             source_principal=\"spiffe://cluster.local/ns/web/sa/bookinfo-productpage\",source_app=\"productpage\",\
             source_version=\"v1\",source_cluster=\"Kubernetes\""
        } else {
            "source_workload=\"unknown\",source_canonical_service=\"unknown\",source_canonical_revision=\"latest\",\
             source_workload_namespace=\"unknown\""
        };
        assert!(series.contains(expected), "{series}");
    }
}

#[tokio::test]
async fn a_cancelled_handler_is_recorded_and_an_error_passes() {
    let (metrics, telemetry) = telemetry();
    let layer = ServerTelemetryLayer::new(telemetry);
    let pending =
        layer.layer(service_fn(|_: Received| std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()));
    assert!(tokio::time::timeout(Duration::ZERO, pending.oneshot(get("/"))).await.is_err());
    assert!(only(&metrics).contains("response_code=\"0\",grpc_response_status=\"\",response_flags=\"DC\""));
    let failing = layer.layer(service_fn(|_: Received| async {
        Err::<Response<Empty<Bytes>>, _>(mesh_core::BoxError::from(mesh_core::Error::new(Reason::RateLimited)))
    }));
    assert!(failing.oneshot(get("/")).await.is_err());
    let series = series(&metrics);
    assert_eq!(series.len(), 2, "layers share their state");
    assert!(series.iter().any(|line| line.contains("response_flags=\"RL\"")));
}

#[tokio::test]
async fn the_handler_reads_the_context_and_the_request_id() {
    let (_, telemetry) = telemetry();
    let service =
        ServiceBuilder::new().layer(ServerTelemetryLayer::new(telemetry)).service_fn(|request: Received| async move {
            let context = request.extensions().get::<TraceContext>().unwrap().clone();
            assert_eq!(request.headers()["x-request-id"].to_str().unwrap(), context.request_id().unwrap());
            assert_eq!(trace::current().unwrap().span_id(), context.span_id());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(context.trace_id().to_string()))))
        });
    let mut request = get("/");
    request.headers_mut().insert("traceparent", PARENT.parse().unwrap());
    let body = service.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, &PARENT[3..35]);
}

#[tokio::test]
async fn flags_of_the_handlers_own_calls_are_not_its_own() {
    let (metrics, telemetry) = telemetry();
    let cluster = Arc::new(mesh_core::ClusterName::passthrough());
    for upstream in [true, false] {
        let error = mesh_core::Error::new(if upstream { Reason::NoHealthyUpstream } else { Reason::RateLimited });
        let error = if upstream { error.with_cluster(&cluster) } else { error };
        let service =
            ServiceBuilder::new().layer(ServerTelemetryLayer::new(telemetry.clone())).service_fn(move |_: Received| {
                let mut response = Response::new(Empty::<Bytes>::new());
                response.extensions_mut().insert(error.exchange().clone());
                async { Ok::<_, Infallible>(response) }
            });
        service.oneshot(get("/")).await.unwrap();
    }
    let series = series(&metrics);
    assert!(series.iter().any(|line| line.contains("response_flags=\"-\"")), "{series:#?}");
    assert!(series.iter().any(|line| line.contains("response_flags=\"RL\"")), "{series:#?}");
}

/// What a client below a handler sends.
type Outgoing = Arc<Mutex<Vec<http::HeaderMap>>>;

fn client(sent: &Outgoing) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Clone + Send + use<> {
    let sent = Arc::clone(sent);
    let service = ServiceBuilder::new()
        .layer(ClientTelemetryLayer::new(ClientTelemetry::new(Metrics::new(), &workload())))
        .service_fn(move |request: Received| {
            sent.lock().unwrap().push(request.headers().clone());
            async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
        });
    move || {
        let service = service.clone();
        Box::pin(async move {
            service.oneshot(get("http://ratings/")).await.unwrap();
        })
    }
}

// Trace context flows without application code copying trace headers.
#[tokio::test]
async fn calls_of_the_handler_and_of_its_streamed_body_are_in_the_callers_trace() {
    let sent = Outgoing::default();
    let call = client(&sent);
    let (_, telemetry) = telemetry();
    let service = ServiceBuilder::new().layer(ServerTelemetryLayer::new(telemetry)).service_fn(move |_: Received| {
        // Before the future is polled, in it, side by side, and while the body streams.
        drop(call());
        let call = call.clone();
        async move {
            tokio::join!(call(), call());
            trace::spawn(call()).await.unwrap();
            let frames = futures_util::stream::unfold(0, move |n| {
                let call = call.clone();
                async move {
                    call().await;
                    (n < 2).then(|| (Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), n + 1))
                }
            });
            Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(frames))))
        }
    });
    let mut request = get("/");
    let headers = request.headers_mut();
    headers.insert("traceparent", PARENT.parse().unwrap());
    headers.insert("tracestate", "vendor=1".parse().unwrap());
    headers.insert("x-request-id", "the-id".parse().unwrap());
    service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();

    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 6);
    let mut spans = std::collections::HashSet::new();
    for headers in &*sent {
        let traceparent = Traceparent::decode(headers["traceparent"].as_bytes()).unwrap();
        assert_eq!(traceparent.trace_id.to_string(), &PARENT[3..35]);
        assert!(traceparent.is_sampled());
        assert!(spans.insert(traceparent.parent_id), "a call has a span of its own");
        assert_eq!(
            (&headers["tracestate"], &headers["x-request-id"]),
            (&"vendor=1".parse::<HeaderValue>().unwrap(), &"the-id".parse::<HeaderValue>().unwrap())
        );
    }
    assert!(trace::current().is_none());
}
