//! The section as YAML has it.

use mesh_core::config::DurationText;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Entry {
    pub(super) hosts: Vec<String>,
    pub(super) bounded_load: Option<BoundedLoad>,
    pub(super) health_check: Option<HealthCheck>,
    pub(super) outlier_detection: Option<Rates>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct BoundedLoad {
    pub(super) percent: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct HealthCheck {
    pub(super) http: Option<HttpCheck>,
    pub(super) grpc: Option<GrpcCheck>,
    pub(super) tcp: Option<TcpCheck>,
    pub(super) interval: Option<DurationText>,
    pub(super) timeout: Option<DurationText>,
    pub(super) unhealthy_threshold: Option<i64>,
    pub(super) healthy_threshold: Option<i64>,
    pub(super) interval_jitter: Option<DurationText>,
    pub(super) initial_jitter: Option<DurationText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct HttpCheck {
    pub(super) path: String,
    pub(super) host: Option<String>,
    pub(super) method: Option<String>,
    pub(super) expected_statuses: Option<Vec<StatusRange>>,
    pub(super) retriable_statuses: Vec<StatusRange>,
}

/// envoy type.v3.Int64Range: "start of the range (inclusive)", "end of the range (exclusive)".
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct StatusRange {
    pub(super) start: i64,
    pub(super) end: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct GrpcCheck {
    pub(super) service_name: String,
    pub(super) authority: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TcpCheck {}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Rates {
    pub(super) success_rate: Option<SuccessRate>,
    pub(super) failure_percentage: Option<FailurePercentage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct SuccessRate {
    pub(super) minimum_hosts: Option<i64>,
    pub(super) request_volume: Option<i64>,
    pub(super) stdev_factor: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct FailurePercentage {
    pub(super) threshold: Option<i64>,
    pub(super) minimum_hosts: Option<i64>,
    pub(super) request_volume: Option<i64>,
}
