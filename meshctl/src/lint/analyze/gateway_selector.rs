//! Policies that select a Gateway API gateway's pods by label: Istio applies them by targetRefs only.

use std::collections::BTreeSet;

use crate::lint::{
    codes,
    report::Findings,
    resources::{AUTHORIZATION_POLICY, REQUEST_AUTHENTICATION, Resources, TELEMETRY, WASM_PLUGIN},
    view::View as _,
    workloads::policy_selector,
};

/// The label that Istio gives to a gateway's pods.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for kind in [AUTHORIZATION_POLICY, REQUEST_AUTHENTICATION, TELEMETRY, WASM_PLUGIN] {
        for (document, spec) in resources.specs(kind) {
            if spec.has("targetRef") || spec.has("targetRefs") {
                continue;
            }
            // Without labels it is for the namespace, and not for one gateway.
            let Some(labels) = policy_selector(document).filter(|labels| !labels.is_empty()) else { continue };
            let selected = resources.workloads.select(document.namespace(), &labels);
            let gateways: BTreeSet<&str> = selected.iter().filter_map(|running| running.label(GATEWAY_NAME)).collect();
            for gateway in gateways {
                let message =
                    format!("Ineffective selector on Kubernetes Gateway {gateway}. Use the TargetRef field instead.");
                findings.add(&codes::INEFFECTIVE_SELECTOR, document, "selector.matchLabels", message);
            }
        }
    }
}
