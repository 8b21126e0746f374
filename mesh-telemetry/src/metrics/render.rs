//! Istio's families in Prometheus' text format 0.0.4.

use std::{fmt::Write, sync::Arc};

use super::{
    Edge,
    edge::Slot,
    histogram::{BOUNDS, Histogram},
    registry::header,
};

/// Append every family that has a series.
pub(super) fn istio(edges: &[Arc<Edge>], out: &mut String) {
    let mut series = Vec::new();
    for edge in edges {
        let mut slots = edge.slots().to_vec();
        slots.sort_unstable_by_key(|slot| slot.key);
        series.extend(slots.into_iter().map(|slot| (labels(edge, &slot), slot)));
    }
    if series.is_empty() {
        return;
    }
    // 25 labels are about 1 kB, once in the counter and 22 times in each histogram.
    out.reserve(series.len() * 67 * 1_024);
    header(out, "istio_requests_total", "Requests, by what became of them.", "counter");
    for (labels, slot) in &series {
        let _ = writeln!(out, "istio_requests_total{{{labels}}} {}", slot.duration.count());
    }
    type Pick = fn(&Slot) -> &Histogram;
    let histograms: [(&str, &str, Pick); 3] = [
        (
            "istio_request_duration_milliseconds",
            "Time from the first byte of the request to the last byte of the response.",
            |slot| &slot.duration,
        ),
        ("istio_request_bytes", "Size of requests, headers included.", |slot| &slot.request_bytes),
        ("istio_response_bytes", "Size of responses, headers included.", |slot| &slot.response_bytes),
    ];
    for (name, help, pick) in histograms {
        header(out, name, help, "histogram");
        for (labels, slot) in &series {
            histogram(out, name, labels, pick(slot));
        }
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let reading = histogram.read();
    let bounds = BOUNDS.iter().copied().chain(["+Inf"]);
    for (bound, count) in bounds.zip(reading.cumulative) {
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", reading.sum);
    let _ = writeln!(out, "{name}_count{{{labels}}} {}", reading.cumulative[BOUNDS.len()]);
}

/// All 25 labels, in Envoy's order.
fn labels(edge: &Edge, slot: &Slot) -> String {
    let mut out = String::with_capacity(edge.rendered.len() + 160);
    out.push_str(&edge.rendered);
    let protocol = if slot.key.grpc { "grpc" } else { "http" };
    let _ = write!(out, "request_protocol=\"{protocol}\",response_code=\"{}\",", slot.key.code);
    // envoy istio_stats: the only label that may be empty, for what is not gRPC or ended without a status.
    let _ = match slot.key.grpc_status {
        Some(status) => write!(out, "grpc_response_status=\"{status}\","),
        None => write!(out, "grpc_response_status=\"\","),
    };
    let _ = write!(
        out,
        "response_flags=\"{}\",connection_security_policy=\"{}\"",
        slot.key.flags.0,
        edge.security.as_str()
    );
    out
}
