//! Telemetry, beside others and the mesh's providers.

pub(in crate::lint) mod schema;

use std::collections::HashSet;

use super::selectors::Selecting;
use crate::lint::{
    codes,
    report::Findings,
    resources::{Resources, TELEMETRY},
    view::View as _,
};

const SELECTING: Selecting = Selecting {
    kind: TELEMETRY,
    field: ["selector", "matchLabels"],
    plural: "Telemetries",
    same_workload: &codes::CONFLICTING_TELEMETRY_WORKLOAD_SELECTORS,
    several_without: &codes::MULTIPLE_TELEMETRIES_WITHOUT_WORKLOAD_SELECTORS,
};

pub(super) fn selectors(resources: &Resources<'_>, findings: &mut Findings) {
    SELECTING.overlaps(resources, findings);
}

pub(super) fn default_selectors(resources: &Resources<'_>, findings: &mut Findings) {
    SELECTING.without_selector(resources, findings);
}

/// Access logs to nowhere: no provider of their own, and the mesh has no default.
pub(super) fn providers(resources: &Resources<'_>, findings: &mut Findings) {
    let defaults = resources.mesh().map(|mesh| mesh.child("defaultProviders").list("accessLogging"));
    if defaults.is_some_and(|defaults| !defaults.is_empty()) {
        return;
    }
    for (document, spec) in resources.specs(TELEMETRY) {
        for (index, log) in spec.list("accessLogging").iter().enumerate() {
            if log.list("providers").is_empty() && !log.is_true("disabled") {
                let message = format!(
                    "The Telemetry {} in namespace {:?} with empty providers will be ignored.",
                    document.name(),
                    &**document.namespace(),
                );
                let path = format!("accessLogging[{index}]");
                findings.add(&codes::INVALID_TELEMETRY_PROVIDER, document, path, message);
            }
        }
    }
}

/// Lightstep's own protocol is gone; its collector speaks OpenTelemetry's.
pub(super) fn lightstep(resources: &Resources<'_>, findings: &mut Findings) {
    let providers = resources.mesh().map(|mesh| mesh.list("extensionProviders")).unwrap_or_default();
    let lightstep: HashSet<&str> =
        providers.iter().filter(|provider| provider.has("lightstep")).map(|provider| provider.text("name")).collect();
    if lightstep.is_empty() {
        return;
    }
    for (document, spec) in resources.specs(TELEMETRY) {
        for (index, tracing) in spec.list("tracing").iter().enumerate() {
            for (at, provider) in tracing.list("providers").iter().enumerate() {
                let name = provider.text("name");
                if lightstep.contains(name) {
                    let message = format!("Deprecated: provider {name:?} is Lightstep's: use OpenTelemetry's");
                    let path = format!("tracing[{index}].providers[{at}].name");
                    findings.add(&codes::DEPRECATED, document, path, message);
                }
            }
        }
    }
}
