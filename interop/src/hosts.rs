//! Whose rules a request gets when several VirtualServices are in force: what istiod makes of hosts, in this crate's own
//! words. A port is compiled by itself, as Istio does it.
//!
//! Names in comments are of functions below istio `pilot/pkg/networking/core` and `pilot/pkg/model`.

use std::collections::HashSet;

use crate::{
    merge::{self, full},
    model::{
        Action, CLIENT_LABELS, CLIENT_NAMESPACE, CLUSTER_DOMAIN, Destination, Match, Rule, Service, Table,
        VirtualService,
    },
};

/// Routes that some hosts have on a port.
#[derive(Clone, Debug)]
pub(crate) struct VirtualHost {
    pub(crate) port: u16,
    pub(crate) domains: Vec<String>,
    pub(crate) routes: Vec<Route>,
    /// How it came by its rules.
    pub(crate) kind: &'static str,
    /// Do others in force say the same host, or a wildcard for it?
    pub(crate) contested: bool,
}

/// A rule, by one of its `match` entries.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) rule: Rule,
    pub(crate) entry: Option<Match>,
}

/// What a VirtualService has on a port.
struct Claim<'a> {
    routes: Vec<Route>,
    others: Vec<&'a str>,
    services: Vec<&'a Service>,
}

/// All virtual hosts of a table on a port, as BuildSidecarOutboundVirtualHosts makes them.
pub(crate) fn virtual_hosts(table: &Table, port: u16) -> Vec<VirtualHost> {
    let in_force = in_force(table);
    let here: Vec<_> = table.services.iter().filter(|service| service.ports.contains(&port)).collect();
    let claims: Vec<_> = (0..in_force.len()).filter_map(|index| claim(&in_force, index, &here, port)).collect();
    let owned: HashSet<_> = claims.iter().flat_map(|claim| &claim.services).map(|service| &*service.host).collect();
    let mut taken: HashSet<String> = HashSet::new();
    let mut all = Vec::new();
    // dedupeDomains: whoever comes first has a domain; the name of one service is no other name of another
    let mut add = |own: &str, domains: Vec<String>, routes: &[Route], kind| {
        let free = |domain: &String| {
            let of_another = here.iter().any(|service| service.host == *domain && service.host != own);
            !of_another && taken.insert(domain.clone())
        };
        let domains: Vec<_> = domains.into_iter().filter(free).collect();
        if !domains.is_empty() {
            let says = |vs: &&VirtualService| vs.hosts.iter().any(|host| covers(host, own));
            let contested = in_force.iter().filter(says).count() > 1;
            all.push(VirtualHost { port, domains, routes: routes.to_vec(), kind, contested });
        }
    };
    let mut named = HashSet::new();
    for claim in &claims {
        for other in &claim.others {
            if named.insert((*other).to_owned()) {
                let kind =
                    if is_wildcard(other) { "wildcard outside the registry" } else { "name outside the registry" };
                add(other, vec![(*other).to_owned()], &claim.routes, kind);
            }
        }
        for service in &claim.services {
            if named.insert(service.host.clone()) {
                let said = in_force.iter().any(|vs| vs.hosts.contains(&service.host));
                let kind = if said { "service by its name" } else { "service by a wildcard" };
                add(&service.host, domains(service), &claim.routes, kind);
            }
        }
    }
    for service in here.iter().filter(|service| !owned.contains(&*service.host)) {
        let to = Destination { host: service.host.clone(), port: Some(port), ..Destination::default() };
        let rule = Rule::new("default".into(), Action::Route(vec![to]));
        let route = Route { name: rule.name.clone(), rule, entry: None };
        add(&service.host, domains(service), &[route], "service without rules");
    }
    all
}

/// VirtualServicesForGateway: those for the mesh that the client sees, the private ones first, then those exported to
/// its namespace, then the public ones; with hosts in full and the rules of their delegates.
fn in_force(table: &Table) -> Vec<VirtualService> {
    let mesh = |vs: &&VirtualService| vs.gateways.is_empty() || vs.gateways.contains(&"mesh");
    let with_hosts = table.virtual_services.iter().filter(|vs| !vs.hosts.is_empty()).filter(mesh);
    let mut ranked: Vec<_> = with_hosts.filter_map(|vs| Some((rank(vs)?, vs))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let resolved = |vs: &VirtualService| VirtualService {
        hosts: vs.hosts.iter().map(|host| full(host, &vs.namespace)).collect(),
        rules: merge::rules(vs, &table.virtual_services),
        ..vs.clone()
    };
    ranked.into_iter().map(|(_, vs)| resolved(vs)).collect()
}

// initVirtualServices
fn rank(vs: &VirtualService) -> Option<u8> {
    let own = vs.namespace == CLIENT_NAMESPACE;
    match &*vs.export_to {
        [] => Some(2),
        list if list.contains(&"*") => Some(2),
        [only] if *only == "." || *only == vs.namespace => own.then_some(0),
        list => list.iter().any(|to| *to == CLIENT_NAMESPACE || (*to == "." && own)).then_some(1),
    }
}

// buildSidecarVirtualHostsForVirtualService
fn claim<'a>(in_force: &'a [VirtualService], index: usize, here: &[&'a Service], port: u16) -> Option<Claim<'a>> {
    let vs = &in_force[index];
    let routes = routes(&vs.rules, port);
    if routes.is_empty() {
        return None;
    }
    let mut claim = Claim { routes, others: Vec::new(), services: Vec::new() };
    let (wildcards, names): (Vec<_>, Vec<_>) = vs.hosts.iter().partition(|host| is_wildcard(host));
    for name in names {
        match here.iter().find(|service| service.host == *name) {
            Some(service) => claim.services.push(service),
            None => claim.others.push(name),
        }
    }
    for wildcard in wildcards {
        let mut covered = here.iter().filter(|service| covers(wildcard, &service.host)).peekable();
        if covered.peek().is_none() {
            claim.others.push(wildcard);
        }
        claim.services.extend(covered.filter(|service| most_specific(in_force, service) == Some(index)));
    }
    // "VS host not in registry only gets a vhost on port 80", or beside a service of the same VirtualService
    (port == 80 || !claim.services.is_empty()).then_some(claim)
}

// computeWildcardHostVirtualServiceIndex: the name itself, else the longest wildcard; the first of those that say the same
fn most_specific(in_force: &[VirtualService], service: &Service) -> Option<usize> {
    let says = |wanted: &str| in_force.iter().position(|vs| vs.hosts.iter().any(|host| host == wanted));
    says(&service.host).or_else(|| {
        let wildcards = in_force.iter().flat_map(|vs| &vs.hosts).filter(|host| is_wildcard(host));
        let longest = wildcards.filter(|host| covers(host, &service.host)).max_by_key(|host| host.len())?;
        says(longest)
    })
}

// BuildHTTPRoutesForVirtualService, translateRoute, sourceMatchHTTP
fn routes(rules: &[Rule], port: u16) -> Vec<Route> {
    let mut routes = Vec::new();
    for rule in rules {
        if rule.matches.is_empty() {
            routes.push(Route { name: rule.name.clone(), rule: rule.clone(), entry: None });
            return routes;
        }
        for entry in rule.matches.iter().filter(|entry| admits(entry, port)) {
            let name = if entry.name.is_empty() { rule.name.clone() } else { format!("{}.{}", rule.name, entry.name) };
            routes.push(Route { name, rule: rule.clone(), entry: Some(entry.clone()) });
        }
    }
    routes
}

fn admits(entry: &Match, port: u16) -> bool {
    let from_here = if entry.gateways.is_empty() {
        entry.source_labels.iter().all(|label| CLIENT_LABELS.contains(label))
            && entry.source_namespace.is_none_or(|namespace| namespace == CLIENT_NAMESPACE)
    } else {
        entry.gateways.contains(&"mesh")
    };
    from_here && entry.port.is_none_or(|only| only == port)
}

/// Is a host that no service has routed, though Istio routes those on port 80 only? Here any port reaches it (see README).
pub(crate) fn is_ours_alone(table: &Table, host: &str, port: u16) -> bool {
    let name = host.split(':').next().unwrap_or_default().to_lowercase();
    let known = virtual_hosts(table, port).iter().any(|known| known.domains.iter().any(|domain| covers(domain, &name)));
    let said = table.virtual_services.iter().flat_map(|vs| vs.hosts.iter().map(|host| full(host, &vs.namespace)));
    let outside = |said: &String| table.services.iter().all(|service| !covers(said, &service.host));
    !known && port != 80 && said.filter(|said| covers(said, &name)).any(|said| outside(&said))
}

pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Does a host of a VirtualService stand for a name?
pub(crate) fn covers(host: &str, name: &str) -> bool {
    match host.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => host == name,
    }
}

// generateVirtualHostDomains, GenerateAltVirtualHosts
fn domains(service: &Service) -> Vec<String> {
    let full = &service.host;
    let mut all = vec![full.clone(), format!("{full}.")];
    if let Some(short) = full.strip_suffix(CLUSTER_DOMAIN) {
        if let Some(name) = short.strip_suffix(&format!(".{CLIENT_NAMESPACE}")) {
            all.push(name.to_owned());
        }
        all.extend([format!("{short}.svc"), short.to_owned()]);
    }
    all
}
