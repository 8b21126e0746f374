//! Routes by a JWT's claims, where nobody looks at JWTs.

use mesh_core::config::{Document, Node};

use super::{MESH, gateways};
use crate::lint::{
    codes,
    names::selector,
    report::Findings,
    resources::{GATEWAY, REQUEST_AUTHENTICATION, Resources, VIRTUAL_SERVICE},
    view::{View as _, spec},
    workloads::policy_selector,
};

/// istio constant.HeaderJWTClaim.
const CLAIM: &str = "@request.auth.claims";

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let mut routes =
        resources.specs(VIRTUAL_SERVICE).filter_map(|(document, spec)| Some((document, spec, claim(spec)?)));
    let Some(first) = routes.next() else { return };
    let gateways = gateways::index(resources);
    for (document, spec, (path, key)) in std::iter::once(first).chain(routes) {
        let own: &str = document.namespace();
        for name in spec.texts("gateways").into_iter().filter(|name| *name != MESH) {
            let resolved = gateways::resolve(name, own);
            let Some(gateway) = gateways.get(&resolved).filter(|gateway| gateway.group() == GATEWAY.0) else {
                continue;
            };
            if let Some(pod) = unauthenticated(resources, gateway) {
                let message = format!(
                    "The virtual service uses the JWT claim based routing (key: {key}) but found no request authentication \
                     for the gateway ({}/{}) pod ({pod}). The request authentication must first be applied for the gateway \
                     pods to validate the JWT token and make the claims available for routing.",
                    resolved.0, resolved.1,
                );
                findings.add(&codes::JWT_CLAIM_BASED_ROUTING_WITHOUT_REQUEST_AUTH_N, document, path.clone(), message);
            }
        }
    }
}

/// The first header match that asks for a claim.
fn claim(spec: &Node) -> Option<(String, &str)> {
    for (rule, http) in spec.list("http").iter().enumerate() {
        for (index, entry) in http.list("match").iter().enumerate() {
            for field in ["headers", "withoutHeaders"] {
                let mut keys = entry.entries(field).iter().map(|(key, _)| key.name.as_str());
                if let Some(key) = keys.find(|key| key.starts_with(CLAIM)) {
                    return Some((format!("http[{rule}].match[{index}].{field}[\"{key}\"]"), key));
                }
            }
        }
    }
    None
}

/// A pod of the gateway that no RequestAuthentication selects; the gateway's selector, where its pods are not known.
fn unauthenticated(resources: &Resources<'_>, gateway: &Document) -> Option<String> {
    let labels = spec(gateway).labels("selector");
    let namespace: &str = gateway.namespace();
    let authenticated = |labels: &dyn Fn(&str) -> Option<String>| {
        resources.of(REQUEST_AUTHENTICATION).iter().any(|policy| {
            let near = **policy.namespace() == *namespace || **policy.namespace() == *resources.root_namespace();
            let selector = policy_selector(policy).unwrap_or_default();
            near && selector.iter().all(|(key, value)| labels(key).as_deref() == Some(value))
        })
    };
    let pods = resources.workloads.select(namespace, &labels);
    if pods.is_empty() {
        let of_gateway = |key: &str| labels.iter().find(|(own, _)| *own == key).map(|(_, value)| (*value).to_owned());
        return (!authenticated(&of_gateway)).then(|| selector(&labels));
    }
    let open = pods.iter().find(|pod| !authenticated(&|key: &str| pod.label(key).map(str::to_owned)));
    open.map(|pod| pod.document.name().to_string())
}
