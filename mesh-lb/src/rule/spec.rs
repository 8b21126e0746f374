//! DestinationRule as its YAML spells it (istio networking/v1alpha3 destination_rule.proto).
//!
//! Every field that Istio has is accepted; [`Unenforced`] ones are reported with their place.

use mesh_core::{
    ClientTlsMode, Labels, LocalitySpec, ZoneAwareSpec,
    config::{DurationText, Unenforced},
};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Spec {
    pub(super) host: Option<String>,
    pub(super) traffic_policy: Option<Policy>,
    pub(super) subsets: Vec<Subset>,
    pub(super) export_to: Vec<String>,
    pub(super) workload_selector: Option<WorkloadSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct WorkloadSelector {
    pub(super) match_labels: Labels,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Subset {
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) traffic_policy: Option<Policy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Policy {
    pub(super) load_balancer: Option<LoadBalancer>,
    pub(super) connection_pool: Option<ConnectionPool>,
    pub(super) outlier_detection: Option<Outlier>,
    pub(super) tls: Option<Tls>,
    pub(super) port_level_settings: Vec<PortPolicy>,
    pub(super) tunnel: Unenforced,
    pub(super) proxy_protocol: Option<Proxy>,
    pub(super) retry_budget: Option<RetryBudget>,
}

/// MeshConfig.defaultTrafficPolicy: a policy of which two blocks count.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(dead_code, reason = "fields that are not enforced are reported by the decoder")]
pub(super) struct MeshDefaults {
    pub(super) connection_pool: Option<ConnectionPool>,
    pub(super) outlier_detection: Option<Outlier>,
    load_balancer: Unenforced,
    tls: Unenforced,
    port_level_settings: Unenforced,
    tunnel: Unenforced,
    proxy_protocol: Unenforced,
    retry_budget: Unenforced,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PortPolicy {
    pub(super) port: Option<PortSelector>,
    pub(super) load_balancer: Option<LoadBalancer>,
    pub(super) connection_pool: Option<ConnectionPool>,
    pub(super) outlier_detection: Option<Outlier>,
    pub(super) tls: Option<Tls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PortSelector {
    pub(super) number: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct LoadBalancer {
    pub(super) simple: Option<Simple>,
    pub(super) consistent_hash: Option<ConsistentHash>,
    pub(super) locality_lb_setting: Option<LocalitySpec>,
    pub(super) zone_aware_lb_setting: Option<ZoneAwareSpec>,
    pub(super) warmup_duration_secs: Option<DurationText>,
    pub(super) warmup: Option<Warmup>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ConsistentHash {
    pub(super) http_header_name: Option<String>,
    pub(super) http_cookie: Option<HttpCookie>,
    pub(super) use_source_ip: Option<bool>,
    pub(super) http_query_parameter_name: Option<String>,
    pub(super) ring_hash: Option<RingHash>,
    pub(super) maglev: Option<Maglev>,
    pub(super) minimum_ring_size: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct HttpCookie {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) ttl: Option<DurationText>,
    pub(super) attributes: Vec<CookieAttribute>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct CookieAttribute {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RingHash {
    pub(super) minimum_ring_size: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Maglev {
    pub(super) table_size: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Simple {
    Unspecified,
    LeastConn,
    LeastRequest,
    RoundRobin,
    Random,
    Passthrough,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Warmup {
    pub(super) duration: Option<DurationText>,
    pub(super) minimum_percent: Option<f64>,
    pub(super) aggression: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConnectionPool {
    pub(super) tcp: Option<Tcp>,
    pub(super) http: Option<Http>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Tcp {
    pub(super) max_connections: Option<i32>,
    pub(super) connect_timeout: Option<DurationText>,
    pub(super) tcp_keepalive: Option<TcpKeepalive>,
    pub(super) max_connection_duration: Option<DurationText>,
    pub(super) idle_timeout: Option<DurationText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TcpKeepalive {
    pub(super) probes: Option<u32>,
    pub(super) time: Option<DurationText>,
    pub(super) interval: Option<DurationText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Proxy {
    pub(super) version: ProxyVersion,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum ProxyVersion {
    #[default]
    V1,
    V2,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Http {
    #[serde(rename = "http1MaxPendingRequests")]
    pub(super) http1_max_pending_requests: Option<i32>,
    #[serde(rename = "http2MaxRequests")]
    pub(super) http2_max_requests: Option<i32>,
    pub(super) max_requests_per_connection: Option<i32>,
    pub(super) max_retries: Option<i32>,
    pub(super) idle_timeout: Option<DurationText>,
    pub(super) h2_upgrade_policy: Option<UpgradePolicy>,
    pub(super) use_client_protocol: Option<bool>,
    pub(super) max_concurrent_streams: Option<i32>,
    #[serde(rename = "http2KeepAlive")]
    pub(super) http2_keep_alive: Option<KeepAlive>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeepAlive {
    pub(super) interval: Option<DurationText>,
    pub(super) timeout: Option<DurationText>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum UpgradePolicy {
    Default,
    DoNotUpgrade,
    Upgrade,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Outlier {
    pub(super) consecutive_errors: Option<i32>,
    pub(super) split_external_local_origin_errors: Option<bool>,
    pub(super) consecutive_local_origin_failures: Option<u32>,
    pub(super) consecutive_gateway_errors: Option<u32>,
    #[serde(rename = "consecutive5xxErrors")]
    pub(super) consecutive_5xx_errors: Option<u32>,
    pub(super) interval: Option<DurationText>,
    pub(super) base_ejection_time: Option<DurationText>,
    pub(super) max_ejection_percent: Option<i32>,
    pub(super) min_health_percent: Option<i32>,
    pub(super) outlier_detection_http_error_codes: Vec<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) mode: TlsMode,
    pub(super) client_certificate: Option<String>,
    pub(super) private_key: Option<String>,
    pub(super) ca_certificates: Option<String>,
    pub(super) credential_name: Option<String>,
    pub(super) subject_alt_names: Vec<String>,
    pub(super) sni: Option<String>,
    pub(super) insecure_skip_verify: Option<bool>,
    pub(super) ca_crl: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum TlsMode {
    #[default]
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

impl From<TlsMode> for ClientTlsMode {
    fn from(mode: TlsMode) -> Self {
        match mode {
            TlsMode::Disable => Self::Disable,
            TlsMode::Simple => Self::Simple,
            TlsMode::Mutual => Self::Mutual,
            TlsMode::IstioMutual => Self::IstioMutual,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RetryBudget {
    pub(super) percent: Option<f64>,
    pub(super) min_retry_concurrency: Option<u32>,
}
