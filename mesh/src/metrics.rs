//! The facade's own metrics, beside Istio's.

use mesh_core::config::Issues;
use mesh_routing::LimitCounts;
use mesh_telemetry::{Counter, Gauge, Metrics};

/// Metrics of one mesh. Clones count into the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct MeshMetrics {
    istio: Metrics,
    handshakes_refused: Counter,
    config_changes: Counter,
    config_errors: Gauge,
    config_warnings: Gauge,
}

impl MeshMetrics {
    pub(crate) fn new() -> Self {
        let istio = Metrics::new();
        Self {
            handshakes_refused: istio.counter(
                "mesh_connections_refused_total",
                "Inbound connections refused before their first request.",
                &[],
            ),
            config_changes: istio.counter("mesh_config_changes_total", "Configurations put in force.", &[]),
            config_errors: istio.gauge(
                "mesh_config_errors",
                "Errors in the configuration last read; the last good version of what they concern is in force.",
                &[],
            ),
            config_warnings: istio.gauge("mesh_config_warnings", "Warnings about the configuration last read.", &[]),
            istio,
        }
    }

    /// Where the layers record.
    pub(crate) fn istio(&self) -> Metrics {
        self.istio.clone()
    }

    pub(crate) fn handshake_refused(&self) {
        self.handshakes_refused.increment(1);
    }

    pub(crate) fn config_in_force(&self, issues: &Issues) {
        let errors = issues.errors().count();
        let clamp = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.config_changes.increment(1);
        self.config_errors.set(clamp(errors));
        self.config_warnings.set(clamp(issues.len() - errors));
    }

    pub(crate) fn rate_limited(&self, direction: &str, limit: &str, counts: LimitCounts) {
        let labels = [("direction", direction), ("limit", limit)];
        let refused = "Requests that a local rate limit refused.";
        self.istio.counter("mesh_rate_limited_total", refused, &labels).increment(counts.refused);
        let overflow = "Requests that shared a bucket because a local rate limit had no room for more keys.";
        self.istio.counter("mesh_rate_limit_overflow_total", overflow, &labels).increment(counts.overflowed);
    }

    pub(crate) fn render(&self) -> String {
        self.istio.render()
    }
}
