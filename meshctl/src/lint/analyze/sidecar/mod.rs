//! Sidecar: read, and not enforced.

pub(in crate::lint) mod schema;

use std::collections::HashSet;

use mesh_core::config::Document;

use super::selectors::Selecting;
use crate::lint::{
    codes,
    report::Findings,
    resources::{NAMESPACE, Resources, SIDECAR},
    view::View as _,
};

const SELECTING: Selecting = Selecting {
    kind: SIDECAR,
    field: ["workloadSelector", "labels"],
    plural: "Sidecars",
    same_workload: &codes::CONFLICTING_SIDECAR_WORKLOAD_SELECTORS,
    several_without: &codes::MULTIPLE_SIDECARS_WITHOUT_WORKLOAD_SELECTORS,
};

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    SELECTING.overlaps(resources, findings);
    SELECTING.without_selector(resources, findings);
    let namespaces = resources.of(NAMESPACE).iter().filter(|namespace| is_ambient(namespace));
    let in_ambient: HashSet<&str> = namespaces.map(|namespace| &**namespace.name()).collect();
    for (document, spec) in resources.specs(SIDECAR) {
        let labels = spec.child("workloadSelector").labels("labels");
        let namespace: &str = document.namespace();
        let ambient = if labels.is_empty() {
            in_ambient.contains(namespace)
        } else {
            let enabled = |known: &Document| known.annotations().get("ambient.istio.io/redirection") == Some("enabled");
            resources.workloads.select(namespace, &labels).iter().any(|running| enabled(running.document))
        };
        if ambient {
            let message = "The policy has no impact: Sidecar is not for workloads in ambient mode.";
            findings.add(&codes::INEFFECTIVE_POLICY, document, "metadata.name", message);
        }
    }
}

/// istio util.NamespaceInAmbientMode: a label for sidecars comes first.
fn is_ambient(namespace: &Document) -> bool {
    let label = |name: &str| namespace.labels().get(name).filter(|value| !value.is_empty());
    label("istio.io/dataplane-mode") == Some("ambient")
        && label("istio-injection") != Some("enabled")
        && label("istio.io/rev").is_none()
}
