//! The facade's own metrics, beside Istio's.

use mesh_core::config::Issues;
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

    pub(crate) fn render(&self) -> String {
        self.istio.render()
    }
}
