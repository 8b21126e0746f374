//! Compiling VirtualServices, for one client, against the registry.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use mesh_core::{
    CLUSTER_DOMAIN, ClusterHandle, ClusterName, HostPattern, MeshConfig, OutboundTrafficPolicy, Reason, ServiceName,
    Workload,
    config::{Issue, Issues},
    registry::{Protocol, Registry, Service, ServicePort},
};

use super::{
    Destination, Route, RouteTable,
    bystanders::Bystanders,
    hosts::HostMap,
    owners::{Owner, Owners, UNREGISTERED_PORT},
    route::{About, Action, Destinations, Entry, Origin, VirtualHost},
};
use crate::{
    RetryPolicy, RoutePolicy, VirtualService,
    header_ops::{Headers, in_order},
    matcher::RouteMatch,
    mirror::Mirror,
    percent::Percent,
    string_match::StringMatch,
    virtual_service::{self as model, Backend, Retries, Rule, Semantics},
};

/// What a table is compiled from.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "an argument list with names")]
pub struct CompileInput<'a> {
    /// The client.
    pub workload: &'a Workload,
    /// Mesh-wide settings.
    pub mesh: &'a MeshConfig,
    /// The services that exist.
    pub registry: &'a Registry,
    /// All VirtualServices, in Istio's order: the first that names a host owns it.
    pub virtual_services: &'a [Arc<VirtualService>],
    /// For rules that say nothing about retries; `None` is no retries.
    pub default_retry: Option<RetryPolicy>,
}

/// What the hosts of Kubernetes services end in.
const CLUSTER_SUFFIX: &str = ".svc.cluster.local";

impl<C: ClusterHandle> RouteTable<C> {
    /// Compile. `clusters` gives the handle of a cluster, or `None` for one that is not defined: its route stays and
    /// answers 503 (NC). Warnings go to `issues`.
    #[must_use]
    pub fn compile(
        input: &CompileInput<'_>,
        clusters: &mut dyn FnMut(&ClusterName) -> Option<C>,
        issues: &mut Issues,
    ) -> Self {
        let virtual_services = &*model::merge(input.virtual_services, issues);
        let input = &CompileInput { virtual_services, ..input.clone() };
        let bystanders = Bystanders::default();
        let mut compiler =
            Compiler { input, clusters, issues, warned: HashSet::new(), names: HashMap::new(), bystanders };
        let mut hosts = HostMap::default();
        compiler.hosts(&mut hosts);
        let passthrough = match input.mesh.outbound_traffic_policy {
            OutboundTrafficPolicy::RegistryOnly => None,
            // istio buildCatchAllVirtualHost: PassthroughCluster, timeout 0, no retry policy.
            OutboundTrafficPolicy::AllowAny => {
                let policy = RoutePolicy { name: Some("allow_any".into()), ..RoutePolicy::default() };
                Some(compiler.destination(ClusterName::passthrough(), Arc::new(policy)))
            }
        };
        let bystanders = compiler.bystanders;
        let path_normalization = input.mesh.path_normalization;
        Self { hosts, passthrough, path_normalization, bystanders, client: input.workload.clone() }
    }
}

struct Compiler<'a, C> {
    input: &'a CompileInput<'a>,
    clusters: &'a mut dyn FnMut(&ClusterName) -> Option<C>,
    issues: &'a mut Issues,
    /// Destinations that were warned about: a rule is compiled once per host and port.
    warned: HashSet<*const Issue>,
    /// One name per cluster, shared.
    names: HashMap<ClusterName, Arc<ClusterName>>,
    bystanders: Bystanders,
}

impl<'a, C: ClusterHandle> Compiler<'a, C> {
    fn hosts(&mut self, hosts: &mut HostMap<Arc<VirtualHost<C>>>) {
        let CompileInput { virtual_services, workload, .. } = self.input;
        let mut owners = Owners::new(virtual_services, workload, &mut self.bystanders, self.issues);
        let client = &*self.input.workload.namespace;
        // Names other than a service's own, in the order in which Istio gives them away (istio dedupeDomains).
        let mut claims = Vec::new();
        for service in self.input.registry.services() {
            if !service.export_to.includes(&service.name.namespace, client) {
                continue;
            }
            // http rules are for HTTP: Istio proxies other protocols as bytes.
            let is_http =
                |port: &&ServicePort| !matches!(port.protocol, Protocol::Tcp | Protocol::Tls | Protocol::Https);
            let http: Vec<_> = service.ports.iter().filter(is_http).map(|port| port.number).collect();
            let candidates = owners.of(service, &http);
            for port in service.ports.iter().map(|port| port.number) {
                let about = About::new(service.pattern.clone(), Some(port), http.contains(&port));
                let about = About { service: true, ..about };
                let (order, host) = self.service_host(service, port, &candidates, about);
                hosts.insert(&service.pattern, Some(port), Arc::clone(&host));
                let rank = order.map_or(usize::MAX, |order| 2 * order + 1);
                let alias = |alias: String| (rank, HostPattern::Exact(alias.into()), port, Arc::clone(&host));
                claims.extend(domains(service, client).into_iter().map(alias));
            }
        }
        // Where Istio has no virtual host: hosts of no service, on other ports than 80.
        let (mut elsewhere, mut settled) = (Vec::new(), HashSet::new());
        for owner in owners.iter() {
            let pattern = owner.pattern;
            // A name inside the cluster that no service has is a slip of the pen, or a service yet to come.
            if owners.is_outside(pattern)
                && owners.is_first(owner)
                && pattern.exact().is_some_and(|host| host.ends_with(CLUSTER_SUFFIX))
            {
                let message = format!("host {pattern} is no service of the registry: the rules are for nobody");
                self.issues.push(owner.place.warning(message));
            }
            let (vs, outside) = (owner.virtual_service, owners.is_outside(pattern));
            let ports = owners.ports(owner);
            let entries = vs.rules().iter().flat_map(|rule| &rule.matches);
            let named: BTreeSet<u16> = entries.filter_map(|matcher| matcher.port).collect();
            let rest = if outside { self.host(owner, None, UNREGISTERED_PORT) } else { None };
            for port in &ports {
                // What no entry asks the port of is the same on all of them.
                let same = rest.clone().filter(|_| *port == UNREGISTERED_PORT && !named.contains(port));
                let host = same.or_else(|| self.host(owner, Some(*port), *port));
                claims.extend(host.map(|host| (2 * owner.order, pattern.clone(), *port, host)));
            }
            if outside && !settled.contains(pattern) {
                let named = named.difference(&ports).map(|port| (Some(*port), self.host(owner, Some(*port), *port)));
                elsewhere.extend(named.filter_map(|(port, host)| Some((pattern, port, host?))));
                if let Some(rest) = rest {
                    settled.insert(pattern);
                    elsewhere.push((pattern, None, rest));
                }
            }
        }
        claims.sort_by_key(|(rank, ..)| *rank);
        for (_, pattern, port, host) in claims {
            hosts.insert(&pattern, Some(port), host);
        }
        for (pattern, port, host) in elsewhere {
            hosts.insert(pattern, port, host);
        }
    }

    /// The virtual host of a service on a port: with the rules of the first candidate that has some there.
    fn service_host(
        &mut self,
        service: &Service,
        port: u16,
        candidates: &[(usize, &Arc<VirtualService>)],
        mut about: About,
    ) -> (Option<usize>, Arc<VirtualHost<C>>) {
        for (order, owner) in candidates {
            about.asked(owner);
            let entries = if about.http { self.entries(owner, Some(port), port) } else { Vec::new() };
            if !entries.is_empty() {
                return (Some(*order), Arc::new(VirtualHost::new(entries, about)));
            }
        }
        // istio BuildDefaultHTTPOutboundRoute: prefix `/`, default retry policy, timeout 0.
        let policy = RoutePolicy {
            name: Some("default".into()),
            retry: self.input.default_retry.clone(),
            ..RoutePolicy::default()
        };
        let name = ClusterName { service: service.name.clone(), port, subset: None };
        let destination = self.destination(name, Arc::new(policy));
        let default = Entry { matcher: None, route: Route::to(destination), origin: None };
        (None, Arc::new(VirtualHost::new(vec![default], about)))
    }

    /// The virtual host of an owner's pattern itself.
    fn host(&mut self, owner: &Owner<'_>, port: Option<u16>, dialled: u16) -> Option<Arc<VirtualHost<C>>> {
        let mut about = About::new(owner.pattern.clone(), port, true);
        about.asked(owner.virtual_service);
        let entries = self.entries(owner.virtual_service, port, dialled);
        (!entries.is_empty()).then(|| Arc::new(VirtualHost::new(entries, about)))
    }

    /// The routes of a VirtualService for a port; `None` for all that none of its entries names.
    ///
    /// istio BuildHTTPRoutesForVirtualService: it is compiled for each port, and one that has no route on a port counts as
    /// absent there.
    fn entries(&mut self, owner: &VirtualService, port: Option<u16>, dialled: u16) -> Vec<Entry<C>> {
        let mut entries = Vec::new();
        for (number, rule) in (0..).zip(owner.rules()) {
            if rule.matches.is_empty() {
                let route = self.route(owner, rule, None, dialled);
                entries.push(Entry { matcher: None, route, origin: Some(Origin { rule: number, entry: None }) });
                return entries;
            }
            for (entry, matcher) in (0..).zip(&rule.matches) {
                let elsewhere = matcher.port.is_some() && matcher.port != port;
                if elsewhere || !matcher.source.admits(self.input.workload) {
                    continue;
                }
                let route = self.route(owner, rule, Some(&**matcher), dialled);
                let origin = Some(Origin { rule: number, entry: Some(entry) });
                entries.push(Entry { matcher: Some(Arc::clone(matcher)), route, origin });
                // istio BuildHTTPRoutesForVirtualService: every rule after a catch-all is dropped.
                if matcher.is_catch_all(true) {
                    return entries;
                }
            }
        }
        entries
    }

    fn route(&mut self, owner: &VirtualService, rule: &Rule, matched: Option<&RouteMatch>, dialled: u16) -> Route<C> {
        let uri = matched.and_then(|matched| matched.uri.as_ref());
        let policy = self.policy(owner, rule, matched);
        let own = Headers::default();
        let rule_headers = rule.headers.as_deref().unwrap_or(&own);
        // measured on Envoy 1.40: its CORS filter looks at routes that forward; a redirect or a direct response gets none
        // of its headers, and answers a preflight like any other request.
        let answers = || {
            let response_headers = some(in_order(&rule_headers.response, &own.response, false));
            Arc::new(RoutePolicy { response_headers, cors: None, ..policy.clone() })
        };
        let destinations = match &rule.action {
            model::Action::Redirect(redirect) => {
                return Route::new(Action::Redirect(redirect.matched(uri), answers()));
            }
            model::Action::DirectResponse(answer) => {
                return Route::new(Action::DirectResponse(answer.clone(), answers()));
            }
            model::Action::Forward(_) | model::Action::Delegate(_) => rule.destinations(),
        };
        let rewrite = rule.rewrite.as_ref();
        let gateway = owner.semantics() != Semantics::Istio;
        let consequence = if gateway { ANSWERED_500 } else { ANSWERED };
        let policy = RoutePolicy {
            mirrors: self.mirrors(rule.mirrors(), &policy, dialled),
            rewrite: rewrite.and_then(|rewrite| rewrite.path(uri)),
            // istio applyHTTPRouteDestination: "return 500 for invalid backends"
            missing: if gateway { Reason::InvalidBackend } else { Reason::NoCluster },
            ..policy
        };
        let mut compiled = Vec::with_capacity(destinations.len());
        for spec in destinations {
            // istio "authority precedence": rewrite.authority, the rule's headers, the destination's.
            let own = spec.backend.as_deref();
            let rewrites = [own.and_then(|own| own.rewrite.as_ref()), rewrite];
            let authority = rewrites.into_iter().flatten().find_map(|rewrite| rewrite.authority.as_ref());
            let authority = authority.or(rule_headers.request.authority.as_ref());
            let policy = RoutePolicy {
                // measured on Envoy 1.40 (interop): a weighted cluster's own rewrite says nothing.
                tells_authority: authority.is_some() || !rule.weighted,
                authority: authority.or(spec.headers.request.authority.as_ref()).cloned(),
                request_headers: some(in_order(&rule_headers.request, &spec.headers.request, rule.weighted)),
                response_headers: some(in_order(&rule_headers.response, &spec.headers.response, rule.weighted)),
                ..policy.clone()
            };
            let policy = match own {
                Some(own) => self.backend(own, policy, uri, dialled),
                None => policy,
            };
            let mut destination = self.destination(self.cluster_name(spec, dialled), Arc::new(policy));
            destination.redirect = own.and_then(|own| own.redirect.as_ref()).map(|r| Box::new(r.matched(uri)));
            if own.is_some_and(|own| own.invalid) {
                destination.cluster = None;
                destination.refused = own.and_then(|own| own.refused.clone());
            } else if destination.redirect.is_none() {
                self.check(spec, &destination.name, destination.cluster.is_some(), consequence);
            }
            // istio: "If there is only one destination in the rule, it will receive all traffic."
            compiled.push((if spec.weight == 0 { 100 } else { spec.weight }, destination));
        }
        let mut compiled = compiled.into_iter();
        let first = compiled.next().expect("a rule that forwards has at least one destination");
        Route::new(Action::Forward(Destinations::new(first, compiled)))
    }

    /// What a backend of a Gateway API route says itself.
    ///
    /// gateway API HTTPBackendRef.filters: "Filters defined at this level should be executed if and only if the request is
    /// being forwarded to the backend defined here."
    fn backend(
        &mut self,
        backend: &Backend,
        policy: RoutePolicy<C>,
        uri: Option<&StringMatch>,
        dialled: u16,
    ) -> RoutePolicy<C> {
        let own = self.mirrors(backend.mirrors.iter().map(|(to, share)| (to, *share)), &policy, dialled);
        let mirrors = policy.mirrors.iter().chain(&own).flat_map(|mirrors| mirrors.iter().cloned());
        let answers = backend.redirect.is_some();
        RoutePolicy {
            mirrors: some(mirrors.collect()),
            rewrite: backend.rewrite.as_ref().and_then(|own| own.path(uri)).or_else(|| policy.rewrite.clone()),
            cors: backend.cors.clone().or_else(|| policy.cors.clone()).filter(|_| !answers),
            ..policy
        }
    }

    /// What a rule says, whatever its action.
    fn policy(&self, owner: &VirtualService, rule: &Rule, matched: Option<&RouteMatch>) -> RoutePolicy<C> {
        RoutePolicy {
            name: route_name(rule.name.as_deref(), matched.and_then(|matched| matched.name.as_deref())),
            virtual_service: Some(Arc::clone(rule.route.as_ref().unwrap_or_else(|| owner.name()))),
            timeout: rule.timeout.flatten(),
            retry: match &rule.retries {
                Retries::Default => self.input.default_retry.clone(),
                Retries::Policy(policy) => policy.clone(),
            },
            fault: rule.fault.clone(),
            cors: rule.cors.clone(),
            ..RoutePolicy::default()
        }
    }

    /// The rule's mirrors. One whose cluster is not defined gets nothing, as in Envoy.
    fn mirrors<'r>(
        &mut self,
        specs: impl Iterator<Item = (&'r model::Destination, Percent)>,
        policy: &RoutePolicy<C>,
        dialled: u16,
    ) -> Option<Arc<[Mirror<C>]>> {
        let mut mirrors = Vec::new();
        for (spec, share) in specs {
            // envoy: a shadow has the route's timeout, and neither retries nor anything else of the route.
            let policy = Arc::new(RoutePolicy {
                name: policy.name.clone(),
                virtual_service: policy.virtual_service.clone(),
                timeout: policy.timeout,
                ..RoutePolicy::default()
            });
            let Destination { name, cluster, policy, .. } = self.destination(self.cluster_name(spec, dialled), policy);
            self.check(spec, &name, cluster.is_some(), "nothing is mirrored there");
            mirrors.extend(cluster.map(|cluster| Mirror { cluster, share, policy }));
        }
        (!mirrors.is_empty()).then(|| mirrors.into())
    }

    /// istio GetDestinationCluster: the destination's port, else its service's single port, else the port dialled.
    fn cluster_name(&self, spec: &model::Destination, dialled: u16) -> ClusterName {
        let service = self.input.registry.service_for(&spec.host);
        let single = service.and_then(|service| match &*service.ports {
            [port] => Some(port.number),
            _ => None,
        });
        // istio GetDestinationCluster: "If this is an Alias, point to the concrete service".
        let is_own = |service: &&Arc<Service>| {
            service.name.host == spec.host || service.aliases.iter().any(|alias| alias.host == spec.host)
        };
        let name = service.filter(is_own).map(|service| service.name.clone());
        ClusterName {
            service: name.unwrap_or_else(|| ServiceName::of_host(&spec.host, &self.input.workload.namespace)),
            port: spec.port.or(single).unwrap_or(dialled),
            subset: spec.subset.clone(),
        }
    }

    fn destination(&mut self, name: ClusterName, policy: Arc<RoutePolicy<C>>) -> Destination<C> {
        let cluster = (self.clusters)(&name);
        let name = self.names.entry(name).or_insert_with_key(|name| Arc::new(name.clone()));
        Destination { name: Arc::clone(name), cluster, policy, redirect: None, refused: None }
    }

    /// Warn about what nobody defines. The rule stays: a later file may define it.
    fn check(&mut self, spec: &model::Destination, name: &ClusterName, defined: bool, consequence: &str) {
        if defined || !self.warned.insert(spec.place.id()) {
            return;
        }
        let ClusterName { port, subset, .. } = name;
        let what = match (self.input.registry.service_for(&spec.host), subset) {
            (None, _) => format!("host {} is not in the registry", spec.host),
            (Some(service), _) if service.port(*port).is_none() => format!("service {} has no port {port}", spec.host),
            (Some(_), Some(subset)) => format!("no DestinationRule defines the subset {subset} of {}", spec.host),
            (Some(_), None) => format!("no cluster for {}", spec.host),
        };
        self.issues.push(spec.place.warning(format!("{what}: {consequence} until it is")));
    }
}

/// What comes of a route to a cluster that nobody defines.
const ANSWERED: &str = "requests that go there are answered with 503 (NC)";
const ANSWERED_500: &str = "requests that go there are answered with 500 (NC)";

fn some<T>(list: Arc<[T]>) -> Option<Arc<[T]>> {
    (!list.is_empty()).then_some(list)
}

/// istio translateRoute: the route's name is `http.name[.match.name]`, with its dot even where the rule has no name.
pub(crate) fn route_name(rule: Option<&str>, matched: Option<&str>) -> Option<Arc<str>> {
    match (rule, matched) {
        (rule, Some(matched)) => Some(format!("{}.{matched}", rule.unwrap_or_default()).into()),
        (rule, None) => rule.map(Arc::from),
    }
}

/// The other names by which a service is called from a namespace: with a trailing dot, the short forms of a
/// Kubernetes name, virtual addresses.
///
/// istio generateVirtualHostDomains, GenerateAltVirtualHosts: the bare name only from the same namespace.
fn domains(service: &Service, client: &str) -> Vec<String> {
    let HostPattern::Exact(host) = &service.pattern else { return Vec::new() };
    let mut domains = alternatives(&ServiceName { host: Arc::clone(host), ..service.name.clone() }, client);
    for alias in &service.aliases {
        domains.push(alias.host.to_string());
        domains.extend(alternatives(alias, client));
    }
    domains.extend(service.addresses.iter().map(|address| match address {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => format!("[{v6}]"),
    }));
    domains
}

/// The forms of a name beside itself: with a trailing dot, and those of a Kubernetes service that leave out its end.
fn alternatives(ServiceName { host, name, namespace }: &ServiceName, client: &str) -> Vec<String> {
    let mut forms = vec![format!("{host}.")];
    if **host == format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}") {
        forms.push(format!("{name}.{namespace}.svc"));
        forms.push(format!("{name}.{namespace}"));
        if **namespace == *client {
            forms.push(name.to_string());
        }
    }
    forms
}
