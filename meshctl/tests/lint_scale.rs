//! Thousands of files: the time of lint grows with their number, and no faster.

#![allow(clippy::disallowed_methods, reason = "a measurement")]

use std::{fmt::Write as _, time::Instant};

use mesh_test::Scratch;
use meshctl::lint::{File, lint};

/// Objects of one file: a service, a rule and a route that names them, and two hundred of them to a namespace.
fn file(index: usize) -> String {
    let namespace = format!("ns{}", index / 200);
    let mut text = String::new();
    let _ = write!(
        text,
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: s{index}, namespace: {namespace}}}
spec:
  hosts: [s{index}.{namespace}.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 80, name: http, protocol: HTTP}}
  endpoints:
  - {{address: 10.0.0.1, labels: {{version: v1}}}}
  - {{address: 10.0.0.2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: s{index}, namespace: {namespace}}}
spec:
  host: s{index}
  trafficPolicy:
    outlierDetection: {{maxEjectionPercent: 50}}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s{index}, namespace: {namespace}}}
spec:
  hosts: [s{index}]
  http:
  - match:
    - uri: {{prefix: /api}}
      headers: {{end-user: {{exact: jason}}}}
    route:
    - destination: {{host: s{index}, subset: v2}}
    timeout: 5s
    retries: {{attempts: 2, perTryTimeout: 1s, retryOn: 5xx}}
  - route:
    - destination: {{host: s{index}, subset: v1}}
      weight: 80
    - destination: {{host: s{index}, subset: v2}}
      weight: 20
"
    );
    text
}

fn seconds(files: usize) -> f64 {
    let files: Vec<File> = (0..files).map(|index| File::new(format!("{index}.yaml"), file(index))).collect();
    let start = Instant::now();
    let report = lint(files);
    assert!(report.findings.is_empty(), "{}", report.findings[0]);
    start.elapsed().as_secs_f64()
}

/// Four times the files take about four times as long. Quadratic work would take sixteen times.
#[test]
fn time_grows_with_the_number_of_files() {
    let best = |files: usize| (0..3).map(|_| seconds(files)).fold(f64::INFINITY, f64::min);
    let (few, many) = (best(250), best(1000));
    assert!(many < few * 10.0, "250 files took {few:.3} s, 1000 took {many:.3} s");
}

/// `cargo test -p meshctl --release --test lint_scale -- --ignored --nocapture`: the figures of the README.
#[test]
#[ignore = "a measurement, for release builds"]
fn measure() {
    let scratch = Scratch::new();
    for index in 0..5000 {
        scratch.write(&format!("{index}.yaml"), &file(index));
    }
    let run = || {
        let start = Instant::now();
        let command =
            std::process::Command::new(env!("CARGO_BIN_EXE_meshctl")).arg("lint").arg(scratch.path()).output();
        assert_eq!(command.unwrap().status.code(), Some(0));
        start.elapsed().as_secs_f64()
    };
    let best = (0..5).map(|_| run()).fold(f64::INFINITY, f64::min);
    println!("5,000 files, 15,000 objects: {best:.3} s, {:.1} ms per thousand objects", best * 1000.0 / 15.0);
    println!("in memory: {:.3} s", (0..5).map(|_| seconds(5000)).fold(f64::INFINITY, f64::min));
}
