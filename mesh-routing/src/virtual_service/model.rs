//! The model: names parsed, patterns compiled, nothing left that could be wrong in itself.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    HostPattern,
    config::{Document, Issue, Issues, ObjectRef},
    registry::Visibility,
};

use crate::{Fault, RetryPolicy, header_ops::Headers, matcher::RouteMatch};

/// A VirtualService, checked and compiled.
///
/// ```
/// use {mesh_core::config::{Document, Issues}, mesh_routing::VirtualService};
/// let text = "
/// apiVersion: networking.istio.io/v1
/// kind: VirtualService
/// metadata: {name: reviews}
/// spec:
///   hosts: [reviews]
///   http: [{route: [{destination: {host: reviews, subset: v1}}], timeout: 5}]
/// ";
/// let mut issues = Issues::default();
/// let documents = Document::parse_all("reviews.yaml", text, &mut issues);
/// assert!(VirtualService::from_document(&documents[0], &mut issues).is_none());
/// assert!(issues.to_string().starts_with("reviews.yaml:7:"));
/// ```
#[derive(Clone, Debug)]
pub struct VirtualService {
    pub(super) object: ObjectRef,
    pub(super) hosts: Vec<Host>,
    pub(super) mesh: bool,
    pub(super) export_to: Visibility,
    pub(super) rules: Vec<Rule>,
}

/// A host, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) pattern: HostPattern,
    pub(crate) place: Place,
}

/// A field's place, for what is found out only when rules meet the registry.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<Issue>);

/// An entry of `http`.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: Option<Arc<str>>,
    /// Any of them; none is a catch-all.
    pub(crate) matches: Vec<Arc<RouteMatch>>,
    pub(crate) destinations: Vec<Destination>,
    /// Did it name several, those of weight 0 included?
    pub(crate) weighted: bool,
    pub(crate) headers: Headers,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Retries,
    pub(crate) fault: Option<Fault>,
}

/// `retries` of a rule.
#[derive(Clone, Debug, Default)]
pub(crate) enum Retries {
    /// Not given: the mesh's default.
    #[default]
    Default,
    /// Given; `None` is off.
    Policy(Option<RetryPolicy>),
}

/// A weighted destination. A weight of 0 is here only where all others are gone.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) host: Arc<str>,
    pub(crate) subset: Option<Arc<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) weight: u64,
    pub(crate) headers: Headers,
    pub(crate) place: Place,
}

impl VirtualService {
    /// Read a VirtualService. Errors and warnings go to `issues`; `None` when there are errors.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        super::parse::parse(document, issues)
    }

    /// Which object it is.
    #[must_use]
    pub fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The hosts whose requests it routes; short names resolved in its namespace.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        self.hosts.iter().map(|host| &host.pattern)
    }

    /// Is it for clients in the mesh? One that lists gateways without `mesh` is not.
    #[must_use]
    pub fn applies_to_mesh(&self) -> bool {
        self.mesh
    }

    /// Is it visible to clients of a namespace, and how closely? Lower comes first.
    ///
    /// istio push_context.go: private to the namespace, then exported to it, then public.
    pub(crate) fn rank(&self, client: &str) -> Option<u8> {
        if !self.export_to.includes(&self.object.namespace, client) {
            return None;
        }
        Some(match self.export_to {
            Visibility::Private => 0,
            Visibility::Namespaces(_) => 1,
            _ => 2,
        })
    }

    pub(crate) fn host_entries(&self) -> &[Host] {
        &self.hosts
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Place {
    pub(super) fn new(document: &Document, path: String) -> Self {
        Self(Arc::new(document.warning(path, "")))
    }

    /// A warning here.
    pub(crate) fn warning(&self, message: String) -> Issue {
        let mut issue = Issue::clone(&self.0);
        issue.message = message;
        issue
    }
}
