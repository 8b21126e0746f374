use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use mesh_core::{Labels, ResponseFlag, ResponseFlags, ServiceName, Workload};

use super::*;

fn edge_to(metrics: &Metrics, host: &str) -> Arc<Edge> {
    let own = Workload::new("default", "productpage-v1").with_labels(Labels::from_iter([("app", "productpage")]));
    metrics.edge(&EdgeLabels {
        reporter: Reporter::Source,
        source: WorkloadLabels::own(&own),
        destination: WorkloadLabels::unknown(),
        service: ServiceName::of_host(host, "default"),
        security: ConnectionSecurity::None,
    })
}

fn outcome(code: u16) -> Outcome {
    Outcome {
        protocol: Protocol::Http,
        code,
        grpc_status: None,
        flags: ResponseFlags::default(),
        duration: Duration::from_micros(7_999),
        request_bytes: 100,
        response_bytes: 2_501,
    }
}

fn requests(metrics: &Metrics) -> Vec<String> {
    let text = metrics.render();
    text.lines().filter(|line| line.starts_with("istio_requests_total{")).map(str::to_owned).collect()
}

// envoy contrib istio_stats: the order in which the 25 tags are pushed.
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

#[test]
fn every_series_has_envoys_25_labels_in_envoys_order() {
    let metrics = Metrics::new();
    metrics.record(&edge_to(&metrics, "reviews.default.svc.cluster.local"), &outcome(200));
    let line = requests(&metrics).remove(0);
    let labels: Vec<_> = line.split(['{', ',']).skip(1).filter_map(|pair| pair.split_once('=')).collect();
    assert_eq!(labels.iter().map(|(name, _)| *name).collect::<Vec<_>>(), LABELS);
    for (name, value) in labels {
        assert_eq!(value.starts_with("\"\""), name == "grpc_response_status", "{name}");
    }
}

#[test]
fn a_duration_is_whole_milliseconds_and_a_histogram_cumulative() {
    let metrics = Metrics::new();
    metrics.record(&edge_to(&metrics, "reviews"), &outcome(200));
    let text = metrics.render();
    let value = |name: &str, le: &str| {
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(le)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    for (le, count) in [("le=\"5\"", "0"), ("le=\"10\"", "1"), ("le=\"25\"", "1"), ("le=\"+Inf\"", "1")] {
        assert_eq!(value("istio_request_duration_milliseconds_bucket", le), count, "{le}");
    }
    assert_eq!(value("istio_request_duration_milliseconds_sum", ""), "7");
    assert_eq!(value("istio_request_duration_milliseconds_count", ""), "1");
    assert_eq!(value("istio_response_bytes_bucket", "le=\"2500\""), "0");
    assert_eq!(value("istio_response_bytes_sum", ""), "2501");
    assert_eq!(value("istio_request_bytes_sum", ""), "100");
    assert!(text.contains("istio_build{component=\"proxy\",tag=\"0.1.0\"} 1\n"));
}

#[test]
fn code_status_and_flags_tell_series_apart() {
    let metrics = Metrics::new();
    let edge = edge_to(&metrics, "reviews");
    metrics.record(&edge, &outcome(200));
    metrics.record(&edge, &outcome(200));
    metrics.record(&edge, &outcome(503));
    let flags = ResponseFlags::from(ResponseFlag::DelayInjected) | ResponseFlag::FaultInjected.into();
    metrics.record(&edge, &Outcome { flags, ..outcome(503) });
    metrics.record(&edge, &Outcome { protocol: Protocol::Grpc, grpc_status: Some(14), ..outcome(200) });
    let ends: Vec<_> =
        requests(&metrics).iter().map(|line| line[line.find("request_protocol").unwrap()..].to_owned()).collect();
    let end = |protocol, code, grpc, flags, n| {
        format!(
            "request_protocol=\"{protocol}\",response_code=\"{code}\",grpc_response_status=\"{grpc}\",\
             response_flags=\"{flags}\",connection_security_policy=\"none\"}} {n}"
        )
    };
    assert_eq!(
        ends,
        [
            end("http", 200, "", "-", 2),
            end("http", 503, "", "-", 1),
            end("http", 503, "", "DI,FI", 1),
            end("grpc", 200, "14", "-", 1)
        ]
    );
}

// An attacker who chooses hosts and codes fills the table and no more; nothing goes uncounted.
#[test]
fn the_number_of_series_is_capped_and_the_rest_is_counted_as_other() {
    let metrics = Metrics::with_max_slots(10);
    let total = 1_000_u64;
    for n in 0..total {
        let code = 200 + u16::try_from(n % 400).unwrap();
        metrics.record(&edge_to(&metrics, &format!("host-{n}")), &outcome(code));
    }
    let lines = requests(&metrics);
    let counted: u64 = lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(counted, total);
    let (other, own): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains("destination_service=\"other\""));
    assert_eq!(own.len(), 10);
    assert_eq!(other.len(), 4, "one for each class of codes: {other:?}");
    assert!(other.iter().all(|line| line.contains("source_workload=\"productpage-v1\"")));
    assert!(metrics.render().contains(&format!("mesh_metrics_overflow_total {}\n", total - 10)));
}

#[test]
fn codes_of_one_edge_are_capped_too() {
    let metrics = Metrics::with_max_slots(3);
    let edge = edge_to(&metrics, "reviews");
    for code in 200..300 {
        metrics.record(&edge, &outcome(code));
    }
    assert_eq!(requests(&metrics).len(), 4);
    assert!(metrics.render().contains("mesh_metrics_overflow_total 97\n"));
}

#[test]
fn threads_lose_no_count() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..1_000 {
                    metrics.record(&edge_to(&metrics, &format!("host-{}", n % 7)), &outcome(200 + n % 3));
                }
            });
        }
    });
    let counted: u64 =
        requests(&metrics).iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!((counted, requests(&metrics).len()), (4_000, 21));
}

#[test]
fn promtool_finds_only_the_milliseconds() {
    let metrics = Metrics::new();
    let odd = edge_to(&metrics, "od\\d\"ho\nst");
    metrics.record(&odd, &outcome(200));
    metrics.record(&odd, &Outcome { protocol: Protocol::Grpc, grpc_status: Some(0), ..outcome(200) });
    metrics.counter("mesh_config_reloads_total", "Back\\slash and\nline feed.", &[("result", "ok")]).increment(1);
    metrics.gauge("mesh_endpoints_ejected", "Endpoints ejected now.", &[]).set(-1);

    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match spawned {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("MESH_REQUIRE_TOOLS").is_none(), "promtool is required: {error}");
            // Past the test runner, which keeps what a passing test prints to itself.
            let _ = writeln!(std::io::stderr(), "SKIPPED: promtool is not there ({error})");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(metrics.render().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(
        String::from_utf8(said).unwrap().trim(),
        "istio_request_duration_milliseconds use base unit \"seconds\" instead of \"milliseconds\""
    );
}
