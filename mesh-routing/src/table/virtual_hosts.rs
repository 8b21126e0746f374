//! Which hosts a table knows on which ports, and whose rules they have.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use mesh_core::{
    CLUSTER_DOMAIN, ClusterHandle, ClusterName, HostPattern, ServiceName,
    registry::{Protocol, Service, ServicePort},
};

use super::{
    Route,
    compile::Compiler,
    hosts::HostMap,
    owners::{Owners, UNREGISTERED_PORT},
    route::{Entry, VirtualHost},
};
use crate::{RoutePolicy, VirtualService, virtual_service as model};

/// What the hosts of Kubernetes services end in.
const CLUSTER_SUFFIX: &str = ".svc.cluster.local";

impl<C: ClusterHandle> Compiler<'_, C> {
    /// All of them.
    pub(super) fn hosts(&mut self, hosts: &mut HostMap<Arc<VirtualHost<C>>>) {
        let mut owners = Owners::new(self.input.virtual_services, self.input.workload, self.issues);
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
                let candidates = if http.contains(&port) { &*candidates } else { &[] };
                let (order, host) = self.service_host(service, port, candidates);
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
            for port in &ports {
                let host = self.host(vs, Some(*port), *port);
                claims.extend(host.map(|host| (2 * owner.order, pattern.clone(), *port, host)));
            }
            if outside && !settled.contains(pattern) {
                for port in named.difference(&ports) {
                    let host = self.host(vs, Some(*port), *port);
                    elsewhere.extend(host.map(|host| (pattern, Some(*port), host)));
                }
                // On a port that no entry names, destinations without one have 80. Without such entries that is port 80's.
                let rest = named.is_empty().then_some(UNREGISTERED_PORT);
                if let Some(rest) = self.host(vs, rest, UNREGISTERED_PORT) {
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
        candidates: &[(usize, &VirtualService)],
    ) -> (Option<usize>, Arc<VirtualHost<C>>) {
        for (order, owner) in candidates {
            if let Some(host) = self.host(owner, Some(port), port) {
                return (Some(*order), host);
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
        (None, Arc::new(VirtualHost::new(vec![Entry { matcher: None, route: Route::to(destination) }])))
    }

    fn host(&mut self, owner: &VirtualService, port: Option<u16>, dialled: u16) -> Option<Arc<VirtualHost<C>>> {
        let key = (std::ptr::from_ref(owner), self.asks_for_port(owner).then_some((port, dialled)));
        if let Some(host) = self.shared.get(&key) {
            return host.clone();
        }
        let entries = self.entries(owner, port, dialled);
        let host = (!entries.is_empty()).then(|| Arc::new(VirtualHost::new(entries)));
        self.shared.insert(key, host.clone());
        host
    }

    /// Does it matter which port a request was for? Where an entry asks for one, or a destination has that of the request.
    fn asks_for_port(&self, owner: &VirtualService) -> bool {
        let single = |host: &str| self.input.registry.service_for(host).is_some_and(|service| service.ports.len() == 1);
        let of_request = |to: &model::Destination| to.port.is_none() && !single(&to.host);
        owner.rules().iter().any(|rule| {
            let backends = rule.destinations().iter().filter_map(|to| to.backend.as_deref());
            rule.matches.iter().any(|matcher| matcher.port.is_some())
                || rule.destinations().iter().any(of_request)
                || rule.mirrors().any(|(to, _)| of_request(to))
                || backends.flat_map(|own| &own.mirrors).any(|(to, _)| of_request(to))
        })
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
