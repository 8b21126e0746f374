//! `tcp` and `tls` of a VirtualService: nothing in-process enforces them, and other proxies beside us do.
//!
//! Checks and words are istio validation's validateTLSRoute, validateTCPRoute and analyzeUnreachable{TCP,TLS}Rules.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};

use mesh_core::config::{Document, Issues, Node, Topic, Value};

use crate::lint::{
    check::refuse,
    names::overlap,
    resources::VIRTUAL_SERVICE,
    view::{View as _, spec},
};

pub(in crate::lint) fn check(document: &Document, issues: &mut Issues) {
    if (document.group(), document.kind()) != VIRTUAL_SERVICE {
        return;
    }
    let spec = spec(document);
    for (index, route) in spec.list("tls").iter().enumerate() {
        tls(document, spec, &format!("tls[{index}]"), route, issues);
    }
    for (index, route) in spec.list("tcp").iter().enumerate() {
        let path = format!("tcp[{index}]");
        if route.list("route").is_empty() {
            refuse(document, issues, &path, "TCP route is required");
        }
        matches(document, &path, route, issues);
    }
    for section in ["tls", "tcp"] {
        unreachable(document, section, spec.list(section), issues);
    }
}

fn tls(document: &Document, spec: &Node, path: &str, route: &Node, issues: &mut Issues) {
    if route.list("match").is_empty() {
        refuse(document, issues, path, "TLS route must have at least one match condition");
    }
    if route.list("route").is_empty() {
        refuse(document, issues, path, "TLS route is required");
    }
    let hosts = spec.texts("hosts");
    for (index, entry) in route.list("match").iter().enumerate() {
        let path = format!("{path}.match[{index}]");
        let names = entry.texts("sniHosts");
        if names.is_empty() {
            refuse(document, issues, &path, "TLS match must have at least one SNI host");
        }
        for (index, name) in names.into_iter().enumerate() {
            // One-way: the SNI is narrower than the host, or the same.
            let narrower =
                |host: &str| host == name || host.starts_with('*') && host.len() <= name.len() && overlap(host, name);
            if !hosts.iter().any(|host| narrower(host)) {
                let hosts = hosts.join(", ");
                let message = format!(
                    "SNI host {name:?} is not a compatible subset of any of the virtual service hosts: [{hosts}]"
                );
                refuse(document, issues, format!("{path}.sniHosts[{index}]"), message);
            }
        }
    }
    matches(document, path, route, issues);
}

fn matches(document: &Document, path: &str, route: &Node, issues: &mut Issues) {
    for (index, entry) in route.list("match").iter().enumerate() {
        for (at, subnet) in entry.texts("destinationSubnets").into_iter().enumerate() {
            if !is_subnet(subnet) {
                let path = format!("{path}.match[{index}].destinationSubnets[{at}]");
                refuse(document, issues, path, format!("{subnet} is not a valid CIDR block"));
            }
        }
        if let Some(port) = entry.int("port").filter(|port| !(1..=65535).contains(port)) {
            let message = format!("port number {port} must be in the range 1..65535");
            refuse(document, issues, format!("{path}.match[{index}].port"), message);
        }
    }
}

/// An address, or a network.
fn is_subnet(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}

fn unreachable(document: &Document, section: &str, routes: &[Node], issues: &mut Issues) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut catch_all = false;
    for (number, route) in routes.iter().enumerate() {
        let mut unused = |why: &str| {
            let message = format!("virtualService rule #{number} not used ({why})");
            issues.push(document.warning(format!("{section}[{number}]"), message).about(Topic::UnreachableRule));
        };
        let entries = route.list("match");
        if entries.is_empty() {
            if catch_all {
                unused("only the last rule can have no matches");
            }
            catch_all = true;
            continue;
        }
        let mut duplicates = 0;
        for (index, entry) in entries.iter().enumerate() {
            match seen.entry(printed(entry)) {
                Entry::Occupied(known) => {
                    duplicates += 1;
                    let message = format!(
                        "virtualService rule #{number} match #{index} is not used (duplicate/overlapping match in rule #{})",
                        known.get()
                    );
                    let issue = document.warning(format!("{section}[{number}].match[{index}]"), message);
                    issues.push(issue.about(Topic::IneffectiveMatch));
                }
                Entry::Vacant(new) => {
                    new.insert(number);
                }
            }
        }
        if duplicates == entries.len() {
            let message = format!("virtualService rule #{number} not used (all matches used by prior rules)");
            issues.push(document.warning(format!("{section}[{number}]"), message).about(Topic::UnreachableRule));
        }
    }
}

/// The value without its place: equal values print alike, whatever the order of their fields.
fn printed(node: &Node) -> String {
    match &node.value {
        Value::Sequence(items) => format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(",")),
        Value::Mapping(entries) => {
            let mut fields: Vec<String> =
                entries.iter().map(|(key, value)| format!("{:?}:{}", key.name, printed(value))).collect();
            fields.sort();
            format!("{{{}}}", fields.join(","))
        }
        other => format!("{other:?}"),
    }
}
