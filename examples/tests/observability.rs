//! What the mesh tells of bookinfo without bookinfo's help: Istio's metrics, read by a real Prometheus, and one trace
//! from the browser to the last service.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use mesh::{BoxError, Mesh};
use mesh_examples::bookinfo::{self, Deployment, Options, Running};
use mesh_test::Scratch;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tower::{ServiceExt, util::MapRequestLayer};
use tracing_subscriber::layer::SubscriberExt;

/// Each user is sent to versions of their own, so that every service is called and every edge is known.
const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: details}
spec:
  hosts: [details]
  http:
  - match: [{headers: {end-user: {exact: mary}}}]
    route: [{destination: {host: details, subset: v2}}]
  - route: [{destination: {host: details, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{headers: {end-user: {exact: mary}}}]
    route: [{destination: {host: reviews, subset: v3}}]
  - route: [{destination: {host: reviews, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - match: [{headers: {end-user: {exact: mary}}}]
    route: [{destination: {host: ratings, subset: v2}}]
  - route: [{destination: {host: ratings, subset: v1}}]
";

/// User, and who answers about details, reviews and ratings.
const USERS: [(&str, &str, &str, Option<&str>); 3] = [
    ("nobody", "details-v1", "reviews-v1", None),
    ("jason", "details-v1", "reviews-v2", Some("ratings-v1")),
    ("mary", "details-v2", "reviews-v3", Some("ratings-v2")),
];

/// Who calls whom under [`RULES`].
const EDGES: [(&str, &str); 7] = [
    ("productpage-v1", "details-v1"),
    ("productpage-v1", "details-v2"),
    ("productpage-v1", "reviews-v1"),
    ("productpage-v1", "reviews-v2"),
    ("productpage-v1", "reviews-v3"),
    ("reviews-v2", "ratings-v1"),
    ("reviews-v3", "ratings-v2"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_counts_its_requests_with_all_of_istios_labels() {
    let state = Scratch::new();
    let running = bookinfo::start(all_of_bookinfo(&state)).await.unwrap();
    visit(&running).await;

    // The callee may count a moment after the caller has the whole answer.
    let pages = eventually("both ends count the same", async || {
        let pages = metrics(&running).await;
        for (from, to) in EDGES {
            let [asked, answered] = [("source", from), ("destination", to)]
                .map(|(reporter, service)| requests(&pages[service], &edge(reporter, from, to)));
            if asked.is_none() || asked != answered {
                return Err(format!("{from} counts {asked:?} requests to {to}, which counts {answered:?}").into());
            }
        }
        Ok(pages)
    })
    .await;

    let browser = requests(&pages["productpage-v1"], &from_browser());
    assert!(browser.is_some_and(|count| count >= 6.0), "{browser:?} requests of the browser");
    for (service, samples) in &pages {
        for family in ["istio_requests_total", "istio_request_duration_milliseconds_count"] {
            let reporters: BTreeSet<&str> = of(samples, family).map(|sample| &*sample.labels["reporter"]).collect();
            assert_eq!(reporters, expected_reporters(service), "{family} of {service}");
        }
        for sample in samples.iter().filter(|sample| sample.name.starts_with("istio_re")) {
            let mut names: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(names.remove("le"), sample.name.ends_with("_bucket"), "{service}: {sample:?}");
            assert_eq!(names, BTreeSet::from(LABELS), "{service}: {sample:?}");
            let mut empty = sample.labels.iter().filter(|(_, value)| value.is_empty());
            assert!(empty.all(|(name, _)| name == "grpc_response_status"), "{service}: {sample:?}");
        }
        for counted in of(samples, "istio_requests_total") {
            let timed =
                of(samples, "istio_request_duration_milliseconds_count").find(|timed| timed.labels == counted.labels);
            assert_eq!(timed.map(|timed| timed.value), Some(counted.value), "{service}: {counted:?}");
        }
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_scrapes_every_service() {
    let state = Scratch::new();
    let running = bookinfo::start(all_of_bookinfo(&state)).await.unwrap();
    let Some(prometheus) = Prometheus::start(&running).await else { return };
    visit(&running).await;

    let all: BTreeSet<_> = running.services.iter().map(|service| service.name.clone()).collect();
    let up = prometheus.eventually("up == 1", |found| found.len() == all.len()).await;
    assert_eq!(
        up.iter().map(|series| series["metric"]["service"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(),
        all
    );

    for family in ["istio_requests_total", "istio_request_duration_milliseconds_count"] {
        let mut expected = BTreeSet::new();
        for service in &all {
            expected.extend(expected_reporters(service).into_iter().map(|reporter| (service.as_str(), reporter)));
        }
        let query = format!("count by (service, reporter) ({family}{{response_code=\"200\"}})");
        prometheus
            .eventually(&query, |found| {
                let label = |series: &'_ Value, name| series["metric"][name].as_str().unwrap().to_owned();
                let found: BTreeSet<_> =
                    found.iter().map(|series| (label(series, "service"), label(series, "reporter"))).collect();
                found.iter().map(|(service, reporter)| (&**service, &**reporter)).collect::<BTreeSet<_>>() == expected
            })
            .await;
    }

    // A join: what is left are the pairs of workloads where both ends count the same.
    let count = |reporter| {
        format!(
            "sum by (source_workload, destination_workload, destination_service, source_principal, \
             destination_principal, connection_security_policy) (istio_requests_total{{reporter=\"{reporter}\", \
             response_code=\"200\", source_workload!=\"unknown\"}})"
        )
    };
    let both = format!("{} == {}", count("source"), count("destination"));
    let both = prometheus.eventually(&both, |found| found.len() == EDGES.len()).await;
    let pairs: Vec<_> = both
        .iter()
        .map(|series| {
            let name = |label: &str| series["metric"][label].as_str().unwrap();
            (name("source_workload"), name("destination_workload"))
        })
        .collect();
    assert_eq!(BTreeSet::from_iter(pairs), BTreeSet::from(EDGES));

    // It reads the histograms as such.
    let median = "histogram_quantile(0.5, sum by (le, reporter) (istio_request_duration_milliseconds_bucket))";
    prometheus
        .eventually(median, |found| {
            let medians = found.iter().map(|series| series["value"][1].as_str().unwrap().parse::<f64>().unwrap());
            found.len() == 2 && medians.into_iter().all(|median| median > 0.0)
        })
        .await;
    for (family, kind) in [("istio_requests_total", "counter"), ("istio_request_duration_milliseconds", "histogram")] {
        let metadata = prometheus.api(&format!("metadata?metric={family}")).await.unwrap();
        assert_eq!(metadata["data"][family][0]["type"], kind, "{metadata}");
    }
    drop(prometheus);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_only_the_milliseconds() {
    let Some(promtool) = mesh_test::tool("promtool") else { return };
    let state = Scratch::new();
    let running = bookinfo::start(all_of_bookinfo(&state)).await.unwrap();
    visit(&running).await;
    for service in &running.services {
        let page = get(service.observability, Request::get("/metrics")).await.unwrap();
        let mut check = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        check.stdin.take().unwrap().write_all(page.body().as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap().trim(),
            "istio_request_duration_milliseconds use base unit \"seconds\" instead of \"milliseconds\"",
            "{}",
            service.name
        );
    }
    running.shutdown().await;
}

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

// Istio's metrics.

/// istio_stats.cc, reference/telemetry.md 1.2.
const LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

type Labels = BTreeMap<String, String>;

/// A successful request between two deployments, every label spelt out. Both ends say the same of it.
fn edge(reporter: &str, from: &str, to: &str) -> Labels {
    let (from_app, from_version) = from.rsplit_once('-').unwrap();
    let (to_app, to_version) = to.rsplit_once('-').unwrap();
    labels(&[
        ("reporter", reporter),
        ("source_workload", from),
        ("source_canonical_service", from_app),
        ("source_canonical_revision", from_version),
        ("source_workload_namespace", "default"),
        ("source_principal", &format!("spiffe://cluster.local/ns/default/sa/bookinfo-{from_app}")),
        ("source_app", from_app),
        ("source_version", from_version),
        ("source_cluster", "Kubernetes"),
        ("destination_workload", to),
        ("destination_workload_namespace", "default"),
        ("destination_principal", &format!("spiffe://cluster.local/ns/default/sa/bookinfo-{to_app}")),
        ("destination_app", to_app),
        ("destination_version", to_version),
        ("destination_service", &format!("{to_app}.default.svc.cluster.local")),
        ("destination_canonical_service", to_app),
        ("destination_canonical_revision", to_version),
        ("destination_service_name", to_app),
        ("destination_service_namespace", "default"),
        ("destination_cluster", "Kubernetes"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("grpc_response_status", ""),
        ("response_flags", "-"),
        ("connection_security_policy", "mutual_tls"),
    ])
}

/// The browser has no mesh identity and spoke plaintext: nothing is known of it, and no principal is claimed.
fn from_browser() -> Labels {
    let mut labels = edge("destination", "unknown-unknown", "productpage-v1");
    for (name, value) in &mut labels {
        if name.starts_with("source_") || name == "destination_principal" {
            *value = "unknown".into();
        }
    }
    labels.insert("source_canonical_revision".into(), "latest".into());
    labels.insert("connection_security_policy".into(), "none".into());
    labels
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Everybody is called, the page by the browser; those who call others report that too.
fn expected_reporters(service: &str) -> BTreeSet<&'static str> {
    let calls = EDGES.iter().any(|(from, _)| *from == service);
    if calls { BTreeSet::from(["source", "destination"]) } else { BTreeSet::from(["destination"]) }
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// Prometheus' text format, as far as bookinfo's names need it: no label value has a quote in it.
fn samples(page: &str) -> Vec<Sample> {
    assert!(!page.contains('\\'), "{page}");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, mut rest) = series.split_once('{').unwrap_or((series, ""));
            let mut labels = Labels::new();
            while let Some((label, after)) = rest.split_once("=\"") {
                let (value, after) = after.split_once('"').unwrap();
                assert_eq!(labels.insert(label.into(), value.into()), None, "{label} twice in {line}");
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            Sample { name: name.into(), labels, value: value.parse().unwrap() }
        })
        .collect()
}

fn of<'a>(samples: &'a [Sample], name: &str) -> impl Iterator<Item = &'a Sample> {
    samples.iter().filter(move |sample| sample.name == name)
}

fn requests(samples: &[Sample], labels: &Labels) -> Option<f64> {
    of(samples, "istio_requests_total").find(|sample| sample.labels == *labels).map(|sample| sample.value)
}

/// What each service has at `/metrics`.
async fn metrics(running: &Running) -> BTreeMap<String, Vec<Sample>> {
    let mut pages = BTreeMap::new();
    for service in &running.services {
        let page = get(service.observability, Request::get("/metrics")).await.unwrap();
        assert_eq!(page.status(), 200);
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        pages.insert(service.name.clone(), samples(page.body()));
    }
    pages
}

// Bookinfo, and who looks at it.

fn all_of_bookinfo(state: &Scratch) -> Options {
    let mut options = Options::new(state.path().join("state"));
    options.productpage = SocketAddr::from(([127, 0, 0, 1], 0));
    options.apply = vec![own("subsets.yaml")];
    options.texts = vec![("rules".into(), RULES.into())];
    options
}

fn own(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bookinfo/mesh").join(path)
}

/// Each user once, as soon as those who answer them are known to those who call them.
async fn visit(running: &Running) {
    for (user, details, reviews, ratings) in USERS {
        eventually("bookinfo answers", async || {
            let said = ask(running, user, "/api/v1/products/0").await?;
            if said["podname"] != details {
                return Err(format!("{user} got details of {said}").into());
            }
            let said = ask(running, user, "/api/v1/products/0/reviews").await?;
            if said["podname"] != reviews || said["ratings_podname"].as_str() != ratings {
                return Err(format!("{user} got reviews of {said}").into());
            }
            Ok(())
        })
        .await;
    }
}

async fn ask(running: &Running, user: &str, path: &str) -> Result<Value, BoxError> {
    let request = Request::get(path).header(header::COOKIE, format!("session={user}"));
    Ok(serde_json::from_str(get(running.productpage().unwrap(), request).await?.body())?)
}

/// What a browser and a scraper do: plaintext HTTP/1.1.
async fn get(address: SocketAddr, request: http::request::Builder) -> Result<Response<String>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = request.header(header::HOST, "localhost").body(Body::empty())?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(parts, String::from_utf8(body.to_vec())?))
}

/// Ask until the answer is good.
async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, BoxError>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Ok(good) => return good,
            Err(why) if tokio::time::Instant::now() > deadline => panic!("{what}: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Debian's Prometheus, on a free port, with a configuration and data of the test's own. Ended when dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _data: Scratch,
}

impl Prometheus {
    async fn start(running: &Running) -> Option<Self> {
        let program = mesh_test::tool("prometheus")?;
        let data = Scratch::new();
        let mut config = String::from(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: bookinfo\n  static_configs:\n",
        );
        for service in &running.services {
            let (name, target) = (&service.name, service.observability);
            writeln!(config, "  - {{targets: ['{target}'], labels: {{service: {name}}}}}").unwrap();
        }
        let config = data.write("prometheus.yml", &config);
        let log = data.path().join("log");
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.dir("tsdb").display()))
            // A free port of its own choice, which it says in its log.
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut started = Self { process, address: SocketAddr::from(([127, 0, 0, 1], 0)), _data: data };
        started.address = eventually("prometheus listens", async || {
            let log = std::fs::read_to_string(&log)?;
            let address = log.split_once("msg=\"Listening on\" address=").and_then(|(_, rest)| rest.lines().next());
            Ok(address.ok_or_else(|| log.clone())?.parse()?)
        })
        .await;
        Some(started)
    }

    async fn api(&self, path: &str) -> Result<Value, BoxError> {
        let answer = get(self.address, Request::get(format!("/api/v1/{path}"))).await?;
        let json: Value = serde_json::from_str(answer.body())?;
        if json["status"] == "success" { Ok(json) } else { Err(format!("{path}: {json}").into()) }
    }

    /// The series that a query finds, as soon as they are what is wanted: it scrapes once a second.
    async fn eventually(&self, query: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut path = String::from("query?query=");
        for byte in query.bytes() {
            write!(path, "%{byte:02X}").unwrap();
        }
        eventually(query, async || {
            let answer = self.api(&path).await?;
            let found = answer["data"]["result"].as_array().ok_or("no series")?;
            if wanted(found) { Ok(found.clone()) } else { Err(answer.to_string().into()) }
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

// Traces.

/// Bookinfo with somebody who listens between the mesh and each application: productpage, details, reviews v2 and
/// ratings, each the unchanged application on a mesh of its own.
struct Listening {
    running: Running,
    meshes: BTreeMap<&'static str, Mesh>,
    heard: Arc<Mutex<Vec<Arrived>>>,
    _state: Scratch,
}

/// The headers of a request as an application got them.
#[derive(Clone, Debug)]
struct Arrived {
    service: &'static str,
    trace_id: String,
    parent_id: String,
    flags: String,
    headers: HeaderMap,
}

#[derive(Debug)]
struct Heard(Vec<Arrived>);

impl Listening {
    async fn start() -> Self {
        let state = Scratch::new();
        let mut options = all_of_bookinfo(&state);
        options.deployments = vec!["productpage-v1".parse().unwrap()];
        options.texts.clear();
        options.apply.clear();
        let running = bookinfo::start(options.clone()).await.unwrap();
        let mut meshes = BTreeMap::from([("productpage-v1", running.services[0].mesh().clone())]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        for service in ["details-v1", "reviews-v2", "ratings-v1"] {
            let deployment: Deployment = service.parse().unwrap();
            let workloads = options.state.join("workloads");
            let builder =
                Mesh::builder().workload(deployment.workload()).development_identity(options.state.join("ca"));
            let mesh = builder.config_path(own("registry")).config_path(&workloads).start().await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let ear = Arc::clone(&heard);
            let app = bookinfo::router(deployment, service, mesh.client()).layer(MapRequestLayer::new(
                move |request: Request<Body>| {
                    ear.lock().unwrap().push(Arrived::new(service, request.headers()));
                    request
                },
            ));
            let serving = mesh.clone();
            tokio::spawn(async move { serving.serve(listener, app).await });
            mesh.register(&workloads, address).unwrap();
            meshes.insert(service, mesh);
        }
        let listening = Self { running, meshes, heard, _state: state };
        eventually("bookinfo answers", async || {
            let reviews = ask(&listening.running, "jason", "/api/v1/products/0/reviews").await?;
            let details = ask(&listening.running, "jason", "/api/v1/products/0").await?;
            if reviews["ratings_podname"] == "ratings-v1" && details["podname"] == "details-v1" {
                return Ok(());
            }
            Err(format!("{reviews} {details}").into())
        })
        .await;
        listening.heard();
        listening
    }

    fn mesh_of(&self, service: &str) -> &Mesh {
        &self.meshes[service]
    }

    /// Open the page with further headers.
    async fn browse(&self, add: impl FnOnce(http::request::Builder) -> http::request::Builder) -> String {
        let request = add(Request::get("/productpage").header(header::COOKIE, "session=jason"));
        let page = get(self.running.productpage().unwrap(), request).await.unwrap();
        assert_eq!(page.status(), 200);
        for shown in ["details-v1", "reviews-v2", "ratings-v1"] {
            assert!(page.body().contains(shown), "{shown} in {}", page.body());
        }
        page.into_body()
    }

    /// What arrived since this was last asked.
    fn heard(&self) -> Heard {
        Heard(std::mem::take(&mut self.heard.lock().unwrap()))
    }

    async fn end(self) {
        self.running.shutdown().await;
    }
}

impl Arrived {
    fn new(service: &'static str, headers: &HeaderMap) -> Self {
        let mut arrived = Self {
            service,
            trace_id: String::new(),
            parent_id: String::new(),
            flags: String::new(),
            headers: headers.clone(),
        };
        // W3C trace context: version "-" trace-id "-" parent-id "-" trace-flags.
        let traceparent = arrived.only("traceparent").to_owned();
        let parts: Vec<_> = traceparent.split('-').map(str::to_owned).collect();
        let [version, trace_id, parent_id, flags] = <[String; 4]>::try_from(parts).unwrap();
        assert_eq!((&*version, trace_id.len(), parent_id.len()), ("00", 32, 16), "{traceparent}");
        (arrived.trace_id, arrived.parent_id, arrived.flags) = (trace_id, parent_id, flags);
        arrived
    }

    /// The one value of a header; nothing when it is not there.
    fn only(&self, name: &'static str) -> &str {
        let mut values = self.headers.get_all(HeaderName::from_static(name)).iter();
        let value = values.next().map_or("", |value: &HeaderValue| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        value
    }
}

impl Heard {
    /// The one request that a service got.
    fn by(&self, service: &str) -> Arrived {
        let found: Vec<_> = self.0.iter().filter(|arrived| arrived.service == service).collect();
        assert_eq!(found.len(), 1, "requests to {service} in {self:#?}");
        found[0].clone()
    }
}

/// The spans of sampled requests: what an exporter would be given.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<Labels>>>);

impl Spans {
    /// The subscriber is the process': the services run on many threads. Tests tell their spans apart by trace.
    fn collected() -> Self {
        static SPANS: OnceLock<Spans> = OnceLock::new();
        let install = || {
            let spans = Self::default();
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans.clone())).unwrap();
            spans
        };
        SPANS.get_or_init(install).clone()
    }

    fn of(&self, trace_id: &str) -> Vec<Labels> {
        let spans = self.0.lock().unwrap();
        spans.iter().filter(|span| span.get("trace_id").is_some_and(|id| id == trace_id)).cloned().collect()
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        if attributes.metadata().target() == "mesh::trace" {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }
}

#[derive(Default)]
struct Fields(Labels);

impl tracing::field::Visit for Fields {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }
}
