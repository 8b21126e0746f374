use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use mesh_core::{Labels, Reason, ResponseFlag};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::trace::Traceparent;

type Sent = Request<CountedBody<Full<Bytes>>>;
type Streamed = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, std::io::Error>>>>;

fn telemetry() -> (Metrics, ClientTelemetry) {
    let metrics = Metrics::new();
    let me = Workload::new("default", "productpage-v1")
        .with_labels(Labels::from_iter([("app", "productpage"), ("version", "v1")]));
    (metrics.clone(), ClientTelemetry::new(metrics, &me))
}

fn reviews() -> Arc<ClusterName> {
    Arc::new(ClusterName {
        service: ServiceName::of_host("reviews.default.svc.cluster.local", "default"),
        port: 9080,
        subset: Some("v2".into()),
    })
}

fn reviews_v2() -> Arc<Endpoint> {
    let mut endpoint = Endpoint::new(std::net::SocketAddr::from(([10, 0, 0, 2], 9080)))
        .with_labels(Labels::from_iter([("app", "reviews"), ("version", "v2")]))
        .with_identity("spiffe://cluster.local/ns/default/sa/bookinfo-reviews".parse().unwrap());
    endpoint.workload = Some("reviews-v2".into());
    endpoint.namespace = Some("default".into());
    Arc::new(endpoint)
}

fn to_reviews() -> Exchange {
    let mut exchange = Exchange::default();
    exchange.cluster = Some(reviews());
    exchange.endpoint = Some(reviews_v2());
    exchange.mutual_tls = true;
    exchange
}

fn get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
}

/// Every series of `istio_requests_total`, without the metric's name.
fn series(metrics: &Metrics) -> Vec<String> {
    let text = metrics.render();
    text.lines().filter_map(|line| line.strip_prefix("istio_requests_total")).map(str::to_owned).collect()
}

fn only(metrics: &Metrics) -> String {
    let mut series = series(metrics);
    assert_eq!(series.len(), 1, "{series:#?}");
    series.remove(0)
}

/// Answer every request with a response of this kind and read it.
async fn answered(telemetry: &ClientTelemetry, request: Request<Full<Bytes>>, exchange: Option<Exchange>, status: u16) {
    let service =
        ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry.clone())).service_fn(move |_: Sent| {
            let mut response = Response::new(Full::new(Bytes::from_static(b"hello")));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(exchange) = exchange.clone() {
                response.extensions_mut().insert(exchange);
            }
            async { Ok::<_, Infallible>(response) }
        });
    service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
}

// istio/proxy testdata/metric: labels of the client's side, with the true connection_security_policy (a difference
// from Istio, see the README).
#[tokio::test]
async fn golden_labels_of_the_source() {
    let (metrics, telemetry) = telemetry();
    telemetry.set_identity(Some("spiffe://cluster.local/ns/default/sa/bookinfo-productpage".parse().unwrap()));
    answered(&telemetry, get("http://reviews:9080/reviews/0"), Some(to_reviews()), 200).await;
    assert_eq!(
        only(&metrics),
        "{reporter=\"source\",source_workload=\"productpage-v1\",source_canonical_service=\"productpage\",\
         source_canonical_revision=\"v1\",source_workload_namespace=\"default\",\
         source_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-productpage\",source_app=\"productpage\",\
         source_version=\"v1\",source_cluster=\"Kubernetes\",destination_workload=\"reviews-v2\",\
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
async fn what_is_not_known_says_so() {
    let plain = {
        let mut exchange = to_reviews();
        exchange.mutual_tls = false;
        exchange
    };
    let unreached = {
        let mut exchange = to_reviews();
        exchange.endpoint = None;
        exchange.flag(ResponseFlag::NoHealthyUpstream);
        exchange
    };
    let passthrough = {
        let mut exchange = Exchange::default();
        exchange.cluster = Some(Arc::new(ClusterName::passthrough()));
        exchange.endpoint = Some(Arc::new(Endpoint::new(mesh_core::EndpointAddress::new("example.com", 80))));
        exchange
    };
    let blocked = {
        let mut exchange = Exchange::default();
        exchange.route = Some("block_all".into());
        exchange
    };
    let no_route = Exchange::clone(mesh_core::Error::new(Reason::NoRoute).exchange());
    for (exchange, expected) in [
        (Some(plain), vec!["destination_principal=\"unknown\"", "source_principal=\"unknown\"", "policy=\"none\""]),
        (
            Some(unreached),
            vec![
                "destination_service=\"reviews.default.svc.cluster.local\"",
                "destination_workload=\"unknown\"",
                "destination_canonical_revision=\"latest\"",
                "destination_cluster=\"Kubernetes\"",
                "response_flags=\"UH\"",
                "policy=\"unknown\"",
            ],
        ),
        (
            Some(passthrough),
            vec![
                "destination_service=\"example.com\"",
                "destination_service_name=\"PassthroughCluster\"",
                "destination_service_namespace=\"unknown\"",
                "destination_cluster=\"unknown\"",
                "policy=\"none\"",
            ],
        ),
        (Some(blocked), vec!["destination_service=\"example.com\"", "destination_service_name=\"BlackHoleCluster\""]),
        (Some(no_route), vec!["destination_service=\"example.com\"", "response_flags=\"NR\"", "policy=\"unknown\""]),
        (None, vec!["destination_service=\"example.com\"", "destination_service_name=\"example.com\""]),
    ] {
        let (metrics, telemetry) = telemetry();
        // Twice: the second time by memory.
        for _ in 0..2 {
            answered(&telemetry, get("http://example.com/"), exchange.clone(), 503).await;
        }
        let series = only(&metrics);
        assert!(series.ends_with(" 2"), "{series}");
        for expected in expected {
            assert!(series.contains(expected), "{expected} is not in {series}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_at_a_reused_address_is_not_mistaken() {
    let (metrics, telemetry) = telemetry();
    for n in 0..50 {
        let mut endpoint = Endpoint::new(std::net::SocketAddr::from(([10, 0, 0, 3], 9080)));
        endpoint.workload = Some(format!("w{n}").into());
        let mut exchange = Exchange::default();
        exchange.cluster = Some(reviews());
        exchange.endpoint = Some(Arc::new(endpoint));
        answered(&telemetry, get("http://reviews/"), Some(exchange), 200).await;
    }
    assert_eq!(series(&metrics).len(), 50);
    assert!(series(&metrics).iter().all(|series| series.ends_with(" 1")));
}

#[tokio::test]
async fn a_new_identity_is_a_new_label() {
    let (metrics, telemetry) = telemetry();
    for identity in [None, Some("spiffe://cluster.local/ns/default/sa/a".parse().unwrap())] {
        telemetry.set_identity(identity);
        answered(&telemetry, get("http://reviews/"), Some(to_reviews()), 200).await;
    }
    let series = series(&metrics);
    assert!(series.iter().any(|series| series.contains("source_principal=\"spiffe://cluster.local/ns/default/sa/a\"")));
    assert_eq!(series.len(), 2);
}

fn stream(frames: Vec<Result<Frame<Bytes>, std::io::Error>>) -> Streamed {
    StreamBody::new(futures_util::stream::iter(frames))
}

fn data(bytes: &'static str) -> Result<Frame<Bytes>, std::io::Error> {
    Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
}

fn grpc_trailers(status: &'static str) -> Result<Frame<Bytes>, std::io::Error> {
    Ok(Frame::trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())])))
}

/// A service that answers with `frames`, and what reading `reads` frames of it recorded: while the body is held, and in
/// the end.
async fn read(content_type: &str, frames: Vec<Result<Frame<Bytes>, std::io::Error>>, reads: usize) -> (usize, String) {
    let (metrics, telemetry) = telemetry();
    let mut frames = Some(frames);
    let service =
        ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry)).service(service_fn(move |_: Sent| {
            let response = Response::new(stream(frames.take().unwrap()));
            async { Ok::<_, Infallible>(response) }
        }));
    let request = Request::post("http://x/").header("content-type", content_type).body(Full::default()).unwrap();
    let mut body = service.oneshot(request).await.unwrap().into_body();
    for _ in 0..reads {
        let _ = body.frame().await;
    }
    let held = series(&metrics).len();
    drop(body);
    let series = only(&metrics);
    (held, series[series.find("response_code").unwrap()..].replace(",connection_security_policy=\"unknown\"", ""))
}

#[tokio::test]
async fn a_response_is_recorded_once_when_its_body_ends_fails_or_is_dropped() {
    let broken = || Err(std::io::Error::other("broken"));
    let http = "text/plain";
    let grpc = "application/grpc";
    let ended = |code, grpc, flags| {
        format!("response_code=\"{code}\",grpc_response_status=\"{grpc}\",response_flags=\"{flags}\"}} 1")
    };
    for (what, content_type, frames, reads, held, expected) in [
        ("read to its end", http, vec![data("a"), data("b")], 3, 1, ended(200, "", "-")),
        ("read past its end", http, vec![data("a")], 9, 1, ended(200, "", "-")),
        ("dropped half way", http, vec![data("a"), data("b")], 1, 0, ended(200, "", "DC")),
        ("never read", http, vec![data("a")], 0, 0, ended(200, "", "DC")),
        ("failed", http, vec![data("a"), broken()], 2, 1, ended(200, "", "UC")),
        ("ended by trailers", grpc, vec![data("a"), grpc_trailers("14")], 2, 1, ended(200, "14", "-")),
        ("gRPC without a status", grpc, vec![data("a")], 2, 1, ended(200, "", "-")),
        ("gRPC dropped before trailers", grpc, vec![data("a"), grpc_trailers("0")], 1, 0, ended(200, "", "DC")),
        ("trailers that are not gRPC's", http, vec![grpc_trailers("5")], 1, 1, ended(200, "", "-")),
    ] {
        assert_eq!(read(content_type, frames, reads).await, (held, expected), "{what}");
    }
}

#[tokio::test]
async fn a_body_without_a_further_byte_is_not_dropped_early() {
    for (request, status, expected) in [
        (get("http://x/"), 200, "response_flags=\"-\""),
        (Request::head("http://x/").body(Full::default()).unwrap(), 200, "response_flags=\"-\""),
        (get("http://x/"), 304, "response_flags=\"-\""),
    ] {
        let (metrics, telemetry) = telemetry();
        let is_get = request.method() == http::Method::GET && status == 200;
        let service =
            ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry)).service_fn(move |_: Sent| async move {
                let mut response = Response::new(Full::new(Bytes::from_static(b"hello")));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Ok::<_, Infallible>(response)
            });
        let mut response = service.oneshot(request).await.unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(5), "size hints pass through");
        if is_get {
            // A reader with a length reads the last byte and stops.
            response.body_mut().frame().await.unwrap().unwrap();
        }
        drop(response);
        assert!(only(&metrics).contains(expected));
    }
}

#[tokio::test]
async fn an_empty_body_is_recorded_at_once() {
    let (metrics, telemetry) = telemetry();
    let service = ServiceBuilder::new()
        .layer(ClientTelemetryLayer::new(telemetry))
        .service_fn(|_: Sent| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    let response = service.oneshot(get("http://x/")).await.unwrap();
    assert!(response.body().is_end_stream());
    assert!(only(&metrics).contains("response_flags=\"-\""));
    drop(response);
    assert!(only(&metrics).ends_with(" 1"));
}

// envoy: response_code 0 and DC when the downstream goes away before a response.
#[tokio::test]
async fn a_cancelled_call_is_recorded() {
    let (metrics, telemetry) = telemetry();
    let service = ServiceBuilder::new()
        .layer(ClientTelemetryLayer::new(telemetry))
        .service_fn(|_: Sent| std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>());
    let call = service.oneshot(get("http://example.com/"));
    let waited = tokio::time::timeout(std::time::Duration::ZERO, call).await;
    assert!(waited.is_err());
    let series = only(&metrics);
    assert!(series.contains("destination_service=\"example.com\""), "{series}");
    assert!(series.contains("response_code=\"0\",grpc_response_status=\"\",response_flags=\"DC\""), "{series}");
}

// envoy: the cluster and the endpoint are the stream's, known whether or not an answer comes.
#[tokio::test]
async fn what_was_known_of_a_cancelled_call_is_recorded() {
    for (mutual_tls, security) in [(true, "mutual_tls"), (false, "unknown")] {
        let (metrics, telemetry) = telemetry();
        let service =
            ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry)).service_fn(move |request: Sent| {
                Progress::note(request.extensions(), |known| {
                    *known = to_reviews();
                    known.mutual_tls = mutual_tls;
                });
                std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
            });
        let call = service.oneshot(get("http://reviews:9080/"));
        assert!(tokio::time::timeout(std::time::Duration::ZERO, call).await.is_err());
        let series = only(&metrics);
        for label in [
            "destination_service=\"reviews.default.svc.cluster.local\"",
            "destination_workload=\"reviews-v2\"",
            "response_code=\"0\",grpc_response_status=\"\",response_flags=\"DC\"",
            &format!("connection_security_policy=\"{security}\""),
        ] {
            assert!(series.contains(label), "{label} in {series}");
        }
    }
}

// A timeout drops whoever knew the endpoint, and its reply does not name one.
#[tokio::test]
async fn a_local_reply_is_recorded_with_what_was_known() {
    let (metrics, telemetry) = telemetry();
    let service = ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry)).service_fn(|request: Sent| {
        Progress::note(request.extensions(), |known| *known = to_reviews());
        async { Err::<Response<Empty<Bytes>>, _>(mesh_core::Error::new(Reason::Timeout).with_cluster(&reviews())) }
    });
    service.oneshot(get("http://reviews:9080/")).await.unwrap_err();
    let series = only(&metrics);
    for label in ["destination_workload=\"reviews-v2\"", "response_flags=\"UT\"", "policy=\"mutual_tls\""] {
        assert!(series.contains(label), "{label} in {series}");
    }
}

#[tokio::test]
async fn an_error_passes_and_is_recorded_with_what_it_knows() {
    let (metrics, telemetry) = telemetry();
    let service = ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry)).service_fn(|_: Sent| async {
        Err::<Response<Empty<Bytes>>, _>(mesh_core::Error::new(Reason::ConnectFailure).with_cluster(&reviews()))
    });
    let error = service.oneshot(get("http://reviews/")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectFailure);
    let series = only(&metrics);
    assert!(series.contains("destination_service_name=\"reviews\""), "{series}");
    assert!(series.contains("response_code=\"0\",grpc_response_status=\"\",response_flags=\"UF\""), "{series}");
}

#[tokio::test(start_paused = true)]
async fn time_runs_to_the_last_byte_and_bytes_are_head_and_body() {
    let (metrics, telemetry) = telemetry();
    let service = ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry)).service_fn(
        |request: Request<CountedBody<Full<Bytes>>>| async {
            assert_eq!(request.into_body().collect().await.unwrap().to_bytes().len(), 1_000);
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![0; 2_000]))))
        },
    );
    let request = Request::post("http://x/").body(Full::new(Bytes::from(vec![0; 1_000]))).unwrap();
    let response = service.oneshot(request).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(70)).await;
    response.into_body().collect().await.unwrap();
    let text = metrics.render();
    let sum = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name}_sum"))).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(sum("istio_request_duration_milliseconds"), 100);
    let injected = "traceparent: \r\n".len() + 55 + "x-request-id: \r\n".len() + 36;
    assert_eq!(sum("istio_request_bytes"), (1_000 + "POST / HTTP/1.1\r\n\r\n".len() + injected) as u64);
    assert_eq!(sum("istio_response_bytes"), (2_000 + "HTTP/1.1 200 OK\r\n\r\n".len()) as u64);
}

#[tokio::test]
async fn layers_and_clones_share_their_state() {
    let (metrics, telemetry) = telemetry();
    let layer = ClientTelemetryLayer::new(telemetry);
    for _ in 0..2 {
        let service =
            layer.layer(service_fn(|_: Sent| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }));
        service.clone().oneshot(get("http://x/")).await.unwrap();
        service.oneshot(get("http://x/")).await.unwrap();
    }
    assert!(only(&metrics).ends_with(" 4"));
}

async fn sent(request: Request<Full<Bytes>>) -> HeaderMap {
    let (_, telemetry) = telemetry();
    let service =
        ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry)).service_fn(|request: Sent| async move {
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.headers_mut() = request.headers().clone();
            Ok::<_, Infallible>(response)
        });
    service.oneshot(request).await.unwrap().headers().clone()
}

#[tokio::test]
async fn context_comes_from_extensions_then_the_task_then_headers() {
    let own = "00-11111111111111111111111111111111-2222222222222222-01";
    let context = |trace: u128| {
        let parent = format!("00-{trace:032x}-00000000000000aa-01");
        TraceContext::continued(&Traceparent::decode(parent.as_bytes()).unwrap(), &mut rand::rng())
    };
    for (extension, task, header, expected) in [
        (true, true, true, Some(1)),
        (false, true, true, Some(2)),
        (false, false, true, Some(0x1111_1111_1111_1111_1111_1111_1111_1111)),
        (false, false, false, None),
    ] {
        let mut request = get("http://x/");
        if extension {
            request.extensions_mut().insert(context(1));
        }
        if header {
            request.headers_mut().insert("traceparent", own.parse().unwrap());
        }
        let headers = if task { trace::scope(context(2), sent(request)).await } else { sent(request).await };
        let traceparent = Traceparent::decode(headers["traceparent"].as_bytes()).unwrap();
        if let Some(expected) = expected {
            assert_eq!(traceparent.trace_id.bits(), expected);
        }
        assert!(headers.contains_key("x-request-id") || extension || task);
    }
}

#[tokio::test]
async fn each_call_has_a_span_of_its_own() {
    let context = TraceContext::root(Sampler::default(), &mut rand::rng());
    let (a, b) =
        trace::scope(context.clone(), async { tokio::join!(sent(get("http://a/")), sent(get("http://b/"))) }).await;
    let [a, b] = [a, b].map(|headers| Traceparent::decode(headers["traceparent"].as_bytes()).unwrap());
    assert_eq!((a.trace_id, b.trace_id), (context.trace_id(), context.trace_id()));
    assert!(a.parent_id != b.parent_id && a.parent_id != context.span_id());
}

// istio peer_metadata.cc: what the peer told is for the mesh.
#[tokio::test]
async fn the_application_does_not_see_the_peers_metadata() {
    let (_, telemetry) = telemetry();
    let service =
        ServiceBuilder::new().layer(ClientTelemetryLayer::new(telemetry)).service_fn(|request: Sent| async move {
            assert!(request.headers().keys().all(|name| !name.as_str().contains("peer-metadata")), "not told to all");
            let mut response = Response::new(Empty::<Bytes>::new());
            crate::PeerMetadata::of(&Workload::new("default", "reviews-v2")).inject(response.headers_mut());
            Ok::<_, Infallible>(response)
        });
    assert!(service.oneshot(get("http://x/")).await.unwrap().headers().is_empty());
}
