//! outlierDetection that can never eject.
//!
//! measured on Envoy 1.40 (t6): an endpoint is ejected iff (ejected + 1) / N <= maxEjectionPercent. Istio's default of
//! 10 % ejects nothing from fewer than 10 endpoints; Envoy's "at least one host" holds for a field that Istio does not set.

use mesh_core::config::{Document, Node};

use super::{endpoints, known};
use crate::lint::{
    codes,
    report::Findings,
    resources::{DESTINATION_RULE, Resources},
    view::View as _,
};

/// istio OutlierDetection.max_ejection_percent: "Defaults to 10%"; 0 is not set (applyOutlierDetection).
const DEFAULT: i64 = 10;

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for (document, spec) in resources.specs(DESTINATION_RULE) {
        let policies = || {
            let own = [("trafficPolicy".to_owned(), spec.child("trafficPolicy"), None)];
            let subsets = spec.list("subsets").iter().enumerate();
            own.into_iter().chain(subsets.map(|(index, subset)| {
                (format!("subsets[{index}].trafficPolicy"), subset.child("trafficPolicy"), Some(subset))
            }))
        };
        if !policies().any(|(_, policy, _)| blocks(String::new(), policy).next().is_some()) {
            continue;
        }
        let known = known(resources, document, spec);
        for (path, policy, subset) in policies() {
            let labels = subset.map(|subset| subset.labels("labels")).unwrap_or_default();
            // No endpoints at all is another finding.
            let count = endpoints(resources, &known, &labels).filter(|count| !known.is_empty() && *count > 0);
            for (path, block) in blocks(path, policy) {
                tell(document, &path, block, count, findings);
            }
        }
    }
}

/// The blocks of a policy: its own, and its ports'.
fn blocks(path: String, policy: &Node) -> impl Iterator<Item = (String, &Node)> {
    let ports = policy.list("portLevelSettings").iter().enumerate();
    let ports = ports.map({
        let path = path.clone();
        move |(index, port)| (format!("{path}.portLevelSettings[{index}].outlierDetection"), port)
    });
    let own = (format!("{path}.outlierDetection"), policy);
    std::iter::once(own)
        .chain(ports)
        .filter(|(_, node)| node.has("outlierDetection"))
        .map(|(path, node)| (path, node.child("outlierDetection")))
}

fn tell(document: &Document, path: &str, block: &Node, endpoints: Option<u64>, findings: &mut Findings) {
    let counts = |field: &str| block.int(field).unwrap_or_default() > 0;
    let off = block.int("consecutive5xxErrors") == Some(0)
        && !counts("consecutiveGatewayErrors")
        && !block.is_true("splitExternalLocalOriginErrors");
    if off {
        let message = "can never eject: consecutive5xxErrors is 0, which is off, and consecutiveGatewayErrors is off \
                       unless it is set";
        findings.add(&codes::OUTLIER_DETECTION_NEVER_EJECTS, document, format!("{path}.consecutive5xxErrors"), message);
        return;
    }
    let given = block.int("maxEjectionPercent").filter(|percent| *percent > 0);
    let percent = given.unwrap_or(DEFAULT);
    let place = if given.is_some() { format!("{path}.maxEjectionPercent") } else { path.to_owned() };
    let said = if given.is_some() { "maxEjectionPercent" } else { "the default maxEjectionPercent" };
    match endpoints.and_then(|count| i64::try_from(count).ok()) {
        Some(count) if percent.saturating_mul(count) < 100 => {
            let enough = 100_u64.div_ceil(count.unsigned_abs());
            let message = format!(
                "can never eject: {said} of {percent} % of {count} endpoint{} is less than one; {enough} or more is needed",
                if count == 1 { "" } else { "s" },
            );
            findings.add(&codes::OUTLIER_DETECTION_NEVER_EJECTS, document, place, message);
        }
        None if given.is_none() => {
            let message = "ejects nothing from fewer than 10 endpoints: maxEjectionPercent is 10 % by default";
            findings.add(&codes::OUTLIER_DETECTION_MAY_NEVER_EJECT, document, place, message);
        }
        _ => {}
    }
}
