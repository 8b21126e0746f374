//! What selectors select: workload entries, pods, and the pods that a Deployment will make.

use std::collections::HashMap;

use mesh_core::config::{Document, Node};

use super::{
    resources::{Kind, NODE, POD, Resources, WORKLOAD_ENTRY},
    view::{View as _, spec},
};

/// Kinds with a pod's template.
const TEMPLATED: [Kind; 5] =
    [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "DaemonSet"), ("apps", "ReplicaSet"), ("batch", "Job")];

/// Where a pod is: labels of its node that its endpoint has too (istio serviceregistry label.AugmentLabels).
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// Something that runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    pub(super) document: &'a Document,
    /// How many of it; `None` when that is for the cluster to say.
    pub(super) count: Option<u64>,
    labels: HashMap<&'a str, &'a str>,
}

impl Running<'_> {
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).copied()
    }

    fn has(&self, selector: &[(&str, &str)]) -> bool {
        selector.iter().all(|(key, value)| self.label(key) == Some(value))
    }
}

#[derive(Debug, Default)]
pub(super) struct Workloads<'a> {
    all: Vec<Running<'a>>,
    in_namespace: HashMap<&'a str, Vec<usize>>,
    with_label: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
}

impl<'a> Workloads<'a> {
    pub(super) fn new(resources: &Resources<'a>) -> Self {
        let mut workloads = Self::default();
        for (document, spec) in resources.specs(WORKLOAD_ENTRY) {
            // istio ConvertWorkloadEntry: labels of the metadata override those of the spec.
            let own = document.root().child("metadata").labels("labels");
            workloads.add(document, Some(1), spec.labels("labels").into_iter().chain(own));
        }
        let nodes: HashMap<&str, &Document> = resources.of(NODE).iter().map(|node| (&**node.name(), *node)).collect();
        for (document, spec) in resources.specs(POD) {
            let own = document.root().child("metadata").labels("labels");
            let node = nodes.get(spec.text("nodeName"));
            let place = node.into_iter().flat_map(|node| node.root().child("metadata").labels("labels"));
            let place = place.filter(|(key, value)| TOPOLOGY.contains(key) && !value.is_empty());
            workloads.add(document, Some(1), own.into_iter().chain(place));
        }
        for kind in TEMPLATED {
            for (document, spec) in resources.specs(kind) {
                let labels = spec.child("template").child("metadata").labels("labels");
                let count = match kind.1 {
                    "DaemonSet" => None,
                    // Kubernetes: "Defaults to 1".
                    _ => u64::try_from(spec.int("replicas").unwrap_or(1)).ok(),
                };
                workloads.add(document, count, labels);
            }
        }
        workloads
    }

    fn add(
        &mut self,
        document: &'a Document,
        count: Option<u64>,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let index = self.all.len();
        let labels: HashMap<&str, &str> = labels.into_iter().collect();
        let namespace: &'a str = document.namespace();
        self.in_namespace.entry(namespace).or_default().push(index);
        for (key, value) in &labels {
            self.with_label.entry((namespace, key, value)).or_default().push(index);
        }
        self.all.push(Running { document, count, labels });
    }

    /// Is none known? Then nothing can be said about who is selected.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those of a namespace with all labels of a selector; the empty selector selects all.
    pub(super) fn select(&self, namespace: &str, selector: &[(&str, &str)]) -> Vec<&Running<'a>> {
        self.candidates(namespace, selector)
            .iter()
            .map(|index| &self.all[*index])
            .filter(|running| running.has(selector))
            .collect()
    }

    /// Those with the rarest of the labels: they are few.
    fn candidates<'s>(&'s self, namespace: &'s str, selector: &[(&'s str, &'s str)]) -> &'s [usize] {
        let with = |(key, value): &(&'s str, &'s str)| self.with_label.get(&(namespace, *key, *value));
        let indices = match selector.iter().map(with).min_by_key(|indices| indices.map_or(0, Vec::len)) {
            Some(rarest) => rarest,
            None => self.in_namespace.get(namespace),
        };
        indices.map_or(&[], Vec::as_slice)
    }

    /// Is anything in any namespace selected?
    pub(super) fn selects_anywhere(&self, selector: &[(&str, &str)]) -> bool {
        self.in_namespace.keys().any(|namespace| !self.select(namespace, selector).is_empty())
    }
}

/// The selector of a policy: `selector.matchLabels`, `None` where it has no selector.
pub(super) fn policy_selector(document: &Document) -> Option<Vec<(&str, &str)>> {
    let spec = spec(document);
    spec.has("selector").then(|| spec.child("selector").labels("matchLabels"))
}

/// The labels of an endpoint inside a ServiceEntry.
pub(super) fn endpoint_has(endpoint: &Node, labels: &[(&str, &str)]) -> bool {
    let own = endpoint.labels("labels");
    labels.iter().all(|label| own.contains(label))
}
