//! TLS without anybody's certificates to check the server's with.

use mesh_core::config::{Document, Node};

use crate::lint::{
    codes,
    report::Findings,
    resources::{DESTINATION_RULE, Resources},
    view::View as _,
};

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for (document, spec) in resources.specs(DESTINATION_RULE) {
        let policy = spec.child("trafficPolicy");
        if let Some(mode) = unverified(spec, policy.child("tls")) {
            let message = format!(
                "{} but no caCertificates are set to validate server identity for host: {}",
                says(document, mode),
                spec.text("host")
            );
            let code = &codes::NO_SERVER_CERTIFICATE_VERIFICATION_DESTINATION_LEVEL;
            findings.add(code, document, "trafficPolicy.tls.mode", message);
        }
        for (index, port) in policy.list("portLevelSettings").iter().enumerate() {
            let Some(mode) = unverified(spec, port.child("tls")) else { continue };
            let number = port.child("port").int("number").unwrap_or_default();
            let message = format!(
                "{} but no caCertificates are set to validate server identity for host: {} at port {number}",
                says(document, mode),
                spec.text("host"),
            );
            let code = &codes::NO_SERVER_CERTIFICATE_VERIFICATION_PORT_LEVEL;
            findings.add(code, document, format!("trafficPolicy.portLevelSettings[{index}].tls.mode"), message);
        }
    }
}

fn says(document: &Document, mode: &str) -> String {
    let (namespace, name) = (document.namespace(), document.name());
    format!("DestinationRule {namespace}/{name} in namespace {namespace} has TLS mode set to {mode}")
}

/// The mode, where it is one that verifies and has nothing to verify with. A credential brings its own, and counts only
/// beside a workload selector (istio ClientTLSSettings.credentialName).
fn unverified<'a>(spec: &Node, tls: &'a Node) -> Option<&'a str> {
    let mode = tls.text("mode");
    let credential = !tls.text("credentialName").is_empty() && spec.has("workloadSelector");
    (matches!(mode, "SIMPLE" | "MUTUAL") && tls.text("caCertificates").is_empty() && !credential).then_some(mode)
}
