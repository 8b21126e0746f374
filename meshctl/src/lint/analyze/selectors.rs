//! What Sidecar and Telemetry have in common: one for the workloads of a selector, one for the rest of a namespace.

use std::collections::{BTreeMap, HashMap, HashSet};

use mesh_core::config::{Document, Node};

use crate::lint::{
    Code, codes,
    names::{few, go_list, selector},
    report::Findings,
    resources::{Kind, Resources},
    view::View as _,
};

/// Where a kind has its selector, and how its findings read.
pub(super) struct Selecting {
    pub(super) kind: Kind,
    /// The field with the selector, and the one in it with the labels.
    pub(super) field: [&'static str; 2],
    pub(super) plural: &'static str,
    pub(super) same_workload: &'static Code,
    pub(super) several_without: &'static Code,
}

impl Selecting {
    fn labels<'a>(&self, spec: &'a Node) -> Vec<(&'a str, &'a str)> {
        spec.child(self.field[0]).labels(self.field[1])
    }

    /// Selectors that select nothing, or what another selects.
    pub(super) fn overlaps(&self, resources: &Resources<'_>, findings: &mut Findings) {
        if resources.workloads.is_empty() {
            return;
        }
        // The objects that select each workload, in the order of files.
        let mut selecting: HashMap<*const Document, (&Document, Vec<&Document>)> = HashMap::new();
        let mut order = Vec::new();
        for (document, spec) in resources.specs(self.kind) {
            let labels = self.labels(spec);
            if labels.is_empty() {
                continue;
            }
            let selected = resources.workloads.select(document.namespace(), &labels);
            if selected.is_empty() {
                let message = format!("Referenced selector not found: {:?}", selector(&labels));
                findings.add(&codes::REFERENCED_RESOURCE_NOT_FOUND, document, self.field.join("."), message);
            }
            for running in selected {
                let key = std::ptr::from_ref(running.document);
                let entry = selecting.entry(key).or_insert_with(|| {
                    order.push(key);
                    (running.document, Vec::new())
                });
                entry.1.push(document);
            }
        }
        let mut told = HashSet::new();
        for (workload, several) in order.iter().map(|key| &selecting[key]).filter(|(_, several)| several.len() > 1) {
            let mut list = None;
            for document in several.iter().filter(|document| told.insert(std::ptr::from_ref(**document))) {
                let message = format!(
                    "The {} {} in namespace {:?} select the same workload pod {:?}, which can lead to undefined behavior.",
                    self.plural,
                    list.get_or_insert_with(|| names(several)),
                    &**document.namespace(),
                    &**workload.name(),
                );
                findings.add(self.same_workload, document, self.field.join("."), message);
            }
        }
    }

    /// More than one in a namespace without a selector.
    pub(super) fn without_selector(&self, resources: &Resources<'_>, findings: &mut Findings) {
        let mut without: BTreeMap<&str, Vec<&Document>> = BTreeMap::new();
        for (document, spec) in resources.specs(self.kind).filter(|(_, spec)| !spec.has(self.field[0])) {
            // One for gateways is not one for the namespace.
            if !spec.has("targetRef") && spec.list("targetRefs").is_empty() {
                without.entry(document.namespace()).or_default().push(document);
            }
        }
        for (namespace, several) in without.iter().filter(|(_, several)| several.len() > 1) {
            let names = names(several);
            for document in several {
                let message = format!(
                    "The {} {names} in namespace {namespace:?} have no workload selector, which can lead to undefined behavior.",
                    self.plural,
                );
                findings.add(self.several_without, document, "metadata.name", message);
            }
        }
    }
}

fn names(documents: &[&Document]) -> String {
    go_list(few(documents.iter().map(|document| document.name().to_string()).collect()))
}
