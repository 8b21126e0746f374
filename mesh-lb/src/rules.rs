//! Which DestinationRule is in force for a service, as one client sees it.
//!
//! Rules for the same host in the same namespace are one rule in several files: their subsets add up. Rules of
//! different namespaces are never joined: the first namespace that has any wins.

use std::{collections::HashMap, sync::Arc};

use mesh_core::{HostPattern, Labels, Workload, config::ObjectRef, registry::Visibility};

use crate::{DestinationRule, LoadBalancing, Subset, TrafficPolicy};

/// All DestinationRules, merged by namespace and host.
#[derive(Clone, Debug, Default)]
pub struct DestinationRules {
    by_namespace: HashMap<Arc<str>, Vec<MergedRule>>,
    load_balancing: Arc<LoadBalancing>,
}

/// One or more DestinationRules of a namespace for the same host.
#[derive(Clone, Debug)]
pub struct MergedRule {
    host: HostPattern,
    namespace: Arc<str>,
    export_to: Visibility,
    selector: Option<Labels>,
    traffic_policy: Option<Arc<TrafficPolicy>>,
    subsets: Vec<Arc<Subset>>,
    sources: Vec<ObjectRef>,
}

impl DestinationRules {
    /// Merge rules, given in Istio's order (`Document::creation_order`, stable).
    #[must_use]
    pub fn new(rules: &[Arc<DestinationRule>]) -> Self {
        let mut all = Self::default();
        // istio setDestinationRules: rules with a workloadSelector come first.
        let (selecting, general): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.selector.is_some());
        for rule in selecting.into_iter().chain(general) {
            merge(all.by_namespace.entry(Arc::clone(&rule.object.namespace)).or_default(), rule);
        }
        all
    }

    /// With what a MeshPolicy says beside them: clusters get both in one swap.
    #[must_use]
    pub fn with_load_balancing(mut self, section: LoadBalancing) -> Self {
        self.load_balancing = Arc::new(section);
        self
    }

    /// What a MeshPolicy says beside them.
    #[must_use]
    pub fn load_balancing(&self) -> &LoadBalancing {
        &self.load_balancing
    }

    /// The rule in force for a service, for requests that `workload` sends.
    ///
    /// istio PushContext.destinationRule: the client's namespace, then the service's, then the root namespace;
    /// the first that has a rule for the host decides, with its most specific host; nothing is merged across
    /// namespaces. In the client's own namespace a rule holds whether or not it is exported; a client in the
    /// root namespace starts with the rules that are private there, so that a mesh-wide rule does not hide the
    /// service's own.
    #[must_use]
    pub fn for_service(
        &self,
        host: &str,
        service_namespace: &str,
        workload: &Workload,
        root_namespace: &str,
    ) -> Option<&MergedRule> {
        let client = &*workload.namespace;
        let in_root = client == root_namespace;
        let own = self.most_specific(client, host, |rule| {
            rule.export_to.includes(client, client) && (!in_root || rule.export_to == Visibility::Private)
        });
        let exported = |namespace| {
            let rules = self.most_specific(namespace, host, |rule| rule.export_to != Visibility::Private);
            rules.into_iter().filter(|rule| rule.export_to.includes(namespace, client)).collect::<Vec<_>>()
        };
        let candidates = [own].into_iter().chain([service_namespace, root_namespace].into_iter().map(exported));
        choose(candidates.into_iter().find(|rules| !rules.is_empty())?, workload)
    }

    /// The rules of a namespace for the most specific pattern that matches, among those `within` allows.
    fn most_specific(&self, namespace: &str, host: &str, within: impl Fn(&MergedRule) -> bool) -> Vec<&MergedRule> {
        let rules = self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        let matching: Vec<_> = rules.iter().filter(|rule| rule.host.matches(host) && within(rule)).collect();
        let best = matching.iter().map(|rule| rule.host.specificity()).max();
        matching.into_iter().filter(|rule| Some(rule.host.specificity()) == best).collect()
    }

    /// All merged rules, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &MergedRule> {
        self.by_namespace.values().flatten()
    }
}

/// istio SidecarScope.DestinationRule: a workloadSelector that matches beats a rule without one; of several
/// without, kept apart by exportTo, the last.
fn choose<'a>(rules: Vec<&'a MergedRule>, workload: &Workload) -> Option<&'a MergedRule> {
    let selected = rules.iter().find(|rule| {
        rule.selector
            .as_ref()
            .is_some_and(|selector| *rule.namespace == *workload.namespace && workload.labels.contains_all(selector))
    });
    selected.or_else(|| rules.iter().rev().find(|rule| rule.selector.is_none())).copied()
}

/// istio mergeDestinationRule: "Unique subsets (based on subset name) are concatenated to the original rule's
/// list"; a top-level policy is taken where there was none.
fn merge(rules: &mut Vec<MergedRule>, rule: &DestinationRule) {
    let mut apart = true;
    for merged in rules.iter_mut().filter(|merged| merged.host == rule.host) {
        let same_visibility = merged.export_to == rule.export_to;
        let same_selector = merged.selector == rule.selector;
        // A rule adds to those that are seen nowhere but where it is seen; two selectors never mix.
        if !(same_visibility || covers(&rule.export_to, &merged.export_to, &rule.object.namespace))
            || (merged.selector.is_some() && rule.selector.is_some() && !same_selector)
        {
            continue;
        }
        apart &= !(same_visibility && same_selector);
        for subset in &rule.subsets {
            if !merged.subsets.iter().any(|known| known.name == subset.name) {
                merged.subsets.push(Arc::clone(subset));
            }
        }
        if merged.traffic_policy.is_none() {
            merged.traffic_policy.clone_from(&rule.traffic_policy);
        }
        merged.sources.push(rule.object.clone());
    }
    if apart {
        rules.push(MergedRule {
            host: rule.host.clone(),
            namespace: Arc::clone(&rule.object.namespace),
            export_to: rule.export_to.clone(),
            selector: rule.selector.clone(),
            traffic_policy: rule.traffic_policy.clone(),
            subsets: rule.subsets.clone(),
            sources: vec![rule.object.clone()],
        });
    }
}

/// Does `wide` name every namespace that `narrow` names?
fn covers(wide: &Visibility, narrow: &Visibility, own: &str) -> bool {
    let named = |namespace: &str| matches!(wide, Visibility::Namespaces(_)) && wide.includes(own, namespace);
    match narrow {
        Visibility::Private => named(own),
        Visibility::Namespaces(namespaces) => namespaces.iter().all(|namespace| named(namespace)),
        _ => false,
    }
}

impl MergedRule {
    /// The hosts it is for.
    #[must_use]
    pub fn host(&self) -> &HostPattern {
        &self.host
    }

    /// Subsets of all its sources; the first definition of a name holds.
    #[must_use]
    pub fn subsets(&self) -> &[Arc<Subset>] {
        &self.subsets
    }

    /// The subset with this name.
    #[must_use]
    pub fn subset(&self, name: &str) -> Option<&Arc<Subset>> {
        self.subsets.iter().find(|subset| &*subset.name == name)
    }

    /// The objects it was merged from, in order.
    #[must_use]
    pub fn sources(&self) -> &[ObjectRef] {
        &self.sources
    }

    /// The policy that applies to all subsets.
    #[must_use]
    pub fn traffic_policy(&self) -> Option<&TrafficPolicy> {
        self.traffic_policy.as_deref()
    }
}

#[cfg(test)]
mod tests;
