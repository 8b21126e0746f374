//! AuthorizationPolicy: Istio's document, checked, as a model that cannot be half right.
//!
//! A security object is refused whole when any part of it cannot be enforced: a field that is read and then
//! forgotten changes who gets in. So what this version does not enforce (CUSTOM, metadata of Envoy's filters) is an error
//! that names its place, never a warning.

mod cidr;
mod condition;
mod parse;
mod pattern;
mod rule;
mod spec;
mod subject;
mod template;
mod when;

use std::sync::Arc;

use mesh_core::{
    Labels, Workload,
    config::{Document, Field, Issues, fields},
};

pub(crate) use pattern::StringPattern;
pub(crate) use rule::Rule;

/// A checked AuthorizationPolicy.
///
/// ```
/// use mesh_authz::{Action, AuthorizationPolicy};
/// use mesh_core::config::{Document, Issues};
///
/// let text = r#"
/// kind: AuthorizationPolicy
/// metadata: {name: readers, namespace: shop}
/// spec:
///   selector: {matchLabels: {app: reviews}}
///   rules:
///   - from: [{source: {principals: ["cluster.local/ns/shop/sa/productpage"]}}]
///     to: [{operation: {methods: [GET], paths: ["/reviews/{*}"]}}]
/// "#;
/// let mut issues = Issues::default();
/// let documents = Document::parse_all("readers.yaml", text, &mut issues);
/// let policy = AuthorizationPolicy::from_document(&documents[0], &mut issues).unwrap();
/// assert_eq!(policy.action(), Action::Allow);
/// assert!(issues.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct AuthorizationPolicy {
    namespace: Arc<str>,
    name: Arc<str>,
    action: Action,
    dry_run: bool,
    selector: Labels,
    /// Names a Gateway, Service or the like instead of workloads.
    targeted: bool,
    rules: Vec<Rule>,
}

/// What a policy does with a request that one of its rules matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Let it in. Istio's default.
    Allow,
    /// Refuse it, before any ALLOW policy is asked.
    Deny,
    /// Write it down. Nobody is let in or kept out by it.
    Audit,
}

impl AuthorizationPolicy {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<spec::Spec>()
    }

    /// Read a document of kind AuthorizationPolicy. `None` when it has errors; they are in `issues`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        parse::policy(document, issues)
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// ALLOW, DENY or AUDIT.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// Annotated `istio.io/dry-run: "true"`: what it would do is written down, and not done.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Is it in force at a workload? It is when it lives in the workload's namespace or the mesh's root
    /// namespace, and its selector is within the workload's labels.
    ///
    /// istio type/v1beta1 WorkloadSelector: "If the authorization policy is in the root namespace, the selector
    /// will additionally match with workloads in all namespaces."
    #[must_use]
    pub fn selects(&self, workload: &Workload, root_namespace: &str) -> bool {
        // istio model/policyattachment.go ShouldAttachPolicy: targetRefs attach to gateways and waypoints only.
        !self.targeted
            && (*self.namespace == *workload.namespace || *self.namespace == *root_namespace)
            && workload.labels.contains_all(&self.selector)
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Action {
    /// As Istio writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
