//! What is wrong with a Telemetry alone: nothing in-process reads it yet (istio telemetry/v1alpha1, and its CRD).
#![allow(dead_code, reason = "fields that are there to be decoded")]

use std::collections::BTreeMap;

use mesh_core::config::{Document, DurationText, Issues, parse_duration};
use serde::{Deserialize, de::IgnoredAny};

use crate::lint::{check::refuse, resources::TELEMETRY};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    selector: Option<Selector>,
    target_ref: Option<IgnoredAny>,
    target_refs: Vec<IgnoredAny>,
    tracing: Vec<Tracing>,
    metrics: Vec<Metrics>,
    access_logging: Vec<AccessLogging>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Provider {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Match {
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    #[default]
    ClientAndServer,
    Client,
    Server,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Tracing {
    r#match: Option<Match>,
    providers: Vec<Provider>,
    random_sampling_percentage: Option<f64>,
    disable_span_reporting: Option<bool>,
    custom_tags: BTreeMap<String, CustomTag>,
    use_request_id_for_trace_sampling: Option<bool>,
    enable_istio_tags: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CustomTag {
    literal: Option<Value>,
    environment: Option<Named>,
    header: Option<Named>,
    formatter: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Value {
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Named {
    name: String,
    default_value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Metrics {
    providers: Vec<Provider>,
    overrides: Vec<Override>,
    reporting_interval: Option<DurationText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Override {
    r#match: Option<MetricMatch>,
    disabled: Option<bool>,
    tag_overrides: BTreeMap<String, TagOverride>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MetricMatch {
    metric: Option<Metric>,
    custom_metric: Option<String>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Metric {
    AllMetrics,
    RequestCount,
    RequestDuration,
    RequestSize,
    ResponseSize,
    TcpOpenedConnections,
    TcpClosedConnections,
    TcpSentBytes,
    TcpReceivedBytes,
    GrpcRequestMessages,
    GrpcResponseMessages,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TagOverride {
    operation: Operation,
    value: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operation {
    #[default]
    Upsert,
    Remove,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AccessLogging {
    r#match: Option<Match>,
    providers: Vec<Provider>,
    disabled: Option<bool>,
    filter: Option<Filter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Filter {
    expression: String,
}

pub(in crate::lint) fn check(document: &Document, issues: &mut Issues) {
    if (document.group(), document.kind()) != TELEMETRY {
        return;
    }
    let Some(spec) = document.decode::<Spec>(issues) else { return };
    let mut refuse = |path: String, message: &str| refuse(document, issues, path, message);
    if spec.selector.is_some() && (spec.target_ref.is_some() || !spec.target_refs.is_empty()) {
        refuse("selector".into(), "only one of targetRefs or workloadSelector can be set");
    }
    for (index, tracing) in spec.tracing.iter().enumerate() {
        let path = format!("tracing[{index}]");
        providers(&path, &tracing.providers, &mut refuse);
        if tracing.random_sampling_percentage.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            let message = "randomSamplingPercentage must be in range [0.0, 100.0]";
            refuse(format!("{path}.randomSamplingPercentage"), message);
        }
        for (name, tag) in &tracing.custom_tags {
            custom_tag(format!("{path}.customTags[\"{name}\"]"), name, tag, &mut refuse);
        }
    }
    for (index, metrics) in spec.metrics.iter().enumerate() {
        let path = format!("metrics[{index}]");
        providers(&path, &metrics.providers, &mut refuse);
        if let Some(Err(error)) = metrics.reporting_interval.as_deref().map(parse_duration) {
            refuse(format!("{path}.reportingInterval"), &error.to_string());
        }
        for (at, one) in metrics.overrides.iter().enumerate() {
            metric_override(&format!("{path}.overrides[{at}]"), one, &mut refuse);
        }
    }
    for (index, log) in spec.access_logging.iter().enumerate() {
        providers(&format!("accessLogging[{index}]"), &log.providers, &mut refuse);
    }
}

fn providers(path: &str, providers: &[Provider], refuse: &mut impl FnMut(String, &str)) {
    for (index, _) in providers.iter().enumerate().filter(|(_, provider)| provider.name.is_empty()) {
        refuse(format!("{path}.providers[{index}].name"), "providers.name may not be empty");
    }
}

/// The CRD's oneOf, and its minimum lengths.
fn custom_tag(path: String, name: &str, tag: &CustomTag, refuse: &mut impl FnMut(String, &str)) {
    if name.is_empty() {
        refuse(path.clone(), "tag name may not be empty");
    }
    let given = [tag.literal.is_some(), tag.environment.is_some(), tag.header.is_some(), tag.formatter.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        refuse(path.clone(), "only one of literal, environment, header or formatter can be set");
    }
    if tag.literal.as_ref().is_some_and(|literal| literal.value.is_empty()) {
        refuse(format!("{path}.literal"), "literal tag value may not be empty");
    }
    if tag.environment.as_ref().is_some_and(|environment| environment.name.is_empty()) {
        refuse(format!("{path}.environment"), "environment tag name may not be empty");
    }
    if tag.header.as_ref().is_some_and(|header| header.name.is_empty()) {
        refuse(format!("{path}.header"), "header tag name may not be empty");
    }
}

fn metric_override(path: &str, one: &Override, refuse: &mut impl FnMut(String, &str)) {
    if let Some(matched) = &one.r#match {
        if matched.custom_metric.as_deref() == Some("") {
            refuse(format!("{path}.match.customMetric"), "customMetric may not be empty");
        }
        if matched.custom_metric.is_some() && matched.metric.is_some() {
            refuse(format!("{path}.match"), "only one of metric or customMetric can be set");
        }
    }
    for (name, tag) in &one.tag_overrides {
        let given = tag.value.as_ref().is_some_and(|value| !value.is_empty());
        let message = match (tag.operation, given) {
            (Operation::Upsert, false) => "tagOverrides.value must be set when operation is UPSERT",
            (Operation::Remove, true) => "tagOverrides.value may only be set when operation is UPSERT",
            _ => continue,
        };
        refuse(format!("{path}.tagOverrides[\"{name}\"]"), message);
    }
}
