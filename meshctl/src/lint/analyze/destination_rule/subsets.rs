//! Rules for hosts that nobody has, and subsets without endpoints: 503, no healthy upstream.

use super::{endpoints, known};
use crate::lint::{
    codes,
    names::resolve,
    report::Findings,
    resources::{DESTINATION_RULE, Resources},
    view::View as _,
};

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for (document, spec) in resources.specs(DESTINATION_RULE) {
        let known = known(resources, document, spec);
        let host = spec.text("host");
        if known.is_empty() {
            // A rule for a wildcard is for whatever is below it.
            if !resources.hosts.any_below(&resolve(host, document.namespace())) {
                let message =
                    format!("The host {host} defined in the DestinationRule does not match any services in the mesh.");
                findings.add(&codes::UNKNOWN_DESTINATION_RULE_HOST, document, "host", message);
            }
            continue;
        }
        for (index, subset) in spec.list("subsets").iter().enumerate() {
            if endpoints(resources, &known, &subset.labels("labels")) != Some(0) {
                continue;
            }
            let message = format!(
                "The Subset {} defined in the DestinationRule does not select any pods. Which may lead to 503 UH \
                 (NoHealthyUpstream).",
                subset.text("name"),
            );
            let code = &codes::DESTINATION_RULE_SUBSET_NOT_SELECT_PODS;
            findings.add(code, document, format!("subsets[{index}].labels"), message);
        }
    }
}
