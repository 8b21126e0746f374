//! `selector` and `targetRefs`: whom a security object is for.

use std::collections::BTreeMap;

use mesh_core::{
    Labels,
    config::{Document, Issues, Topic},
};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct TargetRef {
    group: String,
    kind: String,
    name: String,
    namespace: String,
}

/// The labels that are selected. `targets` are the fields that name what the object is for, in the place of a selector.
pub(crate) fn selector(
    document: &Document,
    issues: &mut Issues,
    selector: Option<&Selector>,
    targets: [(&'static str, bool); 2],
) -> Labels {
    let targets = targets.into_iter().filter_map(|(field, given)| given.then_some(field));
    let Some(Selector { match_labels }) = selector else {
        for field in targets {
            let message = "targetRefs name gateways and waypoints: not in force in-process";
            issues.push(document.warning(field, message).about(Topic::NotEnforced));
        }
        return Labels::default();
    };
    if targets.count() > 0 {
        issues.push(document.error("selector", "only one of targetRefs or workloadSelector can be set"));
    }
    if match_labels.is_empty() {
        let message = "workload selector specified without labels: it selects every workload";
        issues.push(document.warning("selector", message));
    }
    for (key, value) in match_labels {
        let pair = format!("{key}:{value}");
        if key.is_empty() {
            let message = format!("empty key is not supported in selector: {pair:?}");
            issues.push(document.error("selector.matchLabels", message));
        }
        if pair.contains('*') {
            let message = format!("wildcard is not supported in selector: {pair:?}");
            issues.push(document.error("selector.matchLabels", message));
        }
    }
    match_labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
