//! Routes to subsets that no DestinationRule defines: 503, cluster not found.

use std::collections::HashSet;

use super::destinations;
use crate::lint::{
    codes,
    names::{resolve, wildcards},
    report::Findings,
    resources::{DESTINATION_RULE, Resources, VIRTUAL_SERVICE},
    view::View as _,
};

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let mut defined: HashSet<(String, &str)> = HashSet::new();
    for (document, spec) in resources.specs(DESTINATION_RULE) {
        let host = resolve(spec.text("host"), document.namespace());
        defined.extend(spec.list("subsets").iter().map(|subset| (host.clone(), subset.text("name"))));
    }
    for (document, spec) in resources.specs(VIRTUAL_SERVICE) {
        for destination in destinations(spec) {
            let (host, subset) = (destination.node.text("host"), destination.node.text("subset"));
            let resolved = resolve(host, document.namespace());
            let by_wildcard = |suffix: &str| defined.contains(&(format!("*{suffix}"), subset));
            if subset.is_empty() || wildcards(&resolved).any(by_wildcard) || defined.contains(&(resolved, subset)) {
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
