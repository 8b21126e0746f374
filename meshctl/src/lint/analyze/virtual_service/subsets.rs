//! Routes to subsets that no DestinationRule defines: 503, cluster not found.

use std::collections::{HashMap, HashSet};

use super::destinations;
use crate::lint::{
    codes,
    names::{resolve, wildcards},
    report::Findings,
    resources::{DESTINATION_RULE, Resources, VIRTUAL_SERVICE},
    view::View as _,
};

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let mut defined: HashMap<(String, &str), Vec<&str>> = HashMap::new();
    let mut ruled: HashSet<(&str, String)> = HashSet::new();
    for (document, spec) in resources.specs(DESTINATION_RULE) {
        let (host, namespace) = (resolve(spec.text("host"), document.namespace()), &**document.namespace());
        for subset in spec.list("subsets") {
            defined.entry((host.clone(), subset.text("name"))).or_default().push(namespace);
        }
        ruled.insert((namespace, host));
    }
    for (document, spec) in resources.specs(VIRTUAL_SERVICE) {
        for destination in destinations(spec) {
            let (host, subset) = (destination.node.text("host"), destination.node.text("subset"));
            let resolved = resolve(host, document.namespace());
            if subset.is_empty() || defined.contains_key(&(resolved.clone(), subset)) {
                continue;
            }
            // istio MostSpecificHostMatch: a wildcard's rule is not in force where its namespace has one that is closer.
            let hosts = [resolved.clone()].into_iter().chain(wildcards(&resolved).map(|suffix| format!("*{suffix}")));
            let mut closer: Vec<String> = Vec::new();
            let by_wildcard = hosts.into_iter().any(|host| {
                let key = (host, subset);
                let mut namespaces = defined.get(&key).into_iter().flatten();
                let found = namespaces.any(|own| !closer.iter().any(|host| ruled.contains(&(own, host.clone()))));
                closer.push(key.0);
                found
            });
            if by_wildcard {
                continue;
            }
            let what = if destination.place.is_mirror() { "mirror" } else { "host" };
            let message =
                format!("Referenced {what}+subset in destinationrule not found: {:?}", format!("{host}+{subset}"));
            let path = format!("{}.subset", destination.place.path());
            findings.add(&codes::REFERENCED_RESOURCE_NOT_FOUND, document, path, message);
        }
    }
}
