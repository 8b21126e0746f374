//! The policies in force at one workload, and the decision they make together.

use std::{fmt, sync::Arc};

use mesh_core::Workload;

use crate::{Action, AuthorizationPolicy, RequestView, TrustDomains, policy::Rule};

/// Policies of one workload, compiled: a snapshot that decides without allocating.
///
/// ```
/// use mesh_authz::{PolicySet, RequestView, TrustDomains};
/// use mesh_core::Workload;
///
/// let view = RequestView::new("GET", "/");
/// // No policy selects the workload: everybody gets in, as in Istio.
/// let open = PolicySet::new([], &Workload::new("shop", "reviews"), "istio-system", &TrustDomains::default());
/// assert!(open.decide(&view).is_allowed());
/// // Policies were not read yet: nobody does.
/// assert!(!PolicySet::deny_all_not_ready().decide(&view).is_allowed());
/// ```
// No `Default`: an empty set lets everybody in, which nobody should get by accident.
#[derive(Clone, Debug)]
pub struct PolicySet {
    not_ready: bool,
    needs_connection: bool,
    deny: Vec<Policy>,
    allow: Vec<Policy>,
    audit: Vec<Policy>,
    /// Those under `istio.io/dry-run`: decided, not enforced.
    dry_run: Option<Box<Self>>,
}

#[derive(Clone, Debug)]
struct Policy {
    action: Action,
    namespace: Arc<str>,
    name: Arc<str>,
    rules: Vec<Rule>,
}

/// What a [`PolicySet`] says about a request, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision<'a> {
    /// No ALLOW policy is in force and no DENY rule matched.
    NoAllowPolicy,
    /// A rule of an ALLOW policy matched.
    Allowed(MatchedRule<'a>),
    /// A rule of a DENY policy matched.
    Denied(MatchedRule<'a>),
    /// There are ALLOW policies and none matched.
    NotAllowed,
    /// Policies were not read yet.
    NotReady,
    /// A rule asks for addresses ([`Connection`](mesh_core::Connection)) and the server gave none.
    NoConnection,
}

/// The rule that decided. Displays as Envoy names it: `ns[default]-policy[viewer]-rule[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatchedRule<'a> {
    /// ALLOW, DENY or AUDIT.
    pub action: Action,
    /// The policy's namespace.
    pub namespace: &'a Arc<str>,
    /// The policy's name.
    pub name: &'a Arc<str>,
    /// The rule's index in it.
    pub rule: usize,
}

impl PolicySet {
    /// The policies in force at `workload`, out of all of the mesh, in Istio's order
    /// ([`Document::creation_order`](mesh_core::config::Document::creation_order)).
    ///
    /// Those of the root namespace are asked first. An empty set lets everybody in.
    #[must_use]
    pub fn new<'a>(
        policies: impl IntoIterator<Item = &'a AuthorizationPolicy>,
        workload: &Workload,
        root_namespace: &str,
        trust_domains: &TrustDomains,
    ) -> Self {
        let mut selected: Vec<_> =
            policies.into_iter().filter(|policy| policy.selects(workload, root_namespace)).collect();
        selected.sort_by_key(|policy| **policy.namespace() != *root_namespace);
        let (dry_run, enforced): (Vec<_>, Vec<_>) = selected.into_iter().partition(|policy| policy.is_dry_run());
        let mut set = Self::compile(&enforced, trust_domains);
        set.dry_run = (!dry_run.is_empty()).then(|| Self::compile(&dry_run, trust_domains).into());
        set
    }

    fn compile(policies: &[&AuthorizationPolicy], trust_domains: &TrustDomains) -> Self {
        let mut set = Self { not_ready: false, ..Self::deny_all_not_ready() };
        for policy in policies {
            let rules: Vec<_> = policy.rules().iter().map(|rule| rule.in_mesh(trust_domains)).collect();
            set.needs_connection |= policy.action() != Action::Audit && rules.iter().any(Rule::needs_connection);
            let list = match policy.action() {
                Action::Allow => &mut set.allow,
                Action::Deny => &mut set.deny,
                Action::Audit => &mut set.audit,
            };
            list.push(Policy {
                action: policy.action(),
                namespace: Arc::clone(policy.namespace()),
                name: Arc::clone(policy.name()),
                rules,
            });
        }
        set
    }

    /// The set of a workload that has not read its policies yet: every request is refused with 503
    /// ([`mesh_core::Reason::NotReady`]).
    #[must_use]
    pub fn deny_all_not_ready() -> Self {
        Self {
            not_ready: true,
            needs_connection: false,
            deny: Vec::new(),
            allow: Vec::new(),
            audit: Vec::new(),
            dry_run: None,
        }
    }

    /// Decide about one request.
    ///
    /// istio security/v1beta1 AuthorizationPolicy: "If there are any DENY policies that match the request, deny the
    /// request. If there are no ALLOW policies for the workload, allow the request. If any of the ALLOW policies
    /// match the request, allow the request. Deny the request."
    #[must_use]
    pub fn decide(&self, request: &RequestView<'_>) -> Decision<'_> {
        if self.not_ready {
            return Decision::NotReady;
        }
        if self.needs_connection && request.connection.is_none() {
            return Decision::NoConnection;
        }
        if let Some(rule) = first_match(&self.deny, request) {
            return Decision::Denied(rule);
        }
        if self.allow.is_empty() {
            return Decision::NoAllowPolicy;
        }
        first_match(&self.allow, request).map_or(Decision::NotAllowed, Decision::Allowed)
    }
}

impl PolicySet {
    /// The AUDIT policies that match, each by its first rule that does.
    ///
    /// istio security/v1beta1 AuthorizationPolicy.Action: "AUDIT: Audit a request if it matches any of the rules." They "do
    /// not affect whether requests are allowed or denied".
    pub fn audits<'a>(&'a self, request: &'a RequestView<'a>) -> impl Iterator<Item = MatchedRule<'a>> {
        self.audit.iter().filter_map(|policy| policy.first_match(request))
    }

    /// What the policies under `istio.io/dry-run` would decide by themselves; `None` when there are none.
    #[must_use]
    pub fn decide_dry_run(&self, request: &RequestView<'_>) -> Option<Decision<'_>> {
        self.dry_run.as_ref().map(|set| set.decide(request))
    }
}

fn first_match<'a>(policies: &'a [Policy], request: &RequestView<'_>) -> Option<MatchedRule<'a>> {
    policies.iter().find_map(|policy| policy.first_match(request))
}

impl Policy {
    fn first_match(&self, request: &RequestView<'_>) -> Option<MatchedRule<'_>> {
        let rule = self.rules.iter().position(|rule| rule.matches(request))?;
        Some(MatchedRule { action: self.action, namespace: &self.namespace, name: &self.name, rule })
    }
}

impl<'a> Decision<'a> {
    /// May the request go on?
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::NoAllowPolicy | Self::Allowed(_))
    }

    /// The rule that decided, where one did.
    #[must_use]
    pub fn by(&self) -> Option<MatchedRule<'a>> {
        match *self {
            Self::Allowed(rule) | Self::Denied(rule) => Some(rule),
            _ => None,
        }
    }
}

/// For the audit log: who decided.
impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(rule) | Self::Denied(rule) => rule.fmt(f),
            Self::NoAllowPolicy | Self::NotAllowed => f.write_str("none"),
            Self::NotReady => f.write_str("policy not read yet"),
            Self::NoConnection => f.write_str("connection addresses missing"),
        }
    }
}

impl fmt::Display for MatchedRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ns[{}]-policy[{}]-rule[{}]", self.namespace, self.name, self.rule)
    }
}

#[cfg(test)]
mod tests;
