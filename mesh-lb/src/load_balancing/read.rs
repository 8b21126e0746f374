//! From YAML to entries: what is refused, and what is reported.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use mesh_core::{
    HostPattern,
    config::{Document, Issues, Value, parse_duration},
};

use super::{Entry, LoadBalancing, spec};
use crate::{BoundedLoad, FailurePercentage, SuccessRate};

const FIELD: &str = LoadBalancing::FIELD;

pub(super) fn section(document: &Document, issues: &mut Issues) -> Option<LoadBalancing> {
    if document.spec().and_then(|spec| spec.get(FIELD)).is_none_or(|node| node.value == Value::Null) {
        return Some(LoadBalancing::default());
    }
    let before = issues.errors().count();
    let specs: Vec<spec::Entry> = document.decode_field(FIELD, issues)?;
    let mut read = Read { document, issues };
    let mut entries: Vec<Entry> = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let entry = read.entry(&format!("{FIELD}[{index}]"), spec);
        let all = [HostPattern::Any];
        let hosts = if entry.hosts.is_empty() && spec.hosts.is_empty() { &all[..] } else { &entry.hosts };
        let taken = |host: &HostPattern| entries.iter().any(|earlier| earlier.covers(host));
        if !hosts.is_empty() && hosts.iter().all(taken) {
            read.warn(format!("{FIELD}[{index}]"), "never in force: the entries above it are for all of its hosts");
        }
        entries.push(entry);
    }
    (issues.errors().count() == before).then_some(LoadBalancing { entries })
}

pub(super) struct Read<'a> {
    document: &'a Document,
    issues: &'a mut Issues,
}

impl Read<'_> {
    pub(super) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.error(path, message));
    }

    fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.warning(path, message));
    }

    fn entry(&mut self, path: &str, spec: &spec::Entry) -> Entry {
        let says = spec.bounded_load.is_some() || spec.health_check.is_some() || spec.outlier_detection.is_some();
        if !says {
            self.warn(path, "has no effect: it says nothing but hosts");
        }
        let rates = spec.outlier_detection.as_ref();
        let rates_path = format!("{path}.outlierDetection");
        if rates.is_some_and(|rates| rates.success_rate.is_none() && rates.failure_percentage.is_none()) {
            self.warn(&*rates_path, "has no effect: it has neither successRate nor failurePercentage");
        }
        Entry {
            hosts: self.hosts(path, &spec.hosts),
            policy: None,
            bounded_load: spec
                .bounded_load
                .as_ref()
                .and_then(|bound| self.bound(&format!("{path}.boundedLoad"), bound)),
            health_check: spec
                .health_check
                .as_ref()
                .and_then(|check| self.health_check(&format!("{path}.healthCheck"), check))
                .map(Arc::new),
            success_rate: rates
                .and_then(|rates| rates.success_rate.as_ref())
                .map(|rate| self.success_rate(&format!("{rates_path}.successRate"), rate)),
            failure_percentage: rates
                .and_then(|rates| rates.failure_percentage.as_ref())
                .map(|rate| self.failure_percentage(&format!("{rates_path}.failurePercentage"), rate)),
        }
    }

    fn hosts(&mut self, path: &str, hosts: &[String]) -> Vec<HostPattern> {
        let mut read = Vec::with_capacity(hosts.len());
        for (index, host) in hosts.iter().enumerate() {
            match HostPattern::resolve(host, self.document.namespace()) {
                Ok(pattern) => read.push(pattern),
                Err(error) => self.error(format!("{path}.hosts[{index}]"), error.to_string()),
            }
        }
        read
    }

    /// envoy ConsistentHashingLbConfig.hash_balance_factor: "If not specified, load is not bounded", "Must be >= 100".
    fn bound(&mut self, path: &str, spec: &spec::BoundedLoad) -> Option<BoundedLoad> {
        let Some(percent) = spec.percent else {
            self.error(format!("{path}.percent"), "percent is required: how far above the average a load may be");
            return None;
        };
        let percent = self.number(format!("{path}.percent"), percent, 100..=u32::MAX)?;
        BoundedLoad::percent(percent)
    }

    fn success_rate(&mut self, path: &str, spec: &spec::SuccessRate) -> SuccessRate {
        let defaults = SuccessRate::default();
        let mut number = |field: &str, value: Option<i64>, default| {
            self.number_or(format!("{path}.{field}"), value, default, 0..=u32::MAX)
        };
        SuccessRate {
            minimum_hosts: number("minimumHosts", spec.minimum_hosts, defaults.minimum_hosts),
            request_volume: number("requestVolume", spec.request_volume, defaults.request_volume),
            stdev_factor: number("stdevFactor", spec.stdev_factor, defaults.stdev_factor),
        }
    }

    fn failure_percentage(&mut self, path: &str, spec: &spec::FailurePercentage) -> FailurePercentage {
        let defaults = FailurePercentage::default();
        let mut number = |field: &str, value: Option<i64>, default, most| {
            self.number_or(format!("{path}.{field}"), value, default, 0..=most)
        };
        FailurePercentage {
            threshold: number("threshold", spec.threshold, defaults.threshold, 100),
            minimum_hosts: number("minimumHosts", spec.minimum_hosts, defaults.minimum_hosts, u32::MAX),
            request_volume: number("requestVolume", spec.request_volume, defaults.request_volume, u32::MAX),
        }
    }

    /// A whole number of these.
    pub(super) fn number(&mut self, path: String, value: i64, allowed: RangeInclusive<u32>) -> Option<u32> {
        let number = u32::try_from(value).ok().filter(|number| allowed.contains(number));
        if number.is_none() {
            let what = match (allowed.start(), allowed.end()) {
                (least, &u32::MAX) => format!("{value} is not a number of at least {least}"),
                (least, most) => format!("{value} is not in range {least}..{most}"),
            };
            self.error(path, what);
        }
        number
    }

    pub(super) fn number_or(
        &mut self,
        path: String,
        value: Option<i64>,
        default: u32,
        allowed: RangeInclusive<u32>,
    ) -> u32 {
        value.map_or(Some(default), |value| self.number(path, value, allowed)).unwrap_or(default)
    }

    /// A duration of at least so much.
    pub(super) fn duration(&mut self, path: String, text: Option<&str>, least: Duration) -> Option<Duration> {
        match parse_duration(text?) {
            Ok(duration) if duration >= least => return Some(duration),
            Ok(_) => self.error(path, format!("must be at least {least:?}")),
            Err(error) => self.error(path, error.to_string()),
        }
        None
    }
}
