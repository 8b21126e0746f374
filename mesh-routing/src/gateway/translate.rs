//! Routes into VirtualServices: one for each service, with the rules of all routes that speak for it, in order.
//!
//! istio HTTPRouteCollection and mergeHTTPRoutes do the same, so that everything behind, the table, its index and the
//! layers, knows one kind of rule.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use mesh_core::{
    Workload,
    config::{Issue, Issues, ObjectRef},
    registry::{Registry, Service},
};

use super::{
    GatewayRoutes,
    matches::Precedence,
    parser::Kind,
    route::{Parent, Route},
};
use crate::{
    VirtualService,
    virtual_service::{Action, Destination, Foreign, Host, Rule, Semantics},
};

/// The rules of one namespace's routes for one host. istio: "for mesh routes, build one VS per namespace/port->host".
struct Group {
    object: ObjectRef,
    created: Option<Arc<str>>,
    host: Host,
    port: Option<u16>,
    rules: Vec<(Option<Precedence>, Rule)>,
}

type Key = (Kind, Arc<str>, Option<u16>, String);

struct Translator<'a> {
    routes: &'a GatewayRoutes,
    services: HashMap<&'a ObjectRef, Vec<&'a Service>>,
    workload: &'a Workload,
    issues: &'a mut Issues,
    /// Backends that were warned about: a route may have several parents.
    warned: HashSet<*const Issue>,
    groups: Vec<Group>,
    by_key: HashMap<Key, usize>,
}

/// The VirtualServices that routes come to for a client, after and among those that are given, in Istio's order: the
/// oldest first, and what has no time after what has one.
pub(super) fn join(
    routes: &GatewayRoutes,
    virtual_services: &[Arc<VirtualService>],
    registry: &Registry,
    workload: &Workload,
    issues: &mut Issues,
) -> Vec<Arc<VirtualService>> {
    if routes.http.is_empty() && routes.grpc.is_empty() {
        return virtual_services.to_vec();
    }
    let mut services: HashMap<_, Vec<&Service>> = HashMap::new();
    for service in registry.services() {
        services.entry(&service.object).or_default().push(service);
    }
    let mut translator = Translator {
        routes,
        services,
        workload,
        issues,
        warned: HashSet::new(),
        groups: Vec::new(),
        by_key: HashMap::new(),
    };
    let http = routes.http.iter().map(|route| &route.0);
    let mut all: Vec<&Route> = http.chain(routes.grpc.iter().map(|route| &route.0)).collect();
    // gateway API HTTPRouteRule.matches: "The oldest Route based on creation timestamp. The Route appearing first in
    // alphabetical order by "{namespace}/{name}"."
    all.sort_by(|a, b| age(a.created.as_deref()).cmp(&age(b.created.as_deref())).then_with(|| name(a).cmp(&name(b))));
    for route in all {
        for parent in &route.parents {
            translator.attach(route, parent);
        }
    }
    let mut translated = translator.virtual_services();
    // What speaks for one port comes before what speaks for all: istio names it `namespace~port~host`.
    translated.sort_by_key(|vs| matches!(vs.semantics(), Semantics::Gateway { port: None }));
    let mut joined: Vec<_> = virtual_services.iter().cloned().chain(translated.into_iter().map(Arc::new)).collect();
    joined.sort_by(|a, b| age(a.created()).cmp(&age(b.created())));
    joined
}

/// The oldest is the least.
fn age(created: Option<&str>) -> (bool, Option<&str>) {
    (created.is_none(), created)
}

fn name(route: &Route) -> (&str, &str, Kind) {
    (&route.object.namespace, &route.object.name, route.kind)
}

impl Translator<'_> {
    fn attach(&mut self, route: &Route, parent: &Parent) {
        let services = self.services.get(&parent.object).cloned().unwrap_or_default();
        if services.is_empty() {
            let ObjectRef { kind, name, .. } = &parent.object;
            let what = if **kind == *"Service" { "service" } else { "service entry" };
            let message = format!("parent {what}: {name:?} not found: the rules are for nobody until it is there");
            self.issues.push(parent.place.warning(message));
        }
        // istio buildSidecarVirtualHostsForVirtualService: "Gateway allows only routes from the namespace of the proxy, or
        // namespace of the destination."
        let producer = route.object.namespace == parent.object.namespace;
        if !producer && route.object.namespace != self.workload.namespace {
            return;
        }
        for service in services {
            if let Some(port) = self.port(parent, service) {
                self.add(route, parent, service, port);
            }
        }
    }

    /// The port that a parent is limited to; `None` where the service has no such port.
    ///
    /// gateway API ParentReference.port: "When the parent resource is a Service, this targets a specific port in the
    /// Service spec. When both Port (experimental) and SectionName are specified, the name and port of the selected port
    /// must match both specified values."
    #[allow(clippy::option_option, reason = "no such port, all ports, one port")]
    fn port(&mut self, parent: &Parent, service: &Service) -> Option<Option<u16>> {
        if parent.port.is_none() && parent.section.is_none() {
            return Some(None);
        }
        let fits = service.ports.iter().find(|port| {
            parent.port.is_none_or(|number| number == port.number)
                && parent.section.as_ref().is_none_or(|name| *name == port.name)
        });
        if fits.is_none() {
            let number = parent.port.map(|port| format!(" {port}")).unwrap_or_default();
            let section = parent.section.as_ref().map(|name| format!(" named {name:?}")).unwrap_or_default();
            let message = format!("{} has no port{number}{section}: the rules are for nobody", service.name.host);
            self.issues.push(parent.place.warning(message));
        }
        fits.map(|port| Some(port.number))
    }

    fn add(&mut self, route: &Route, parent: &Parent, service: &Service, port: Option<u16>) {
        let key = (route.kind, Arc::clone(&route.object.namespace), port, service.pattern.to_string());
        let index = *self.by_key.entry(key).or_insert_with(|| {
            self.groups.push(Group {
                object: route.object.clone(),
                created: route.created.clone(),
                host: Host { pattern: service.pattern.clone(), place: parent.place.clone() },
                port,
                rules: Vec::new(),
            });
            self.groups.len() - 1
        });
        for given in &route.rules {
            let mut rule = given.rule.clone();
            self.references(route, parent, &mut rule);
            // istio augmentPortMatch
            let at_port =
                |matcher: crate::matcher::RouteMatch| Arc::new(crate::matcher::RouteMatch { port, ..matcher });
            if given.matches.is_empty() {
                rule.matches = port.map(|_| at_port(crate::matcher::RouteMatch::default())).into_iter().collect();
                self.groups[index].rules.push((None, rule));
                continue;
            }
            // istio: "split the rule to make sure each rule has up to one match"
            for matcher in &given.matches {
                let rule = Rule { matches: vec![at_port(matcher.matcher.clone())], ..rule.clone() };
                self.groups[index].rules.push((Some(matcher.precedence), rule));
            }
        }
    }

    /// Find the references to other namespaces that nobody allows.
    fn references(&mut self, route: &Route, parent: &Parent, rule: &mut Rule) {
        if let Action::Forward(destinations) = &mut rule.action {
            for destination in destinations {
                self.reference(route, parent, destination);
                if let Some(backend) = &mut destination.backend {
                    self.mirrors(route, parent, &mut backend.mirrors);
                }
            }
        }
        if let Some(mirrors) = &mut rule.mirrors {
            self.mirrors(route, parent, mirrors);
        }
    }

    /// istio createMirrorFilter: a mirror whose backend is no good is left out.
    fn mirrors(&mut self, route: &Route, parent: &Parent, mirrors: &mut Vec<(Destination, crate::percent::Percent)>) {
        mirrors.retain_mut(|(destination, _)| {
            self.reference(route, parent, destination);
            destination.backend.as_ref().is_none_or(|backend| !backend.invalid)
        });
    }

    /// gateway API BackendObjectReference.namespace: "when a namespace different than the local namespace is specified, a
    /// ReferenceGrant object is required in the referent namespace". Not for the namespace of the service that the route
    /// is for: who calls it may say how (GEP-1426, consumer routes).
    fn reference(&mut self, route: &Route, parent: &Parent, destination: &mut Destination) {
        let place = destination.place.clone();
        let Some(backend) = &mut destination.backend else { return };
        let Some(target) = &backend.foreign else { return };
        let granted = || self.routes.grants.iter().any(|grant| grant.lets(&route.object, target));
        if target.namespace == parent.object.namespace || granted() {
            return;
        }
        backend.invalid = true;
        backend.refused = Some(refusal(&route.object, target));
        if self.warned.insert(place.id()) {
            let (name, to) = (&target.name, &target.namespace);
            let ObjectRef { kind, namespace, .. } = &route.object;
            let message = format!(
                "backendRef {name}/{to} not accessible to a {kind} in namespace {namespace:?} (missing a ReferenceGrant?): \
                 its requests are answered with 500"
            );
            self.issues.push(place.warning(message));
        }
    }

    fn virtual_services(self) -> Vec<VirtualService> {
        let translated = self.groups.into_iter().map(|mut group| {
            // A stable sort: equal matches stay in the order of their routes and of the list in them.
            group.rules.sort_by_key(|(precedence, _)| Reverse(*precedence));
            let rules = group.rules.into_iter().map(|(_, rule)| rule).collect();
            VirtualService::of_gateway(group.object, group.created, group.host, group.port, rules)
        });
        translated.collect()
    }
}

/// The grant that is missing.
fn refusal(route: &ObjectRef, target: &Foreign) -> Arc<str> {
    let Foreign { kind, namespace, name, .. } = target;
    format!(
        "no ReferenceGrant in {namespace} lets {} {}/{} refer to {kind} {name}",
        route.kind, route.namespace, route.name
    )
    .into()
}
