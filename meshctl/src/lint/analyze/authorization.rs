//! AuthorizationPolicies for nobody, and about namespaces that are not there.

use std::collections::BTreeSet;

use mesh_core::config::{Document, Node};

use crate::lint::{
    codes,
    names::selector,
    report::Findings,
    resources::{AUTHORIZATION_POLICY, NAMESPACE, Resources},
    view::View as _,
    workloads::policy_selector,
};

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let namespaces: BTreeSet<&str> = resources.of(NAMESPACE).iter().map(|namespace| &**namespace.name()).collect();
    for (document, spec) in resources.specs(AUTHORIZATION_POLICY) {
        // Where no workload is known, nothing can be said about who is selected.
        let targeted = spec.has("targetRef") || !spec.list("targetRefs").is_empty();
        if !resources.workloads.is_empty() && !targeted {
            workloads(resources, document, findings);
        }
        if !namespaces.is_empty() {
            callers(document, spec, &namespaces, findings);
        }
    }
}

fn workloads(resources: &Resources<'_>, document: &Document, findings: &mut Findings) {
    let own: &str = document.namespace();
    let labels = policy_selector(document);
    let root = own == resources.root_namespace();
    let selects = match &labels {
        // Without a selector, in the root namespace, it is for the whole mesh.
        None if root => true,
        Some(labels) if root => resources.workloads.selects_anywhere(labels),
        labels => !resources.workloads.select(own, labels.as_deref().unwrap_or_default()).is_empty(),
    };
    if !selects {
        let message = format!(
            "No matching workloads for this resource with the following labels: {}",
            selector(&labels.clone().unwrap_or_default()),
        );
        let path = if labels.is_some() { "selector.matchLabels" } else { "metadata.namespace" };
        findings.add(&codes::NO_MATCHING_WORKLOADS_FOUND, document, path, message);
    }
}

fn callers(document: &Document, spec: &Node, namespaces: &BTreeSet<&str>, findings: &mut Findings) {
    for (rule, node) in spec.list("rules").iter().enumerate() {
        for (from, node) in node.list("from").iter().enumerate() {
            for field in ["namespaces", "notNamespaces"] {
                for (index, pattern) in node.child("source").texts(field).into_iter().enumerate() {
                    if !exists(pattern, namespaces) {
                        let path = format!("rules[{rule}].from[{from}].source.{field}[{index}]");
                        let message = format!("Referenced namespace not found: {pattern:?}");
                        findings.add(&codes::REFERENCED_RESOURCE_NOT_FOUND, document, path, message);
                    }
                }
            }
        }
    }
}

/// istio Source.namespaces: exact, `prefix*`, `*suffix` or `*`.
fn exists(pattern: &str, namespaces: &BTreeSet<&str>) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => namespaces.iter().any(|namespace| namespace.ends_with(suffix)),
        (None, Some(prefix)) => namespaces.range(prefix..).next().is_some_and(|next| next.starts_with(prefix)),
        (None, None) => namespaces.contains(pattern),
    }
}
