//! Workload entries by their labels, so that a selector does not ask each of them.

use std::{collections::HashMap, sync::Arc};

use super::WorkloadEntry;
use crate::Labels;

/// A namespace's workloads that have a label.
type Labelled<'a> = (&'a str, &'a str, &'a str);

/// All workload entries, in order.
#[derive(Debug)]
pub(super) struct Workloads<'a> {
    by_namespace: HashMap<&'a str, Vec<&'a Arc<WorkloadEntry>>>,
    by_label: HashMap<Labelled<'a>, Vec<&'a Arc<WorkloadEntry>>>,
}

impl<'a> Workloads<'a> {
    pub(super) fn new(entries: &'a [Arc<WorkloadEntry>]) -> Self {
        let mut workloads = Self { by_namespace: HashMap::new(), by_label: HashMap::new() };
        for entry in entries {
            workloads.by_namespace.entry(&entry.namespace).or_default().push(entry);
            for (key, value) in entry.labels.iter() {
                workloads.by_label.entry((&entry.namespace, key, value)).or_default().push(entry);
            }
        }
        workloads
    }

    /// Those of a namespace that have every label of a selector; all where it is empty.
    pub(super) fn select(
        &self,
        namespace: &'a str,
        selector: &'a Labels,
    ) -> impl Iterator<Item = &'a Arc<WorkloadEntry>> {
        let none = &[][..];
        let with = |label| self.by_label.get(&label).map_or(none, Vec::as_slice);
        let fewest = selector.iter().map(|(key, value)| with((namespace, key, value))).min_by_key(|some| some.len());
        let all = || self.by_namespace.get(namespace).map_or(none, Vec::as_slice);
        fewest.unwrap_or_else(all).iter().copied().filter(|entry| entry.labels.contains_all(selector))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, Issues};

    #[test]
    fn a_selector_finds_what_has_all_its_labels() {
        // istio networking/v1alpha3 ServiceEntry.workloadSelector: "Applicable only for MESH_INTERNAL services. Only one of
        // endpoints or workloadSelector can be specified. Selects one or more Kubernetes pods or VM workloads".
        let entry = |name: &str, namespace: &str, labels: &str| {
            format!(
                "{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: {name}, namespace: {namespace}}}, \
                 spec: {{address: 10.0.0.1, labels: {{{labels}}}}}}}\n---\n"
            )
        };
        let yaml = entry("w1", "a", "app: x, version: v1")
            + &entry("w2", "a", "app: x, version: v2")
            + &entry("w3", "b", "app: x, version: v1")
            + &entry("w4", "a", "app: y, version: v1");
        let mut issues = Issues::default();
        let documents = Document::parse_all("w.yaml", &yaml, &mut issues);
        let read = |document| WorkloadEntry::from_document(document, &mut issues).map(Arc::new);
        let entries: Vec<_> = documents.iter().filter_map(read).collect();
        let workloads = Workloads::new(&entries);
        for (namespace, labels, expected) in [
            ("a", &[("app", "x")][..], &[0, 1][..]),
            ("a", &[("version", "v1")], &[0, 3]),
            ("a", &[("app", "x"), ("version", "v1")], &[0]),
            ("b", &[("app", "x")], &[2]),
            ("a", &[], &[0, 1, 3]),
            ("a", &[("app", "z")], &[]),
            ("c", &[], &[]),
        ] {
            let selector = Labels::from_iter(labels.iter().copied());
            let found = workloads
                .select(namespace, &selector)
                .map(|found| entries.iter().position(|entry| Arc::ptr_eq(entry, found)).unwrap());
            assert_eq!(found.collect::<Vec<_>>(), expected, "{namespace} {labels:?}");
        }
    }
}
