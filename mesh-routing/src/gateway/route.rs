//! HTTPRoute and GRPCRoute as models: everything checked that needs no other object.

use std::sync::Arc;

use mesh_core::config::{Document, Field, Issues, ObjectRef, fields};

use super::{
    filters::Filters,
    matches::Match,
    parser::{Kind, Parser, is_dns_name},
    spec::{BackendRef, Filter, GrpcRule, GrpcSpec, HttpMatch, HttpRule, HttpSpec, ParentRef, PathType, RetrySpec},
};
use crate::{
    RetryOn, RetryPolicy,
    matcher::{At, RouteMatch},
    retry::BackOff,
    virtual_service::{Action, Lender, Place, Retries, Rule},
};

/// An HTTPRoute, checked.
///
/// ```
/// use {mesh_core::config::{Document, Issues}, mesh_routing::HttpRoute};
/// let text = "
/// apiVersion: gateway.networking.k8s.io/v1
/// kind: HTTPRoute
/// metadata: {name: reviews}
/// spec:
///   parentRefs: [{group: '', kind: Service, name: reviews}]
///   rules: [{backendRefs: [{name: reviews-v1}]}]
/// ";
/// let mut issues = Issues::default();
/// let documents = Document::parse_all("reviews.yaml", text, &mut issues);
/// assert!(HttpRoute::from_document(&documents[0], &mut issues).is_none());
/// assert!(issues.to_string().ends_with("Must have port for Service reference"));
/// ```
#[derive(Clone, Debug)]
pub struct HttpRoute(pub(super) Route);

/// A GRPCRoute, checked.
#[derive(Clone, Debug)]
pub struct GrpcRoute(pub(super) Route);

#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) object: ObjectRef,
    pub(super) created: Option<Arc<str>>,
    pub(super) kind: Kind,
    pub(super) parents: Vec<Parent>,
    pub(super) rules: Vec<RouteRule>,
}

/// Whose requests a route is for.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    /// A Service or a ServiceEntry.
    pub(super) object: ObjectRef,
    pub(super) port: Option<u16>,
    /// The name of a port.
    pub(super) section: Option<Arc<str>>,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) struct RouteRule {
    /// Any of them; none is a catch-all.
    pub(super) matches: Vec<Match>,
    /// Without matches.
    pub(super) rule: Rule,
}

impl HttpRoute {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<HttpSpec>()
    }

    /// Read an HTTPRoute. Errors and warnings go to `issues`; `None` when there are errors.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: HttpSpec = document.decode(issues)?;
        let mut parser = Parser { document, issues, failed: false, kind: Kind::Http };
        let rules = spec.rules.unwrap_or_else(|| vec![HttpRule::default()]);
        let parents = parser.parents(&spec.parent_refs, &spec.hostnames);
        parser.limit("rules", rules.len(), 16);
        let all: usize = rules.iter().map(|rule| rule.matches.as_ref().map_or(1, Vec::len)).sum();
        if all > 128 {
            parser.error("rules", "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route must be less than 128");
        }
        parser.names(rules.iter().map(|rule| rule.name.as_deref()));
        let rules = rules.iter().enumerate().map(|(index, rule)| parser.http_rule(index, rule)).collect();
        parser.route(parents, rules).map(Self)
    }

    /// Which object it is.
    #[must_use]
    pub fn object(&self) -> &ObjectRef {
        &self.0.object
    }

    /// Is it for clients in the mesh? One whose parents are all Gateways is not.
    #[must_use]
    pub fn applies_to_mesh(&self) -> bool {
        !self.0.parents.is_empty()
    }
}

impl GrpcRoute {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<GrpcSpec>()
    }

    /// Read a GRPCRoute. Errors and warnings go to `issues`; `None` when there are errors.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: GrpcSpec = document.decode(issues)?;
        let mut parser = Parser { document, issues, failed: false, kind: Kind::Grpc };
        let parents = parser.parents(&spec.parent_refs, &spec.hostnames);
        parser.limit("rules", spec.rules.len(), 16);
        parser.names(spec.rules.iter().map(|rule| rule.name.as_deref()));
        let rules = spec.rules.into_iter().enumerate().map(|(index, rule)| parser.grpc_rule(index, rule)).collect();
        parser.route(parents, rules).map(Self)
    }

    /// Which object it is.
    #[must_use]
    pub fn object(&self) -> &ObjectRef {
        &self.0.object
    }

    /// Is it for clients in the mesh? One whose parents are all Gateways is not.
    #[must_use]
    pub fn applies_to_mesh(&self) -> bool {
        !self.0.parents.is_empty()
    }
}

impl Parser<'_> {
    fn route(&self, parents: Vec<Parent>, rules: Vec<RouteRule>) -> Option<Route> {
        let route = Route {
            object: self.document.object().clone(),
            created: self.document.created().map(Arc::from),
            kind: self.kind,
            parents,
            rules,
        };
        (!self.failed).then_some(route)
    }

    fn parents(&mut self, specs: &[ParentRef], hostnames: &[String]) -> Vec<Parent> {
        self.limit("parentRefs", specs.len(), 32);
        self.limit("hostnames", hostnames.len(), 16);
        let mut parents = Vec::new();
        let mut elsewhere = 0;
        for (index, spec) in specs.iter().enumerate() {
            let at = format!("parentRefs[{index}]");
            if spec.name.is_empty() {
                self.error(format!("{at}.name"), "Required value");
            }
            if specs[..index].contains(spec) {
                let message = "sectionName or port must be unique when parentRefs includes 2 or more references to the same parent";
                self.error(&*at, message);
                continue;
            }
            let port = spec.port.and_then(|port| self.port(&format!("{at}.port"), port));
            // istio normalizeReference: a Gateway where nothing is said; a kind alone does not change the group.
            let group = spec.group.as_deref().unwrap_or(super::GROUP);
            let kind = match (group, spec.kind.as_deref().unwrap_or("Gateway")) {
                ("", "Service") => "Service",
                // The API server fills in the group only where it is absent: that is what somebody meant.
                (super::GROUP, "Service") if spec.group.is_none() => "Service",
                ("networking.istio.io", "ServiceEntry") => "ServiceEntry",
                (super::GROUP, "Gateway" | "ListenerSet") | ("gateway.networking.x-k8s.io", "XListenerSet") => {
                    elsewhere += 1;
                    continue;
                }
                (group, kind) => {
                    let message = format!("unsupported parent: group {group:?} kind {kind:?}: not in force in-process");
                    self.warning(format!("{at}.kind"), message);
                    continue;
                }
            };
            let namespace = spec.namespace.as_deref().unwrap_or(self.document.namespace());
            parents.push(Parent {
                object: ObjectRef { kind: kind.into(), namespace: namespace.into(), name: spec.name.as_str().into() },
                port,
                section: spec.section_name.as_deref().map(Arc::from),
                place: Place::new(self.document, format!("{at}.name")),
            });
        }
        if elsewhere > 0 && parents.is_empty() {
            self.not_enforced("parentRefs", "applies to gateways only, not to the mesh: not in force in-process");
        } else if elsewhere > 0 {
            self.not_enforced("parentRefs", "its Gateways are not in-process: in force for its services only");
        }
        self.hostnames(hostnames, !parents.is_empty());
        parents
    }

    /// istio HTTPRouteCollection: for a service the host is the service's, whatever the route says.
    fn hostnames(&mut self, hostnames: &[String], mesh: bool) {
        for (index, name) in hostnames.iter().enumerate() {
            if !is_dns_name(name.strip_prefix("*.").unwrap_or(name)) {
                self.error(format!("hostnames[{index}]"), format!("{name:?} is not a hostname (RFC 1123, lower case)"));
            }
        }
        if mesh && !hostnames.is_empty() {
            self.warning("hostnames", "not looked at for a Service: the route is for the service's own host");
        }
    }

    fn names<'n>(&mut self, names: impl Iterator<Item = Option<&'n str>>) {
        let mut seen = Vec::new();
        for (index, name) in names.enumerate() {
            let Some(name) = name else { continue };
            if seen.contains(&name) {
                self.error(format!("rules[{index}].name"), "Rule name must be unique within the route");
            }
            seen.push(name);
        }
    }

    fn http_rule(&mut self, index: usize, spec: &HttpRule) -> RouteRule {
        let at = format!("rules[{index}]");
        let everything = [HttpMatch::default()];
        // gateway API HTTPRouteRule.matches: "If no matches are specified, the default is a prefix path match on "/"".
        let matches = spec.matches.as_deref().filter(|matches| !matches.is_empty()).unwrap_or(&everything);
        self.limit(&format!("{at}.matches"), matches.len(), 64);
        let one_prefix = matches!(matches, [one] if one.path.r#type == PathType::PathPrefix);
        let (mut rule, redirects) =
            self.rule(index, spec.name.as_deref(), &spec.filters, &spec.backend_refs, one_prefix);
        if redirects && !spec.backend_refs.is_empty() {
            self.error(&*at, "RequestRedirect filter must not be used together with backendRefs");
        }
        self.timeouts(&at, spec, &mut rule);
        let matches = matches.iter().enumerate();
        let matches = matches.map(|(i, matcher)| {
            let at = format!("{at}.matches[{i}]");
            let matched = self.http_match(&at, matcher);
            self.placed(matched, &at, i)
        });
        RouteRule { matches: matches.collect(), rule }
    }

    fn grpc_rule(&mut self, index: usize, spec: GrpcRule) -> RouteRule {
        let at = format!("rules[{index}].matches");
        self.limit(&at, spec.matches.len(), 64);
        let filters: Vec<_> = spec.filters.into_iter().map(Filter::from).collect();
        let backends: Vec<_> = spec.backend_refs.into_iter().map(BackendRef::from).collect();
        let (rule, _) = self.rule(index, spec.name.as_deref(), &filters, &backends, false);
        let matches = spec.matches.iter().enumerate();
        let matches = matches.map(|(i, matcher)| {
            let at = format!("{at}[{i}]");
            let matched = self.grpc_match(&at, matcher);
            self.placed(matched, &at, i)
        });
        RouteRule { matches: matches.collect(), rule }
    }

    fn placed(&self, matched: Match, path: &str, index: usize) -> Match {
        Match { matcher: RouteMatch { at: At::new(self.document, path, index), ..matched.matcher }, ..matched }
    }

    /// The rule, and whether it is a redirect.
    fn rule(
        &mut self,
        index: usize,
        name: Option<&str>,
        filters: &[Filter],
        backends: &[BackendRef],
        one_prefix: bool,
    ) -> (Rule, bool) {
        let at = format!("rules[{index}]");
        let Filters { headers, mirrors, redirect, rewrite, cors } =
            self.filters(&format!("{at}.filters"), filters, one_prefix);
        let (action, weighted) = self.backends(&at, backends, one_prefix);
        let redirects = redirect.is_some();
        let ObjectRef { namespace, name: route, .. } = self.document.object();
        let rule = Rule {
            // istio convertHTTPRoute: the rule's own name, else the route's with the position in it.
            name: Some(name.map_or_else(|| format!("{namespace}.{route}.{index}").into(), Arc::from)),
            matches: Vec::new(),
            action: redirect.map_or(action, Action::Redirect),
            weighted,
            headers: Some(Box::new(headers)),
            timeout: None,
            retries: Retries::Default,
            fault: None,
            rewrite,
            cors,
            mirror: None,
            mirror_share: None,
            mirrors: Some(mirrors),
            route: Some(format!("{namespace}/{route}").into()),
            lender: Some(Arc::new(Lender::new(self.document))),
            at: At::new(self.document, &at, index),
        };
        (rule, redirects)
    }

    /// istio convertHTTPRoute: `backendRequest` is the timeout of each try where there are retries, else of the request;
    /// 0 is none. With `attempts: 0` there is one try: Istio forgets the timeout with the policy, here it holds.
    fn timeouts(&mut self, at: &str, spec: &HttpRule, rule: &mut Rule) {
        let text = &spec.timeouts;
        let request = self.duration(format!("{at}.timeouts.request"), text.request.as_deref());
        let each = self.duration(format!("{at}.timeouts.backendRequest"), text.backend_request.as_deref());
        let (request, each) = (request.filter(|t| !t.is_zero()), each.filter(|t| !t.is_zero()));
        if let (Some(request), Some(each)) = (request, each)
            && each > request
        {
            let message = "backendRequest timeout cannot be longer than request timeout";
            self.error(format!("{at}.timeouts.backendRequest"), message);
        }
        let mut timeout = request;
        match (spec.retry.as_ref().map(|retry| self.retry(&format!("{at}.retry"), retry)), each) {
            (None, None) => {}
            (None, Some(each)) => timeout = Some(each),
            (Some(None), each) => {
                rule.retries = Retries::Policy(None);
                timeout = each.or(timeout);
            }
            (Some(Some(policy)), each) => {
                rule.retries = Retries::Policy(Some(match each {
                    Some(each) => policy.with_per_try_timeout(each),
                    None => policy,
                }));
            }
        }
        rule.timeout = timeout.map(Some);
    }

    /// istio convertHTTPRoute: two attempts where it does not say how many; on connection failures, the gRPC statuses
    /// unavailable and cancelled, and the codes that it names. `None` is no retries.
    fn retry(&mut self, at: &str, spec: &RetrySpec) -> Option<RetryPolicy> {
        let attempts = spec.attempts.unwrap_or(2);
        let Ok(attempts) = u32::try_from(attempts) else {
            self.error(format!("{at}.attempts"), "attempts cannot be negative");
            return None;
        };
        let mut on = String::from("connect-failure,refused-stream,unavailable,cancelled");
        for (index, code) in spec.codes.iter().enumerate() {
            let at = format!("{at}.codes[{index}]");
            if !(400..=599).contains(code) {
                self.error(at, format!("code {code} must be in the range 400..599"));
            } else if RetryOn::parse(&code.to_string()).is_err() {
                // istio parseRetryOn: what is no code that HTTP knows is taken for a word, which Envoy does not know.
                self.warning(at, format!("{code} is no status code of HTTP: it is not retried"));
            } else {
                on.push_str(&format!(",{code}"));
            }
        }
        let backoff = self.duration(format!("{at}.backoff"), spec.backoff.as_deref());
        let on = self.at(at, RetryOn::parse(&on))?;
        let policy = RetryPolicy::new(attempts, on);
        (attempts > 0).then(|| match backoff.filter(|backoff| !backoff.is_zero()) {
            Some(backoff) => policy.with_backoff(BackOff::new(backoff)),
            None => policy,
        })
    }
}
