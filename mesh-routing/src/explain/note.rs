//! What is likely to be wrong with a request whose host nobody knows.

use std::collections::BTreeSet;

use crate::{RequestHead, RouteTable};

/// What the hosts of Kubernetes services have after their namespace.
const SERVICE: &str = ".svc.cluster.local";

/// The service on another port, or in another namespace.
pub(super) fn elsewhere<C>(table: &RouteTable<C>, head: &RequestHead<'_>) -> Option<String> {
    other_port(table, head).or_else(|| other_namespace(table, head))
}

fn other_port<C>(table: &RouteTable<C>, head: &RequestHead<'_>) -> Option<String> {
    let services = || table.ports_of(head.host()).map(|host| host.about()).filter(|about| about.service);
    let host = services().next()?.host.to_string();
    let ports: BTreeSet<u16> = services().filter_map(|about| about.port).collect();
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    Some(format!("the service {host} has no port {}: it has {}", head.port(), ports.join(", ")))
}

/// istio generateVirtualHostDomains: the bare name only from the same namespace.
fn other_namespace<C>(table: &RouteTable<C>, head: &RequestHead<'_>) -> Option<String> {
    let name = head.host();
    // Every host is looked at: a name with a dot, as hosts outside the mesh have one, is not worth it.
    if name.contains('.') {
        return None;
    }
    let services = table.virtual_hosts().map(|host| host.about()).filter(|about| about.service);
    let named = services.filter_map(|about| {
        let (service, namespace) = about.host.exact()?.strip_suffix(SERVICE)?.split_once('.')?;
        service.eq_ignore_ascii_case(name).then(|| format!("{service}.{namespace}"))
    });
    let named: Vec<String> = named.collect::<BTreeSet<_>>().into_iter().collect();
    let own = &table.client().namespace;
    (!named.is_empty()).then(|| format!("namespace {own} has no service {name}: there is {}", named.join(", ")))
}
