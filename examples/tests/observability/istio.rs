//! Istio's labels, each spelt out, and a reader of the text they come in.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::EDGES;

/// istio_stats.cc, reference/telemetry.md 1.2.
pub(crate) const LABELS: [&str; 25] = [
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

pub(crate) type Labels = BTreeMap<String, String>;

/// A successful request between two deployments, every label spelt out. Both ends say the same of it.
pub(crate) fn edge(reporter: &str, from: &str, to: &str) -> Labels {
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
pub(crate) fn from_browser() -> Labels {
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
pub(crate) fn expected_reporters(service: &str) -> BTreeSet<&'static str> {
    let calls = EDGES.iter().any(|(from, _)| *from == service);
    if calls { BTreeSet::from(["source", "destination"]) } else { BTreeSet::from(["destination"]) }
}

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// Prometheus' text format, as far as bookinfo's names need it: no label value has a quote in it.
pub(crate) fn samples(page: &str) -> Vec<Sample> {
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

pub(crate) fn of<'a>(samples: &'a [Sample], name: &str) -> impl Iterator<Item = &'a Sample> {
    samples.iter().filter(move |sample| sample.name == name)
}

pub(crate) fn requests(samples: &[Sample], labels: &Labels) -> Option<f64> {
    of(samples, "istio_requests_total").find(|sample| sample.labels == *labels).map(|sample| sample.value)
}
