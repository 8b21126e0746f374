//! Routes to hosts and ports that nobody has.

use std::collections::HashMap;

use mesh_core::config::{Document, Node};

use super::{Destination, destinations};
use crate::lint::{
    codes,
    names::{go_list, resolve},
    report::Findings,
    resources::{Resources, VIRTUAL_SERVICE},
    view::View as _,
};

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let mut subsets = Subsets::default();
    for (document, spec) in resources.specs(VIRTUAL_SERVICE) {
        subsets.collect(document, spec);
    }
    for (document, spec) in resources.specs(VIRTUAL_SERVICE) {
        for destination in destinations(spec) {
            self::destination(resources, document, spec, &destination, findings);
        }
        subsets.analyze(document, spec, findings);
    }
}

fn destination(
    resources: &Resources<'_>,
    document: &Document,
    spec: &Node,
    Destination { place, node }: &Destination<'_>,
    findings: &mut Findings,
) {
    let (own, host) = (&**document.namespace(), node.text("host"));
    let known = resources.hosts.find(&resolve(host, own), own, &spec.texts("exportTo"));
    if known.is_empty() {
        let what = if place.is_mirror() { "mirror host" } else { "host" };
        let message = format!("Referenced {what} not found: {host:?}");
        findings.add(&codes::REFERENCED_RESOURCE_NOT_FOUND, document, format!("{}.host", place.path()), message);
        return;
    }
    let has = |port: i64| known.iter().any(|known| known.ports.contains(&port));
    if !node.has("port") {
        // Several objects may have a host; it is ambiguous where one of them has several ports.
        if let Some(known) = known.iter().find(|known| known.ports.len() > 1) {
            let ports = go_list(known.ports.iter().map(i64::to_string));
            let message = format!(
                "This VirtualService routes to a service {host:?} that exposes multiple ports {ports}. Specifying a port \
                 in the destination is required to disambiguate."
            );
            let code = &codes::VIRTUAL_SERVICE_DESTINATION_PORT_SELECTOR_REQUIRED;
            findings.add(code, document, format!("{}.host", place.path()), message);
        }
    } else if let Some(port) = node.child("port").int("number").filter(|port| !has(*port)) {
        let message = format!("Referenced host:port not found: {:?}", format!("{host}:{port}"));
        let path = format!("{}.port.number", place.path());
        findings.add(&codes::REFERENCED_RESOURCE_NOT_FOUND, document, path, message);
    }
}

/// Who splits a host into subsets for clients in the mesh. A gateway's own VirtualService decides alone: Istio's route
/// rules for the mesh do not apply to what comes in through it.
#[derive(Default)]
struct Subsets<'a> {
    by_host: HashMap<String, Vec<&'a Document>>,
}

impl<'a> Subsets<'a> {
    fn collect(&mut self, document: &'a Document, spec: &Node) {
        let own = document.namespace();
        for host in spec.texts("hosts") {
            let host = resolve(host, own);
            let mut routes = spec.list("http").iter().flat_map(|rule| rule.list("route"));
            let splits = routes.any(|route| {
                let destination = route.child("destination");
                !destination.text("subset").is_empty() && resolve(destination.text("host"), own) == host
            });
            if splits {
                self.by_host.entry(host).or_default().push(document);
            }
        }
    }

    fn analyze(&self, document: &Document, spec: &Node, findings: &mut Findings) {
        if spec.texts("gateways").iter().all(|gateway| *gateway == super::MESH) {
            return;
        }
        for (rule, node) in spec.list("http").iter().enumerate() {
            for (index, route) in node.list("route").iter().enumerate() {
                let destination = route.child("destination");
                if !destination.text("subset").is_empty() {
                    continue;
                }
                let host = resolve(destination.text("host"), document.namespace());
                let others = self.by_host.get(&host).into_iter().flatten();
                for other in others.filter(|other| other.object() != document.object()) {
                    let message = format!(
                        "Subset in virtual service {}/{} has no effect on ingress gateway {}/{} requests",
                        other.namespace(),
                        other.name(),
                        document.namespace(),
                        document.name(),
                    );
                    let path = format!("http[{rule}].route[{index}].destination.host");
                    findings.add(&codes::INGRESS_ROUTE_RULES_NOT_AFFECTED, document, path, message);
                }
            }
        }
    }
}
