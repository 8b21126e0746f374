//! From YAML to the model: what is refused, with Istio's words where it has some, and what is reported.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

use mesh_core::{
    ClientTlsMode, ClientTlsSettings, HostPattern, Labels, LocalitySetting, ZoneAwareSetting,
    config::{Document, DurationText, Issues, Topic, Value, parse_duration},
    registry::Visibility,
};

use super::{DefaultPolicy, DestinationRule, Subset, spec};
use crate::{
    Http2KeepAlive, HttpVersion, OutlierDetection, ProxyProtocol, TcpKeepalive, Warmup,
    policy::{Blocks, ConnectionPool, LoadBalancer, RetryLimit, TrafficPolicy},
};

pub(super) fn rule(document: &Document, issues: &mut Issues) -> Option<DestinationRule> {
    let before = issues.errors().count();
    let spec: spec::Spec = document.decode(issues)?;
    let mut read = Read { document, issues };
    let host = read.host(spec.host.as_deref());
    let export_to = read.export_to(&spec);
    let traffic_policy = spec.traffic_policy.as_ref().map(|policy| Arc::new(read.policy("trafficPolicy", policy)));
    let subsets = read.subsets(&spec.subsets);
    let rule = host.map(|host| DestinationRule {
        object: document.object().clone(),
        host,
        export_to,
        selector: spec.workload_selector.map(|selector| selector.match_labels),
        traffic_policy,
        subsets,
    });
    rule.filter(|_| issues.errors().count() == before)
}

/// The blocks that MeshConfig has for clusters without their own; `None` after an error.
pub(super) fn mesh_defaults(document: &Document, issues: &mut Issues) -> Option<Blocks> {
    const FIELD: &str = DefaultPolicy::MESH_FIELD;
    if document.spec().and_then(|spec| spec.get(FIELD)).is_none_or(|node| node.value == Value::Null) {
        return Some(Blocks::default());
    }
    let before = issues.errors().count();
    let spec: spec::MeshDefaults = document.decode_field(FIELD, issues)?;
    let (pool, outlier) = (spec.connection_pool.as_ref(), spec.outlier_detection.as_ref());
    let blocks = Read { document, issues }.blocks(FIELD, None, pool, outlier, None);
    (issues.errors().count() == before).then_some(blocks)
}

pub(super) struct Read<'a> {
    document: &'a Document,
    issues: &'a mut Issues,
}

impl Read<'_> {
    pub(super) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.error(path, message));
    }

    pub(super) fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.warning(path, message));
    }

    /// Istio has it, and without it a connection would be less safe than the rule says.
    fn unsupported(&mut self, path: String, message: &str) {
        self.issues.push(self.document.error(path, message).about(Topic::NotEnforced));
    }

    fn host(&mut self, host: Option<&str>) -> Option<HostPattern> {
        let host = host.unwrap_or_default();
        match HostPattern::resolve(host, self.document.namespace()) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.error("host", error.to_string());
                None
            }
        }
    }

    fn export_to(&mut self, spec: &spec::Spec) -> Visibility {
        let own = self.document.namespace();
        let visibility = Visibility::parse(&spec.export_to, own).unwrap_or_else(|message| {
            self.error("exportTo", message);
            Visibility::default()
        });
        let Some(selector) = &spec.workload_selector else { return visibility };
        if selector.match_labels.is_empty() {
            self.error("workloadSelector.matchLabels", "workload selector must have at least one label");
        }
        if !spec.export_to.is_empty() && visibility != Visibility::Private {
            self.error(
                "exportTo",
                "destination rule with workload selector cannot have exportTo beyond current namespace",
            );
        }
        Visibility::Private
    }

    fn subsets(&mut self, subsets: &[spec::Subset]) -> Vec<Arc<Subset>> {
        let mut names = HashSet::new();
        let mut read = Vec::with_capacity(subsets.len());
        for (index, subset) in subsets.iter().enumerate() {
            let path = format!("subsets[{index}]");
            if !is_dns_label(&subset.name) {
                let message =
                    format!("subset name {:?} is invalid: lower-case letters, digits and '-', 1 to 63", subset.name);
                self.error(format!("{path}.name"), message);
            } else if !names.insert(&subset.name) {
                self.error(format!("{path}.name"), format!("duplicate subset names: {}", subset.name));
            }
            self.labels(&format!("{path}.labels"), &subset.labels);
            let traffic_policy =
                subset.traffic_policy.as_ref().map(|policy| self.policy(&format!("{path}.trafficPolicy"), policy));
            let name = subset.name.as_str().into();
            read.push(Arc::new(Subset { name, labels: subset.labels.clone(), traffic_policy }));
        }
        read
    }

    fn labels(&mut self, path: &str, labels: &Labels) {
        for (key, value) in labels.iter() {
            let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if value.len() > 63 || !value.bytes().all(valid) {
                let message = format!("invalid label value {value:?}: letters, digits, '-', '_' and '.', at most 63");
                self.error(format!("{path}[\"{key}\"]"), message);
            }
        }
    }

    fn policy(&mut self, path: &str, policy: &spec::Policy) -> TrafficPolicy {
        let blocks = self.blocks(
            path,
            policy.load_balancer.as_ref(),
            policy.connection_pool.as_ref(),
            policy.outlier_detection.as_ref(),
            policy.tls.as_ref(),
        );
        let retry_budget = policy.retry_budget.as_ref().map(|budget| self.retry_budget(path, budget));
        if policy.tunnel.is_set() && policy.proxy_protocol.is_some() {
            self.error(path, "tunnel and proxyProtocol must not be set together");
        }
        let proxy_protocol = policy.proxy_protocol.as_ref().map(|proxy| match proxy.version {
            spec::ProxyVersion::V1 => ProxyProtocol::V1,
            spec::ProxyVersion::V2 => ProxyProtocol::V2,
        });
        let given = policy.load_balancer.is_some()
            || policy.connection_pool.is_some()
            || policy.outlier_detection.is_some()
            || policy.tls.is_some()
            || retry_budget.is_some()
            || !policy.port_level_settings.is_empty()
            || policy.tunnel.is_set()
            || proxy_protocol.is_some();
        if !given {
            self.error(path, "traffic policy must have at least one field");
        }
        let mut ports: Vec<(u16, Blocks)> = Vec::with_capacity(policy.port_level_settings.len());
        for (index, settings) in policy.port_level_settings.iter().enumerate() {
            let path = format!("{path}.portLevelSettings[{index}]");
            let number = settings.port.as_ref().and_then(|port| u16::try_from(port.number).ok()).filter(|n| *n > 0);
            if number.is_none() {
                self.error(format!("{path}.port.number"), "portTrafficPolicy must have valid port: 1 to 65535");
            }
            let blocks = self.blocks(
                &path,
                settings.load_balancer.as_ref(),
                settings.connection_pool.as_ref(),
                settings.outlier_detection.as_ref(),
                settings.tls.as_ref(),
            );
            let given = settings.load_balancer.is_some()
                || settings.connection_pool.is_some()
                || settings.outlier_detection.is_some()
                || settings.tls.is_some();
            if !given {
                self.error(path, "port traffic policy must have at least one field");
            }
            ports.extend(number.map(|number| (number, blocks)));
        }
        TrafficPolicy { blocks, retry_budget, proxy_protocol, ports }
    }

    fn blocks(
        &mut self,
        path: &str,
        load_balancer: Option<&spec::LoadBalancer>,
        pool: Option<&spec::ConnectionPool>,
        outlier: Option<&spec::Outlier>,
        tls: Option<&spec::Tls>,
    ) -> Blocks {
        Blocks {
            load_balancer: load_balancer.map(|lb| self.load_balancer(&format!("{path}.loadBalancer"), lb)),
            locality: load_balancer
                .and_then(|lb| self.locality(&format!("{path}.loadBalancer"), lb, outlier.is_some())),
            zone_aware: load_balancer.and_then(|lb| self.zone_aware(&format!("{path}.loadBalancer"), lb)),
            warmup: load_balancer.and_then(|lb| self.warmup(&format!("{path}.loadBalancer"), lb)),
            connection_pool: pool.map(|pool| self.connection_pool(&format!("{path}.connectionPool"), pool)),
            outlier_detection: outlier.map(|o| self.outlier(&format!("{path}.outlierDetection"), o)),
            tls: tls.and_then(|tls| self.tls(&format!("{path}.tls"), tls)).map(Arc::new),
        }
    }

    fn load_balancer(&mut self, path: &str, lb: &spec::LoadBalancer) -> LoadBalancer {
        if lb.simple.is_some() && lb.consistent_hash.is_some() {
            self.error(path, "only one of simple or consistentHash can be set");
        }
        if lb.locality_lb_setting.is_some() && lb.zone_aware_lb_setting.is_some() {
            self.error(path, "only one of localityLbSetting and zoneAwareLbSetting can be set");
        }
        if let Some(hash) = &lb.consistent_hash {
            return self.consistent_hash(&format!("{path}.consistentHash"), hash).into();
        }
        match lb.simple.unwrap_or(spec::Simple::Unspecified) {
            spec::Simple::Unspecified | spec::Simple::LeastConn | spec::Simple::LeastRequest => {
                LoadBalancer::LeastRequest
            }
            spec::Simple::RoundRobin => LoadBalancer::RoundRobin,
            spec::Simple::Random => LoadBalancer::Random,
            spec::Simple::Passthrough => LoadBalancer::Passthrough,
        }
    }

    fn locality(
        &mut self,
        path: &str,
        lb: &spec::LoadBalancer,
        outlier_detection: bool,
    ) -> Option<Arc<LocalitySetting>> {
        let path = format!("{path}.localityLbSetting");
        let setting = lb.locality_lb_setting.as_ref()?.read(&mut |below, message| {
            self.issues.push(self.document.error(format!("{path}{below}"), message));
        });
        if setting.asks_for_failover() && !outlier_detection {
            let message = "outlier detection policy must be provided for failover";
            self.issues.push(self.document.warning(path, message));
        }
        Some(Arc::new(setting))
    }

    fn zone_aware(&mut self, path: &str, lb: &spec::LoadBalancer) -> Option<Arc<ZoneAwareSetting>> {
        let path = format!("{path}.zoneAwareLbSetting");
        let setting = lb.zone_aware_lb_setting.as_ref()?.read(&mut |below, message| {
            self.issues.push(self.document.error(format!("{path}{below}"), message));
        });
        if lb.consistent_hash.is_some() {
            // envoy RingHashLoadBalancer and MaglevLoadBalancer are ThreadAwareLoadBalancerBase, not ZoneAware.
            let message =
                "with consistentHash requests keep to the region, but not to the zone: a key has one endpoint";
            self.issues.push(self.document.warning(path, message));
        }
        Some(Arc::new(setting))
    }

    /// istio setWarmup: `warmup`, else the deprecated warmupDurationSecs; ROUND_ROBIN and LEAST_REQUEST have it.
    fn warmup(&mut self, path: &str, lb: &spec::LoadBalancer) -> Option<Warmup> {
        let old = self.duration(format!("{path}.warmupDurationSecs"), lb.warmup_duration_secs.as_deref());
        let path = match &lb.warmup {
            Some(_) => format!("{path}.warmup"),
            None => format!("{path}.warmupDurationSecs"),
        };
        let read = match &lb.warmup {
            Some(warmup) => self.warmup_block(&path, warmup),
            None => old.map(Warmup::new),
        };
        let other = matches!(lb.simple, Some(spec::Simple::Random | spec::Simple::Passthrough));
        if read.is_some() && (other || lb.consistent_hash.is_some()) {
            self.issues.push(self.document.warning(path, "not enforced: only ROUND_ROBIN and LEAST_REQUEST have it"));
        }
        read
    }

    fn warmup_block(&mut self, path: &str, warmup: &spec::Warmup) -> Option<Warmup> {
        if warmup.duration.is_none() {
            self.error(format!("{path}.duration"), "duration is required");
        }
        let duration = self.duration(format!("{path}.duration"), warmup.duration.as_deref())?;
        let defaults = Warmup::new(duration);
        let minimum_percent = warmup.minimum_percent.unwrap_or(defaults.minimum_percent);
        let aggression = warmup.aggression.unwrap_or(defaults.aggression);
        if !(0.0..=100.0).contains(&minimum_percent) {
            self.error(format!("{path}.minimumPercent"), "minimumPercent must be in range [0, 100]");
        }
        if aggression.is_nan() || aggression < 1.0 {
            self.error(format!("{path}.aggression"), "aggression should be greater than 0: 1 or more");
        }
        Some(Warmup { minimum_percent, aggression, ..defaults })
    }

    fn connection_pool(&mut self, path: &str, pool: &spec::ConnectionPool) -> ConnectionPool {
        if pool.tcp.is_none() && pool.http.is_none() {
            self.error(path, "connection pool must have at least one field");
        }
        let mut read = ConnectionPool::default();
        if let Some(tcp) = &pool.tcp {
            let path = format!("{path}.tcp");
            let max = self.limit(&path, "maxConnections", "max connections", tcp.max_connections);
            let connections = &mut read.connections;
            connections.max_connections = max.unwrap_or(connections.max_connections);
            connections.max_duration =
                self.duration(format!("{path}.maxConnectionDuration"), tcp.max_connection_duration.as_deref());
            // istio TCPSettings.idleTimeout: "Connections will never be closed due to idleness" where it is 0s.
            match tcp.idle_timeout.as_deref().map(parse_duration) {
                Some(Ok(Duration::ZERO)) => read.connections.idle_timeout = None,
                _ => {
                    let idle = self.duration(format!("{path}.idleTimeout"), tcp.idle_timeout.as_deref());
                    read.connections.idle_timeout = idle.or(read.connections.idle_timeout);
                }
            }
            read.transport.tcp_keepalive = tcp.tcp_keepalive.as_ref().map(|keepalive| TcpKeepalive {
                time: self.seconds(format!("{path}.tcpKeepalive.time"), keepalive.time.as_deref()),
                interval: self.seconds(format!("{path}.tcpKeepalive.interval"), keepalive.interval.as_deref()),
                probes: keepalive.probes.filter(|probes| *probes > 0),
            });
            read.connect_timeout = self.duration(format!("{path}.connectTimeout"), tcp.connect_timeout.as_deref());
        }
        if let Some(http) = &pool.http {
            let path = format!("{path}.http");
            read.max_requests = self.limit(&path, "http2MaxRequests", "http2 max requests", http.http2_max_requests);
            read.max_retries = self.limit(&path, "maxRetries", "max retries", http.max_retries);
            let words = "http1 max pending requests";
            let pending = self.limit(&path, "http1MaxPendingRequests", words, http.http1_max_pending_requests);
            read.connections.max_pending = pending.unwrap_or(read.connections.max_pending);
            let words = "max requests per connection";
            let carried = self.limit(&path, "maxRequestsPerConnection", words, http.max_requests_per_connection);
            read.connections.max_requests = carried.and_then(NonZeroU32::new);
            let idle = self.duration(format!("{path}.idleTimeout"), http.idle_timeout.as_deref());
            read.connections.idle_timeout = idle.or(read.connections.idle_timeout);
            let words = "max concurrent streams";
            let streams = self.limit(&path, "maxConcurrentStreams", words, http.max_concurrent_streams);
            read.transport.max_concurrent_streams = streams.and_then(NonZeroU32::new);
            read.transport.http_version = self.http_version(&path, http);
            read.transport.http2_keep_alive = self.http2_keep_alive(&path, http);
        }
        read
    }

    /// A breaker: 0 means the default, which is no limit.
    fn limit(&mut self, path: &str, field: &str, words: &str, value: Option<i32>) -> Option<u32> {
        let limit = match u32::try_from(value?) {
            Ok(limit) => limit,
            Err(_) => {
                self.error(format!("{path}.{field}"), format!("{words} must be non-negative"));
                return None;
            }
        };
        (limit > 0).then_some(limit)
    }

    /// istio shouldH2Upgrade: useClientProtocol wins; a rule's own UPGRADE holds whatever the port is named.
    fn http_version(&mut self, path: &str, http: &spec::Http) -> HttpVersion {
        let upgrade = http.h2_upgrade_policy == Some(spec::UpgradePolicy::Upgrade);
        if upgrade && http.use_client_protocol == Some(true) {
            let message = "use client protocol must not be true when H2UpgradePolicy is UPGRADE";
            self.error(format!("{path}.useClientProtocol"), message);
        }
        match http.use_client_protocol {
            Some(true) => HttpVersion::Requests,
            _ if upgrade => HttpVersion::Http2,
            _ => HttpVersion::Declared,
        }
    }

    fn http2_keep_alive(&mut self, path: &str, http: &spec::Http) -> Option<Http2KeepAlive> {
        let keep_alive = http.http2_keep_alive.as_ref()?;
        let path = format!("{path}.http2KeepAlive");
        let mut required = |field: &str, text: &Option<DurationText>| {
            if text.is_none() {
                self.error(format!("{path}.{field}"), format!("http2 keepalive {field} is required"));
            }
            self.duration(format!("{path}.{field}"), text.as_deref())
        };
        let (interval, timeout) =
            (required("interval", &keep_alive.interval), required("timeout", &keep_alive.timeout));
        Some(Http2KeepAlive { interval: interval?, timeout: timeout? })
    }

    /// The socket options count in seconds.
    fn seconds(&mut self, path: String, text: Option<&str>) -> Option<Duration> {
        let duration = self.duration(path, text)?;
        Some(Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0)))
    }

    fn outlier(&mut self, path: &str, outlier: &spec::Outlier) -> OutlierDetection {
        if outlier.consecutive_errors.is_some_and(|errors| errors != 0) {
            let message = "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or \
                           consecutive5xxErrors instead; not enforced";
            self.issues.push(self.document.warning(format!("{path}.consecutiveErrors"), message));
        }
        let split = outlier.split_external_local_origin_errors == Some(true);
        let local = outlier.consecutive_local_origin_failures.is_some_and(|failures| failures > 0);
        if local && !split {
            let message = "outlier detection consecutive local origin failures is specified, but split external local \
                           origin errors is set to false";
            self.error(format!("{path}.consecutiveLocalOriginFailures"), message);
        }
        let defaults = OutlierDetection::default();
        let error_codes = self.error_codes(
            &format!("{path}.outlierDetectionHttpErrorCodes"),
            &outlier.outlier_detection_http_error_codes,
        );
        let max = self.percent(format!("{path}.maxEjectionPercent"), outlier.max_ejection_percent);
        let min = self.percent(format!("{path}.minHealthPercent"), outlier.min_health_percent);
        let interval = self.duration(format!("{path}.interval"), outlier.interval.as_deref());
        let base = self.duration(format!("{path}.baseEjectionTime"), outlier.base_ejection_time.as_deref());
        OutlierDetection {
            consecutive_5xx: outlier.consecutive_5xx_errors.unwrap_or(defaults.consecutive_5xx),
            consecutive_gateway: outlier.consecutive_gateway_errors.unwrap_or(defaults.consecutive_gateway),
            split_local_origin: split,
            consecutive_local_origin: outlier
                .consecutive_local_origin_failures
                .unwrap_or(defaults.consecutive_local_origin),
            error_codes,
            interval: interval.unwrap_or(defaults.interval),
            base_ejection_time: base.unwrap_or(defaults.base_ejection_time),
            // istio applyOutlierDetection: 0 is not set.
            max_ejection_percent: max.filter(|max| *max > 0).unwrap_or(defaults.max_ejection_percent),
            min_health_percent: min.unwrap_or(defaults.min_health_percent),
            ..defaults
        }
    }

    fn error_codes(&mut self, path: &str, codes: &[u32]) -> Option<Arc<[u16]>> {
        let mut read = Vec::with_capacity(codes.len());
        for (index, code) in codes.iter().enumerate() {
            match u16::try_from(*code) {
                Ok(code @ 100..=599) => read.push(code),
                _ => self.error(format!("{path}[{index}]"), format!("HTTP status {code} is not in range 100..599")),
            }
        }
        (!read.is_empty()).then(|| read.into())
    }

    fn percent(&mut self, path: String, percent: Option<i32>) -> Option<u32> {
        let percent = percent?;
        match u32::try_from(percent) {
            Ok(percent) if percent <= 100 => Some(percent),
            _ => {
                self.error(path, format!("percentage {percent} is not in range 0..100"));
                None
            }
        }
    }

    fn duration(&mut self, path: String, text: Option<&str>) -> Option<Duration> {
        match parse_duration(text?) {
            Ok(duration) if duration >= Duration::from_millis(1) => Some(duration),
            Ok(_) => {
                self.error(path, "duration must be greater than 1ms");
                None
            }
            Err(error) => {
                self.error(path, error.to_string());
                None
            }
        }
    }

    fn retry_budget(&mut self, path: &str, budget: &spec::RetryBudget) -> RetryLimit {
        let percent = budget.percent.unwrap_or(20.0);
        if !(0.0..=100.0).contains(&percent) {
            let message = format!("percentage {percent} is not in range 0..100");
            self.error(format!("{path}.retryBudget.percent"), message);
        }
        RetryLimit::Budget { percent, min: budget.min_retry_concurrency.unwrap_or(3) }
    }

    /// What is not supported here is refused, not reported: without it a connection would be less safe than the
    /// rule says.
    fn tls(&mut self, path: &str, tls: &spec::Tls) -> Option<ClientTlsSettings> {
        let before = self.issues.errors().count();
        let given = |field: &Option<String>| field.as_deref().is_some_and(|text| !text.is_empty());
        if given(&tls.credential_name) {
            let files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates, &tls.ca_crl];
            if files.into_iter().any(given) {
                let message = "cannot specify client certificates or CA certificate or CA CRL If credentialName is set";
                self.error(path, message);
            }
            let message =
                "credentialName is not supported yet: name files in clientCertificate, privateKey and caCertificates";
            self.unsupported(format!("{path}.credentialName"), message);
        } else if tls.mode == spec::TlsMode::Mutual {
            if !given(&tls.client_certificate) {
                self.error(format!("{path}.clientCertificate"), "client certificate required for mutual tls");
            }
            if !given(&tls.private_key) {
                self.error(format!("{path}.privateKey"), "private key required for mutual tls");
            }
        }
        if tls.insecure_skip_verify == Some(true) {
            self.unsupported(
                format!("{path}.insecureSkipVerify"),
                "insecureSkipVerify is not supported yet: leave it out",
            );
        }
        if given(&tls.ca_crl) {
            self.unsupported(format!("{path}.caCrl"), "caCrl is not supported yet: leave it out");
        }
        let file = |field: &Option<String>| field.as_ref().filter(|text| !text.is_empty()).map(Into::into);
        (self.issues.errors().count() == before).then(|| ClientTlsSettings {
            mode: ClientTlsMode::from(tls.mode),
            sni: tls.sni.as_deref().filter(|sni| !sni.is_empty()).map(Into::into),
            subject_alt_names: tls.subject_alt_names.iter().map(|name| name.as_str().into()).collect(),
            ca_certificates: file(&tls.ca_certificates),
            client_certificate: file(&tls.client_certificate),
            private_key: file(&tls.private_key),
        })
    }
}

/// RFC 1123 label.
fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
