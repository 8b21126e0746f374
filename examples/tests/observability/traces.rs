//! One trace through all services, which none of the applications had a hand in.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt;
use mesh_examples::bookinfo;
use tower::ServiceExt;

use crate::{listening::Listening, spans::Spans};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const BROWSER: &str = "b7ad6b7169203331";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browsers_trace_reaches_ratings_through_every_service() {
    let spans = Spans::collected();
    let listening = Listening::start().await;
    let page = listening
        .browse(|request| {
            request
                .header("traceparent", format!("00-{TRACE}-{BROWSER}-01"))
                .header("tracestate", "vendor=1")
                .header("x-request-id", "of-the-browser")
        })
        .await;
    assert!(page.contains(TRACE), "{page}");

    let heard = listening.heard();
    let [details, reviews, ratings] = ["details-v1", "reviews-v2", "ratings-v1"].map(|service| heard.by(service));
    for arrived in [&details, &reviews, &ratings] {
        assert_eq!((&*arrived.trace_id, &*arrived.flags), (TRACE, "01"), "{arrived:?}");
        assert_eq!(arrived.only("x-request-id"), "of-the-browser");
        assert_eq!(arrived.only("tracestate"), "vendor=1");
        // What the mesh tells its peers is not the application's to read.
        assert!(!arrived.headers.keys().any(|name| name.as_str().starts_with("x-envoy-peer-metadata")), "{arrived:?}");
    }

    // From the last hop back: each request's parent is the span that sent it, up to the browser's own.
    let spans = spans.of(TRACE);
    let above = |kind: &str, id: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span["span_id"] == id && span["otel.kind"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind} {id} in {spans:#?}");
        (found[0]["url.path"].clone(), found[0]["parent_span_id"].clone())
    };
    let mut id = ratings.parent_id.clone();
    for (kind, path) in
        [("client", "/ratings/0"), ("server", "/reviews/0"), ("client", "/reviews/0"), ("server", "/productpage")]
    {
        let (of, parent) = above(kind, &id);
        assert_eq!(of, path, "{kind} {id} in {spans:#?}");
        id = parent;
    }
    assert_eq!(id, BROWSER);
    // The other branch: details was asked by the same span of productpage as reviews.
    let (_, page_span) = above("client", &details.parent_id);
    assert_eq!(page_span, above("client", &reviews.parent_id).1);
    // One server and one client span a hop, all different.
    assert_eq!(spans.iter().map(|span| &span["span_id"]).collect::<BTreeSet<_>>().len(), 7, "{spans:#?}");
    listening.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_trace_one_begins_at_the_page() {
    let listening = Listening::start().await;
    let mut before = Vec::new();
    for _ in 0..2 {
        let page = listening.browse(|request| request).await;
        let heard = listening.heard();
        let arrived = ["details-v1", "reviews-v2", "ratings-v1"].map(|service| heard.by(service));
        let [trace_id, request_id] = [&*arrived[0].trace_id, arrived[0].only("x-request-id")];
        assert!(page.contains(trace_id), "{trace_id} in {page}");
        assert_eq!((request_id.len(), &request_id[14..15]), (36, "4"), "a UUID of version 4: {request_id}");
        for other in &arrived[1..] {
            assert_eq!((&*other.trace_id, other.only("x-request-id")), (trace_id, request_id));
            assert_eq!(other.flags, arrived[0].flags, "sampled or not, but all alike");
        }
        let parents = BTreeSet::from_iter(arrived.iter().map(|arrived| arrived.parent_id.clone()));
        assert_eq!(parents.len(), 3, "{arrived:?}");
        before.push((trace_id.to_owned(), request_id.to_owned()));
    }
    assert!(before[0].0 != before[1].0 && before[0].1 != before[1].1, "{before:?}");

    // Not sampled by the caller is a decision too.
    listening.browse(|request| request.header("traceparent", format!("00-{TRACE}-{BROWSER}-00"))).await;
    let heard = listening.heard();
    let ratings = heard.by("ratings-v1");
    assert_eq!((&*ratings.trace_id, &*ratings.flags), (TRACE, "00"));
    listening.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_of_concurrent_requests_stay_apart() {
    const BROWSERS: u128 = 32;
    let listening = Listening::start().await;
    let browse = |n: u128| {
        listening.browse(move |request| {
            let traceparent = format!("00-{n:032x}-{BROWSER}-00");
            request.header("traceparent", traceparent).header("x-request-id", format!("{n:032x}"))
        })
    };
    let pages = futures_util::future::join_all((1..=BROWSERS).map(browse)).await;
    for (page, n) in pages.iter().zip(1..=BROWSERS) {
        assert!(page.contains(&format!("{n:032x}")));
    }
    let heard = listening.heard();
    for arrived in &heard.0 {
        assert_eq!(arrived.trace_id, arrived.only("x-request-id"), "{arrived:?}");
    }
    let ratings = heard.0.iter().filter(|arrived| arrived.service == "ratings-v1");
    assert_eq!(ratings.map(|arrived| &*arrived.trace_id).collect::<BTreeSet<_>>().len() as u128, BROWSERS);
    listening.end().await;
}

/// The same applications without the inbound stack around them: then nobody carries the headers on, so it is not the
/// applications that do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_applications_copy_no_trace_header() {
    // The list that Istio's own bookinfo copies by hand (istio samples/bookinfo/src/productpage).
    const COPIED: [&str; 16] = [
        "x-request-id",
        "x-ot-span-context",
        "x-datadog-trace-id",
        "x-datadog-parent-id",
        "x-datadog-sampling-priority",
        "traceparent",
        "tracestate",
        "x-cloud-trace-context",
        "grpc-trace-bin",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
        "b3",
        "sw8",
    ];
    let listening = Listening::start().await;
    for (caller, path) in [("productpage-v1", "/productpage"), ("reviews-v2", "/reviews/0")] {
        let mut request = Request::get(path);
        for name in COPIED {
            request = request.header(name, format!("mark-{name}"));
        }
        // A valid one too: nothing could be said of a broken one.
        request.headers_mut().unwrap().insert("traceparent", format!("00-{TRACE}-{BROWSER}-01").parse().unwrap());
        request = request.header("end-user", "jason").header(header::COOKIE, "session=jason");
        let app = bookinfo::router(caller.parse().unwrap(), caller, listening.mesh_of(caller).client());
        let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();

        let heard = listening.heard();
        let first_hop: Vec<_> = heard.0.iter().filter(|arrived| arrived.only("end-user") == "jason").collect();
        assert!(first_hop.len() >= if caller == "reviews-v2" { 1 } else { 3 }, "{caller}: {heard:?}");
        for arrived in first_hop {
            for (name, value) in &arrived.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                assert!(!value.contains("mark-") && !value.contains(TRACE), "{caller} copied {name}: {value}");
            }
        }
    }
    listening.end().await;
}
