//! Every service's `/metrics`: read label by label, by a real Prometheus, and by its linter.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
};

use http::Request;
use mesh_examples::bookinfo::{self, Running};
use mesh_test::Scratch;
use serde_json::Value;

use crate::{
    browser::{eventually, get},
    istio::{LABELS, Labels, Sample, edge, expected_reporters, from_browser, of, requests},
    prometheus::Prometheus,
    world::{EDGES, all_of_bookinfo, ask, metrics, visit},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_counts_its_requests_with_all_of_istios_labels() {
    let state = Scratch::new();
    let running = bookinfo::start(all_of_bookinfo(&state)).await.unwrap();
    visit(&running).await;

    let pages = counted(&running).await;
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
                let label = |series: &Value, name| series["metric"][name].as_str().unwrap().to_owned();
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
    counted(&running).await;
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

/// The demonstration of Istio's own bookinfo: with 7 s of delay before ratings, the page gives up on reviews after 3 s,
/// twice. Both ends count that on its edge, and reviews what it did not get of ratings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_gives_up_on_is_counted_on_its_edge() {
    let state = Scratch::new();
    let mut options = all_of_bookinfo(&state);
    let delay = "  http:\n  - fault: {delay: {percentage: {value: 100}, fixedDelay: 7s}}\n    \
                 match: [{headers: {end-user: {exact: jason}}}]\n    \
                 route: [{destination: {host: ratings, subset: v1}}]\n";
    let (others, ratings) = options.texts[0].1.rsplit_once("  http:\n").unwrap();
    options.texts[0].1 = format!("{others}{delay}{ratings}");
    let running = bookinfo::start(options).await.unwrap();
    let given_up = async || {
        let pages = metrics(&running).await;
        let count = |service: &str, reporter, from, to, flags: &str| {
            let mut labels = edge(reporter, from, to);
            labels.insert("response_code".into(), "0".into());
            labels.insert("response_flags".into(), flags.into());
            if to == "ratings-v1" {
                nobody_was_chosen(&mut labels);
            }
            requests(&pages[service], &labels)
        };
        [
            count("productpage-v1", "source", "productpage-v1", "reviews-v2", "DC"),
            count("reviews-v2", "destination", "productpage-v1", "reviews-v2", "DC"),
            count("reviews-v2", "source", "reviews-v2", "ratings-v1", "DC,DI"),
        ]
    };
    eventually("the page gives up", async || {
        let said = ask(&running, "jason", "/api/v1/products/0/reviews").await?;
        if given_up().await[0].is_some() { Ok(()) } else { Err(said.to_string().into()) }
    })
    .await;
    eventually("everybody counts it", async || {
        let counted = given_up().await;
        if counted == [Some(2.0); 3] { Ok(()) } else { Err(format!("{counted:?}").into()) }
    })
    .await;
    running.shutdown().await;
}

/// A request to a known service that had not come as far as an endpoint.
fn nobody_was_chosen(labels: &mut Labels) {
    for (name, value) in &mut *labels {
        let of_endpoint = name.starts_with("destination_") && !name.starts_with("destination_service");
        if of_endpoint && name != "destination_cluster" || name == "source_principal" {
            *value = "unknown".into();
        }
    }
    labels.insert("destination_canonical_revision".into(), "latest".into());
    labels.insert("connection_security_policy".into(), "unknown".into());
}

/// The pages, as soon as both ends of every edge count the same: the callee may count a moment after the caller has the
/// whole answer.
async fn counted(running: &Running) -> BTreeMap<String, Vec<Sample>> {
    eventually("both ends count the same", async || {
        let pages = metrics(running).await;
        for (from, to) in EDGES {
            let [asked, answered] = [("source", from), ("destination", to)]
                .map(|(reporter, service)| requests(&pages[service], &edge(reporter, from, to)));
            if asked.is_none() || asked != answered {
                return Err(format!("{from} counts {asked:?} requests to {to}, which counts {answered:?}").into());
            }
        }
        Ok(pages)
    })
    .await
}
