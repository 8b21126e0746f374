//! DestinationRule, and the endpoints behind its host.

pub(super) mod certificates;
pub(super) mod outliers;
pub(super) mod subsets;

use mesh_core::config::{Document, Node};

use crate::lint::{
    hosts::Known,
    names::resolve,
    resources::{Resources, SERVICE},
    view::{View as _, spec},
    workloads::endpoint_has,
};

/// Who has the host of a rule.
fn known<'r, 'a>(resources: &'r Resources<'a>, document: &Document, spec: &Node) -> Vec<&'r Known<'a>> {
    let own: &str = document.namespace();
    resources.hosts.find(&resolve(spec.text("host"), own), own, &spec.texts("exportTo"))
}

/// How many endpoints with these labels there are behind hosts; `None` where the files do not say.
fn endpoints(resources: &Resources<'_>, known: &[&Known<'_>], labels: &[(&str, &str)]) -> Option<u64> {
    let mut total = 0;
    for known in known {
        total += endpoints_of(resources, known.document, labels)?;
    }
    Some(total)
}

fn endpoints_of(resources: &Resources<'_>, document: &Document, labels: &[(&str, &str)]) -> Option<u64> {
    let spec = spec(document);
    let service = (document.group(), document.kind()) == SERVICE;
    let selector = if service { spec.labels("selector") } else { spec.child("workloadSelector").labels("labels") };
    if !selector.is_empty() {
        let all: Vec<(&str, &str)> = selector.into_iter().chain(labels.iter().copied()).collect();
        let selected = resources.workloads.select(document.namespace(), &all);
        return selected.iter().try_fold(0, |sum: u64, running| Some(sum.saturating_add(running.count?)));
    }
    let inline = spec.list("endpoints");
    // A service without a selector has endpoints that stand in no file; an entry without endpoints has DNS's.
    if service || inline.is_empty() || spec.text("resolution") != "STATIC" && labels.is_empty() {
        return None;
    }
    u64::try_from(inline.iter().filter(|endpoint| endpoint_has(endpoint, labels)).count()).ok()
}
