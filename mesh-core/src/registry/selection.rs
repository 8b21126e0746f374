//! Which workload entries a selector selects: by label, so that thousands of services are not compared with thousands of
//! workloads each.

use std::{collections::HashMap, sync::Arc};

use super::WorkloadEntry;
use crate::Labels;

/// Workload entries by namespace and label. Those that cannot be dialled are left out.
#[derive(Debug, Default)]
pub(super) struct Selection<'a> {
    in_namespace: HashMap<&'a str, Vec<&'a Arc<WorkloadEntry>>>,
    with_label: HashMap<(&'a str, &'a str, &'a str), Vec<&'a Arc<WorkloadEntry>>>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(entries: &'a [Arc<WorkloadEntry>]) -> Self {
        let mut selection = Self::default();
        for entry in entries.iter().filter(|entry| entry.is_dialled()) {
            let namespace: &str = &entry.namespace;
            selection.in_namespace.entry(namespace).or_default().push(entry);
            for (key, value) in entry.labels.iter() {
                selection.with_label.entry((namespace, key, value)).or_default().push(entry);
            }
        }
        selection
    }

    /// Those of a namespace with every label of a selector, in their order; all for the empty selector.
    pub(super) fn select<'s>(
        &'s self,
        namespace: &'s str,
        selector: &'s Labels,
    ) -> impl Iterator<Item = &'s Arc<WorkloadEntry>> {
        // Few have the rarest of the labels.
        let with = |(key, value): (&'s str, &'s str)| self.with_label.get(&(namespace, key, value));
        let candidates = match selector.iter().map(with).min_by_key(|entries| entries.map_or(0, Vec::len)) {
            Some(rarest) => rarest,
            None => self.in_namespace.get(namespace),
        };
        let candidates = candidates.into_iter().flatten().copied();
        candidates.filter(move |entry| entry.labels.contains_all(selector))
    }
}
