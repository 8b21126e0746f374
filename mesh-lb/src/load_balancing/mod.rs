//! The `loadBalancing` section of a MeshPolicy: what DestinationRule has no field for.
//!
//! A list of entries, each for some hosts. The first entry that names a service is its own; later ones say nothing of it,
//! so that exceptions stand above the rule. What an entry says lies over what the DestinationRule in force says, subset
//! by subset and port by port; what it does not mention stays.

mod health;
mod read;
mod spec;

use std::{collections::HashSet, sync::Arc};

use mesh_core::{
    HostPattern, MeshConfig, Workload,
    config::{Document, Field, Issues, fields},
    registry::Registry,
};

use crate::{
    BoundedLoad, ClusterPolicy, ConsistentHash, DestinationRules, FailurePercentage, HealthCheck, LoadBalancer,
    MergedRule, Subset, SuccessRate, TrafficPolicy,
};

/// The entries of a section, in order; the first that is for a host holds.
///
/// ```
/// use mesh_core::config::{Document, Issues};
/// use mesh_lb::{ClusterPolicy, LoadBalancing};
///
/// let mut issues = Issues::default();
/// let yaml = "
/// apiVersion: mesh.rs/v1
/// kind: MeshPolicy
/// metadata: {name: checks}
/// spec:
///   loadBalancing:
///   - hosts: [reviews]
///     healthCheck: {http: {path: /healthz}, interval: 5s}
/// ";
/// let documents = Document::parse_all("checks.yaml", yaml, &mut issues);
/// let section = LoadBalancing::from_document(&documents[0], &mut issues).unwrap();
///
/// let mut policy = ClusterPolicy::default();
/// section.apply("reviews.default.svc.cluster.local", &mut policy);
/// assert_eq!(policy.health_check.unwrap().interval.as_secs(), 5);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancing {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    /// None: every service.
    hosts: Vec<HostPattern>,
    policy: Option<LoadBalancer>,
    bounded_load: Option<BoundedLoad>,
    health_check: Option<Arc<HealthCheck>>,
    success_rate: Option<SuccessRate>,
    failure_percentage: Option<FailurePercentage>,
}

impl Entry {
    fn is_for(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// Is every service of this pattern one of its own?
    fn covers(&self, pattern: &HostPattern) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|own| own.covers(pattern))
    }
}

impl LoadBalancing {
    /// The field of a MeshPolicy that [`from_document`](Self::from_document) reads.
    pub const FIELD: &str = "loadBalancing";

    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Vec<spec::Entry>>()
    }

    /// The section of a document; empty where it has none. `None` after an error, which is in `issues`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        read::section(document, issues)
    }

    /// Lay what is said of a service over the policy of one of its clusters.
    pub fn apply(&self, host: &str, policy: &mut ClusterPolicy) {
        let Some((_, entry)) = self.entry(host) else { return };
        if let Some(load_balancer) = &entry.policy
            && policy.load_balancer != LoadBalancer::Passthrough
        {
            policy.load_balancer = load_balancer.clone();
        }
        if let (Some(bound), LoadBalancer::ConsistentHash(hash)) = (entry.bounded_load, &policy.load_balancer) {
            policy.load_balancer = ConsistentHash::clone(hash).with_bounded_load(bound).into();
        }
        if entry.health_check.is_some() {
            policy.health_check.clone_from(&entry.health_check);
        }
        if entry.success_rate.is_some() || entry.failure_percentage.is_some() {
            let detection = policy.outlier_detection.get_or_insert_default();
            detection.success_rate = entry.success_rate.or(detection.success_rate);
            detection.failure_percentage = entry.failure_percentage.or(detection.failure_percentage);
        }
    }

    /// Where the section and the DestinationRules in force for a client speak of the same: the field of the section, and
    /// what is to be said of it. Each is a warning.
    #[must_use]
    pub fn conflicts(
        &self,
        registry: &Registry,
        rules: &DestinationRules,
        workload: &Workload,
        mesh: &MeshConfig,
    ) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut said = HashSet::new();
        let mut services: Vec<_> = registry.services().collect();
        services.sort_by(|a, b| a.name.host.cmp(&b.name.host));
        for service in services {
            let Some((index, entry)) = self.entry(&service.name.host) else { continue };
            let rule = rules.for_service(&service.name.host, &service.name.namespace, workload, &mesh.root_namespace);
            for (field, message) in entry.conflicts(rule) {
                let path = format!("{}[{index}].{field}", Self::FIELD);
                let message = match rule.and_then(|rule| rule.sources().first()) {
                    Some(source) => format!("{message} ({source})"),
                    None => format!("{message} ({})", service.name.host),
                };
                if said.insert((path.clone(), message.clone())) {
                    found.push((path, message));
                }
            }
        }
        found
    }

    fn entry(&self, host: &str) -> Option<(usize, &Entry)> {
        self.entries.iter().enumerate().find(|(_, entry)| entry.is_for(host))
    }
}

impl Entry {
    fn conflicts(&self, rule: Option<&MergedRule>) -> Vec<(&'static str, &'static str)> {
        let of_rule = rule.and_then(MergedRule::traffic_policy);
        let subsets = rule.into_iter().flat_map(MergedRule::subsets);
        let policies = of_rule.into_iter().chain(subsets.filter_map(|subset| Subset::traffic_policy(subset)));
        let load_balancers: Vec<_> = policies.flat_map(TrafficPolicy::load_balancers).collect();
        let mut found = Vec::new();
        if let Some(policy) = &self.policy {
            for load_balancer in &load_balancers {
                found.push(match load_balancer {
                    LoadBalancer::Passthrough => (policy.name(), "not in force: the DestinationRule says PASSTHROUGH"),
                    _ => (policy.name(), "replaces the policy that the DestinationRule names"),
                });
            }
        }
        let hashes = |load_balancer: &&LoadBalancer| load_balancer.consistent_hash().is_some();
        if self.bounded_load.is_some() && !load_balancers.iter().any(hashes) {
            found.push(("boundedLoad", "has no effect: no DestinationRule has consistentHash"));
        }
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests;
