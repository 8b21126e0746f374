//! Annotations in Istio's domain that Istio does not know: a slip of the pen changes nothing, in silence.

use crate::lint::{check::is_ours, codes, report::Findings, resources::Resources};

/// Istio's annotations of services and of its own kinds.
const KNOWN: [&str; 16] = [
    "alpha.istio.io/canonical-serviceaccounts",
    "alpha.istio.io/kubernetes-serviceaccounts",
    "galley.istio.io/analyze-suppress",
    "gateway.istio.io/controller-version",
    "gateway.istio.io/defaults-for-class",
    "gateway.istio.io/managed",
    "gateway.istio.io/name-override",
    "gateway.istio.io/service-account",
    "gateway.istio.io/tls-terminate-mode",
    "istio.io/dry-run",
    "networking.istio.io/address-type",
    "networking.istio.io/exportTo",
    "networking.istio.io/service-type",
    "networking.istio.io/traffic-distribution",
    "networking.istio.io/tunnel",
    "traffic.istio.io/nodeSelector",
];

/// Domains that Istio's own controllers write to, and that change from release to release.
const WRITTEN: [&str; 6] = [
    "ambient.istio.io/",
    "internal.istio.io/",
    "install.operator.istio.io/",
    "istio.io/",
    "operator.istio.io/",
    "topology.istio.io/",
];

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for document in resources.all().iter().filter(|document| is_ours(document)) {
        for (name, _) in document.annotations().iter() {
            let domain = name.split_once('/').map_or("", |(domain, _)| domain);
            let istios = domain == "istio.io" || domain.ends_with(".istio.io");
            if istios && !KNOWN.contains(&name) && !WRITTEN.iter().any(|written| name.starts_with(written)) {
                let path = format!("metadata.annotations[\"{name}\"]");
                findings.add(&codes::UNKNOWN_ANNOTATION, document, path, format!("Unknown annotation: {name}"));
            }
        }
    }
}
