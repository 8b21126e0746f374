//! What controllers wrote into a status: it is in files that `kubectl get -o yaml` made.

use mesh_core::config::{Document, Node};

use crate::lint::{check::is_ours, codes, report::Findings, resources::Resources, view::View as _};

/// Gateway API: conditions whose truth is the bad news.
const NEGATIVE: [&str; 3] = ["Conflicted", "PartiallyInvalid", "OverlappingTLSConfig"];

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for document in resources.all().iter().filter(|document| is_ours(document)) {
        let status = document.root().child("status");
        conditions(document, "status", status, findings);
        for (index, parent) in status.list("parents").iter().enumerate() {
            conditions(document, &format!("status.parents[{index}]"), parent, findings);
        }
    }
}

fn conditions(document: &Document, path: &str, node: &Node, findings: &mut Findings) {
    for (index, condition) in node.list("conditions").iter().enumerate() {
        let (kind, status, reason) = (condition.text("type"), condition.text("status"), condition.text("reason"));
        // Types of others have a domain: deployment tools write into statuses too.
        let foreign = kind.split_once('/').is_some_and(|(domain, _)| !domain.ends_with("istio.io"));
        let partly = status == "True" && reason == "PartiallyInvalid";
        let bad = status == if NEGATIVE.contains(&kind) { "True" } else { "False" };
        if foreign || !(bad || partly) {
            continue;
        }
        let message = format!(
            "A condition with a negative status is present: type={kind}, reason={reason}, message={}.",
            condition.text("message"),
        );
        findings.add(&codes::NEGATIVE_CONDITION_STATUS, document, format!("{path}.conditions[{index}]"), message);
    }
}
