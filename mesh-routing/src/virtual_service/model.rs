//! The model: names parsed, patterns compiled, nothing left that could be wrong in itself.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    HostPattern,
    config::{Document, Field, Issue, Issues, ObjectRef, fields},
    registry::Visibility,
};

use crate::{
    CorsPolicy, DirectResponse, Fault, RetryPolicy,
    answer::RedirectRule,
    header_ops::Headers,
    matcher::{At, RouteMatch},
    percent::Percent,
    rewrite::Rewrite,
};

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
    /// `namespace/name`.
    pub(super) name: Arc<str>,
    pub(super) hosts: Vec<Host>,
    pub(super) mesh: bool,
    pub(super) export_to: Visibility,
    pub(super) rules: Vec<Rule>,
    /// The file it is from, and the place in it.
    pub(super) source: Arc<str>,
    pub(super) at: At,
    /// Rules that delegate, and whose delegates lend nothing.
    pub(super) left_out: Vec<LeftOut>,
    /// `metadata.creationTimestamp`.
    pub(super) created: Option<Arc<str>>,
    /// What its rules are from.
    pub(super) semantics: Semantics,
}

/// A rule that is not in force, whoever the client is.
#[derive(Clone, Debug)]
pub(crate) struct LeftOut {
    /// So many of the rules in force come before it.
    pub(crate) before: usize,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) at: At,
    pub(crate) because: Arc<str>,
}

/// The object that a rule is from where that is another one, and its file.
#[derive(Clone, Debug)]
pub(crate) struct Lender {
    pub(crate) object: ObjectRef,
    pub(crate) source: Arc<str>,
}

/// Whose meaning the rules have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Semantics {
    /// A VirtualService's.
    #[default]
    Istio,
    /// A Gateway API route's. They speak for one port, or for all.
    Gateway { port: Option<u16> },
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
    pub(crate) action: Action,
    /// Did it name several destinations, those of weight 0 included?
    pub(crate) weighted: bool,
    pub(crate) headers: Option<Box<Headers>>,
    /// Given; `None` inside is no timeout.
    pub(crate) timeout: Option<Option<Duration>>,
    pub(crate) retries: Retries,
    pub(crate) fault: Option<Fault>,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) cors: Option<Arc<CorsPolicy>>,
    /// `mirror`, without its percentage: a delegate may take one from here and one from there.
    pub(crate) mirror: Option<Box<Destination>>,
    pub(crate) mirror_share: Option<Percent>,
    pub(crate) mirrors: Option<Vec<(Destination, Percent)>>,
    pub(crate) at: At,
    /// A delegate, or a Gateway API route.
    pub(crate) lender: Option<Arc<Lender>>,
    /// `namespace/name` of the Gateway API route that it is from.
    pub(crate) route: Option<Arc<str>>,
}

/// What a rule does. One of these, and never two.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// To one of these; there is at least one.
    Forward(Vec<Destination>),
    Redirect(RedirectRule),
    DirectResponse(DirectResponse),
    Delegate(Delegate),
}

/// Where the rules are that stand in this one's place.
#[derive(Clone, Debug)]
pub(crate) struct Delegate {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    /// The root's own answer, which a delegated rule without one takes over.
    pub(crate) direct_response: Option<DirectResponse>,
    pub(crate) place: Place,
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
    /// What a Gateway API route says of a backend.
    pub(crate) backend: Option<Box<Backend>>,
}

/// What a backendRef says that a VirtualService's destination cannot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backend {
    /// It may not be used: its share is answered.
    pub(crate) invalid: bool,
    /// Why it may not be, for those who ask.
    pub(crate) refused: Option<Arc<str>>,
    /// Its namespace, where it is another one than the route's: a ReferenceGrant is to let the route in.
    pub(crate) foreign: Option<Foreign>,
    pub(crate) redirect: Option<RedirectRule>,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) cors: Option<Arc<CorsPolicy>>,
    pub(crate) mirrors: Vec<(Destination, Percent)>,
}

/// An object of another namespace.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    pub(crate) group: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl VirtualService {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<super::spec::Spec>()
    }

    /// Read a VirtualService. Errors and warnings go to `issues`; `None` when there are errors.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        super::parse::parse(document, issues)
    }

    /// The rules of Gateway API routes that speak for a host.
    pub(crate) fn of_gateway(
        object: ObjectRef,
        created: Option<Arc<str>>,
        host: Host,
        port: Option<u16>,
        rules: Vec<Rule>,
    ) -> Self {
        Self {
            name: full_name(&object),
            object,
            hosts: vec![host],
            mesh: true,
            export_to: Visibility::Public,
            source: rules
                .iter()
                .find_map(|rule| rule.lender.as_ref())
                .map(|lender| Arc::clone(&lender.source))
                .unwrap_or_default(),
            at: rules.first().map(|rule| rule.at).unwrap_or_default(),
            left_out: Vec::new(),
            rules,
            created,
            semantics: Semantics::Gateway { port },
        }
    }

    /// Which object it is.
    #[must_use]
    pub fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// `namespace/name`.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
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
    /// istio push_context.go VirtualServicesForGateway: private to the namespace, then exported to it, then public; of
    /// these first "same-namespace Gateway routes, to give the consumer override preference".
    pub(crate) fn rank(&self, client: &str) -> Option<u8> {
        if !self.export_to.includes(&self.object.namespace, client) {
            return None;
        }
        Some(match self.export_to {
            Visibility::Private => 0,
            Visibility::Namespaces(_) => 1,
            _ if self.semantics != Semantics::Istio && *self.object.namespace == *client => 2,
            _ => 3,
        })
    }

    pub(crate) fn semantics(&self) -> Semantics {
        self.semantics
    }

    pub(crate) fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    pub(crate) fn host_entries(&self) -> &[Host] {
        &self.hosts
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    pub(crate) fn at(&self) -> At {
        self.at
    }

    /// `file:line` of something that one of its rules says.
    pub(crate) fn place(&self, lender: Option<&Lender>, at: At) -> String {
        format!("{}:{}", lender.map_or(&self.source, |lender| &lender.source), at.position.line)
    }
}

/// `namespace/name`.
pub(super) fn full_name(object: &ObjectRef) -> Arc<str> {
    format!("{}/{}", object.namespace, object.name).into()
}

impl Rule {
    /// Of the object that a person would open to change it.
    pub(crate) fn kind(&self, owner: &VirtualService) -> Option<Arc<str>> {
        let route = self.lender.as_ref().filter(|_| self.route.is_some());
        Some(Arc::clone(route.map_or(&owner.object.kind, |route| &route.object.kind)))
    }

    /// `namespace/name` of the delegate that it is from.
    pub(crate) fn delegate(&self) -> Option<String> {
        let delegate = self.lender.as_ref().filter(|_| self.route.is_none())?;
        Some(format!("{}/{}", delegate.object.namespace, delegate.object.name))
    }

    /// Where a rule sends requests; nowhere when it answers by itself.
    pub(crate) fn destinations(&self) -> &[Destination] {
        match &self.action {
            Action::Forward(destinations) => destinations,
            Action::Redirect(_) | Action::DirectResponse(_) | Action::Delegate(_) => &[],
        }
    }

    /// Who gets a copy of what share of the requests. istio MirrorPercent: all without a percentage.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = (&Destination, Percent)> {
        let share = self.mirror_share.unwrap_or(Percent::ALL);
        let one = self.mirror.as_deref().into_iter().map(move |destination| (destination, share));
        let list = self.mirrors.iter().flatten().map(|(destination, share)| (destination, *share));
        one.chain(list).filter(|(_, share)| !share.is_none())
    }
}

impl Lender {
    pub(crate) fn new(document: &Document) -> Self {
        Self { object: document.object().clone(), source: Arc::clone(document.source()) }
    }
}

impl Place {
    pub(crate) fn new(document: &Document, path: String) -> Self {
        Self(Arc::new(document.warning(path, "")))
    }

    /// The same for all copies, and for no other place.
    pub(crate) fn id(&self) -> *const Issue {
        Arc::as_ptr(&self.0)
    }

    /// A warning here.
    pub(crate) fn warning(&self, message: String) -> Issue {
        let mut issue = Issue::clone(&self.0);
        issue.message = message;
        issue
    }
}
