//! DestinationRule: Istio's policy for traffic to a host, after routing chose it.

mod defaults;
mod hash;
mod read;
mod spec;

use std::sync::Arc;

use mesh_core::{
    HostPattern, Labels,
    config::{Document, Field, Issues, ObjectRef, fields},
    registry::Visibility,
};

pub use defaults::DefaultPolicy;

use crate::TrafficPolicy;

/// A DestinationRule, checked and immutable.
///
/// ```
/// use mesh_core::config::{Document, Issues};
/// use mesh_lb::DestinationRule;
///
/// let mut issues = Issues::default();
/// let yaml = "
/// kind: DestinationRule
/// metadata: {name: reviews}
/// spec:
///   host: reviews
///   trafficPolicy: {loadBalancer: {simple: RANDOM}}
///   subsets: [{name: v1, labels: {version: v1}}]
/// ";
/// let documents = Document::parse_all("reviews.yaml", yaml, &mut issues);
/// let rule = DestinationRule::from_document(&documents[0], &mut issues).unwrap();
/// assert_eq!(rule.host().to_string(), "reviews.default.svc.cluster.local");
/// assert_eq!(rule.subsets()[0].name(), "v1");
/// assert!(issues.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct DestinationRule {
    pub(crate) object: ObjectRef,
    pub(crate) host: HostPattern,
    pub(crate) export_to: Visibility,
    pub(crate) selector: Option<Labels>,
    pub(crate) traffic_policy: Option<Arc<TrafficPolicy>>,
    pub(crate) subsets: Vec<Arc<Subset>>,
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    pub(crate) name: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) traffic_policy: Option<TrafficPolicy>,
}

impl DestinationRule {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<spec::Spec>()
    }

    /// Read a document. Errors and warnings become issues with their place; `None` when there is an error.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        read::rule(document, issues)
    }

    /// Which object it is.
    #[must_use]
    pub fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The hosts it is for.
    #[must_use]
    pub fn host(&self) -> &HostPattern {
        &self.host
    }

    /// Its subsets, in the order written.
    #[must_use]
    pub fn subsets(&self) -> &[Arc<Subset>] {
        &self.subsets
    }

    /// The namespace it is in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.object.namespace
    }
}

impl Subset {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn traffic_policy(&self) -> Option<&TrafficPolicy> {
        self.traffic_policy.as_ref()
    }

    /// Labels that its endpoints have; none: all endpoints.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }
}

#[cfg(test)]
mod tests;
