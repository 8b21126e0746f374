//! Fields that are on their way out.

use crate::lint::{
    codes,
    report::Findings,
    resources::{Resources, SIDECAR, VIRTUAL_SERVICE},
    view::View as _,
};

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for (document, spec) in resources.specs(VIRTUAL_SERVICE) {
        for (rule, http) in spec.list("http").iter().enumerate() {
            let delay = http.child("fault").child("delay");
            if delay.int("percent").is_some_and(|percent| percent > 0) {
                let message =
                    "Deprecated: HTTPRoute.fault.delay.percent is deprecated; use HTTPRoute.fault.delay.percentage";
                findings.add(&codes::DEPRECATED, document, format!("http[{rule}].fault.delay.percent"), message);
            }
            if http.has("mirrorPercent") {
                let message = "Deprecated: HTTPRoute.mirrorPercent is deprecated; use HTTPRoute.mirrorPercentage";
                findings.add(&codes::DEPRECATED, document, format!("http[{rule}].mirrorPercent"), message);
            }
        }
    }
    for (document, spec) in resources.specs(SIDECAR) {
        if spec.child("outboundTrafficPolicy").has("egressProxy") {
            let message = "Deprecated: OutboundTrafficPolicy.EgressProxy ignored";
            findings.add(&codes::DEPRECATED, document, "outboundTrafficPolicy.egressProxy", message);
        }
    }
}
