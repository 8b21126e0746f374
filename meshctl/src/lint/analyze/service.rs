//! Ports of Kubernetes services whose protocol has to be guessed.

use mesh_core::config::{Document, Node, Value};

use crate::lint::{
    codes,
    report::Findings,
    resources::{Resources, SERVICE},
    view::View as _,
};

/// Kubernetes' own, and Istio's.
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// istio "Protocol selection": what stands before the first dash of a port's name, or in its appProtocol.
const PROTOCOLS: [&str; 12] =
    ["tcp", "udp", "http", "http2", "https", "grpc", "tls", "mongo", "mysql", "redis", "hbone", "double-hbone"];

/// istio ConvertProtocol: ports whose protocol does not need a name (SMTP, DNS, MySQL, MongoDB).
const WELL_KNOWN: [i64; 4] = [25, 53, 3306, 27017];

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for (document, spec) in resources.specs(SERVICE) {
        if is_system(document) {
            continue;
        }
        let external = spec.text("type") == "ExternalName";
        for (index, port) in spec.list("ports").iter().enumerate() {
            let name = port.text("name");
            if is_declared(port) && !(external && name == "tcp") {
                continue;
            }
            let path = format!("ports[{index}]");
            if external {
                let message = "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and \
                               unmatched traffic for ports serving TCP protocol from being forwarded correctly";
                findings.add(&codes::EXTERNAL_NAME_SERVICE_TYPE_INVALID_PORT_NAME, document, path, message);
                continue;
            }
            let number = port.int("port").unwrap_or_default();
            let target = match &port.child("targetPort").value {
                Value::Int(target) => target.to_string(),
                Value::String(target) => target.clone(),
                _ => number.to_string(),
            };
            let message = format!(
                "Port name {name} (port: {number}, targetPort: {target}) doesn't follow the naming convention of Istio port."
            );
            findings.add(&codes::PORT_NAME_IS_NOT_UNDER_NAMING_CONVENTION, document, path, message);
        }
    }
}

/// Cluster components, and Istio's own (istio util.IsSystemNamespace, IsIstioControlPlane).
fn is_system(document: &Document) -> bool {
    let labels = document.labels();
    SYSTEM.contains(&&**document.namespace()) || labels.get("istio").is_some() || labels.get("release") == Some("istio")
}

fn is_declared(port: &Node) -> bool {
    let known = |text: &str| {
        let text = text.to_ascii_lowercase();
        let first = text.split('-').next().unwrap_or_default();
        PROTOCOLS.contains(&first) || PROTOCOLS.contains(&&*text)
    };
    let application = port.text("appProtocol");
    let declared = if application.is_empty() { port.text("name") } else { application };
    let number = port.int("port").unwrap_or_default();
    matches!(port.text("protocol"), "UDP" | "SCTP")
        || known(declared.strip_prefix("kubernetes.io/").unwrap_or(declared))
        || WELL_KNOWN.contains(&number)
}
