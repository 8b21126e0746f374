//! `healthCheck`.

use std::{num::NonZeroU32, time::Duration};

use http::{HeaderValue, Method, uri::PathAndQuery};

use super::{read::Read, spec};
use crate::{GrpcCheck, HealthCheck, HealthCheckKind, HttpCheck, Statuses};

impl Read<'_> {
    pub(super) fn health_check(&mut self, path: &str, spec: &spec::HealthCheck) -> Option<HealthCheck> {
        let kind = self.kind(path, spec)?;
        let defaults = HealthCheck::new(kind);
        let millisecond = Duration::from_millis(1);
        let interval = self.duration(format!("{path}.interval"), spec.interval.as_deref(), millisecond);
        let timeout = self.duration(format!("{path}.timeout"), spec.timeout.as_deref(), millisecond);
        let interval_jitter =
            self.duration(format!("{path}.intervalJitter"), spec.interval_jitter.as_deref(), Duration::ZERO);
        let initial_jitter =
            self.duration(format!("{path}.initialJitter"), spec.initial_jitter.as_deref(), Duration::ZERO);
        let mut threshold = |field: &str, value: Option<i64>, default: NonZeroU32| {
            let number = self.number_or(format!("{path}.{field}"), value, default.get(), 1..=u32::MAX);
            NonZeroU32::new(number).unwrap_or(default)
        };
        Some(HealthCheck {
            unhealthy_threshold: threshold(
                "unhealthyThreshold",
                spec.unhealthy_threshold,
                defaults.unhealthy_threshold,
            ),
            healthy_threshold: threshold("healthyThreshold", spec.healthy_threshold, defaults.healthy_threshold),
            interval: interval.unwrap_or(defaults.interval),
            timeout: timeout.unwrap_or(defaults.timeout),
            interval_jitter: interval_jitter.unwrap_or(defaults.interval_jitter),
            initial_jitter: initial_jitter.unwrap_or(defaults.initial_jitter),
            ..defaults
        })
    }

    fn kind(&mut self, path: &str, spec: &spec::HealthCheck) -> Option<HealthCheckKind> {
        match (&spec.http, &spec.grpc, &spec.tcp) {
            (Some(http), None, None) => self.http(&format!("{path}.http"), http).map(HealthCheckKind::Http),
            (None, Some(grpc), None) => self.grpc(&format!("{path}.grpc"), grpc).map(HealthCheckKind::Grpc),
            (None, None, Some(_)) => Some(HealthCheckKind::Tcp),
            (None, None, None) => {
                self.error(path, "one of http, grpc and tcp must be set");
                None
            }
            _ => {
                self.error(path, "only one of http, grpc and tcp can be set");
                None
            }
        }
    }

    fn http(&mut self, path: &str, spec: &spec::HttpCheck) -> Option<HttpCheck> {
        // A URI may say `*`, or nothing; a path of a request to a server says neither.
        let target = spec.path.parse::<PathAndQuery>().ok().filter(|_| spec.path.starts_with('/'));
        if target.is_none() {
            self.error(format!("{path}.path"), format!("{:?} is not a path: /healthz, for instance", spec.path));
        }
        let mut check = HttpCheck::new(target?);
        if let Some(method) = &spec.method {
            match method.parse::<Method>() {
                Ok(Method::CONNECT) => self.error(format!("{path}.method"), "CONNECT asks for no status"),
                Ok(method) => check.method = method,
                Err(_) => self.error(format!("{path}.method"), format!("{method:?} is not a method")),
            }
        }
        check.host = self.authority(format!("{path}.host"), spec.host.as_deref());
        if let Some(ranges) = &spec.expected_statuses {
            if ranges.is_empty() {
                self.error(format!("{path}.expectedStatuses"), "no status would be expected: leave it out for 200");
            }
            check.expected = self.statuses(&format!("{path}.expectedStatuses"), ranges);
        }
        check.retriable = self.statuses(&format!("{path}.retriableStatuses"), &spec.retriable_statuses);
        Some(check)
    }

    fn grpc(&mut self, path: &str, spec: &spec::GrpcCheck) -> Option<GrpcCheck> {
        let authority = self.authority(format!("{path}.authority"), spec.authority.as_deref());
        Some(GrpcCheck { service: spec.service_name.as_str().into(), authority })
    }

    fn authority(&mut self, path: String, text: Option<&str>) -> Option<HeaderValue> {
        let text = text?;
        let value = text.parse::<http::uri::Authority>().ok().and_then(|_| HeaderValue::from_str(text).ok());
        if value.is_none() {
            self.error(path, format!("{text:?} is not a host, with or without a port"));
        }
        value
    }

    /// envoy HttpHealthCheck.expected_statuses: "Ranges follow half-open semantics", "Only statuses in the range
    /// [100, 600) are allowed".
    fn statuses(&mut self, path: &str, ranges: &[spec::StatusRange]) -> Statuses {
        let mut read = Vec::with_capacity(ranges.len());
        for (index, range) in ranges.iter().enumerate() {
            let spec::StatusRange { start, end } = *range;
            match (u16::try_from(start), u16::try_from(end)) {
                (Ok(start), Ok(end)) if start >= 100 && start < end && end <= 600 => read.push(start..end),
                _ => {
                    let message =
                        format!("{start}..{end} is not a range of statuses: from 100, below 600, end excluded");
                    self.error(format!("{path}[{index}]"), message);
                }
            }
        }
        Statuses::new(read)
    }
}
