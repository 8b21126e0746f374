//! What is wrong with a Sidecar alone. istio validation ValidateSidecar.

use mesh_core::{
    HostPattern,
    config::{Document, Issues, Node},
};

use crate::lint::{
    check::refuse,
    resources::SIDECAR,
    view::{View as _, spec},
};

pub(in crate::lint) fn check(document: &Document, issues: &mut Issues) {
    if (document.group(), document.kind()) != SIDECAR {
        return;
    }
    let spec = spec(document);
    let fields = ["egress", "ingress", "outboundTrafficPolicy", "inboundConnectionPool"];
    if !fields.iter().any(|field| spec.has(field)) {
        refuse(document, issues, "", "sidecar: empty configuration provided");
    }
    let mut without_port = 0;
    for (index, listener) in spec.list("egress").iter().enumerate() {
        let path = format!("egress[{index}]");
        if !listener.has("port") {
            without_port += 1;
            if without_port > 1 {
                refuse(document, issues, &path, "sidecar: egress can have only one listener with empty port");
            }
        }
        if listener.list("hosts").is_empty() {
            refuse(document, issues, &path, "sidecar: egress listener must contain at least one host");
        }
        hosts(document, &path, listener, issues);
    }
}

fn hosts(document: &Document, path: &str, listener: &Node, issues: &mut Issues) {
    let mut seen = std::collections::HashSet::new();
    for (index, host) in listener.texts("hosts").into_iter().enumerate() {
        let path = format!("{path}.hosts[{index}]");
        if !seen.insert(host) {
            issues.push(document.warning(&path, format!("duplicated egress host: {host}")));
        }
        let Some((namespace, name)) = host.split_once('/') else {
            refuse(document, issues, path, "host must be of form namespace/dnsName");
            continue;
        };
        // Exclusions are written `~ns/host`.
        let namespace = namespace.strip_prefix('~').filter(|rest| !rest.is_empty()).unwrap_or(namespace);
        let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !matches!(namespace, "*" | "." | "~") && (namespace.is_empty() || !namespace.bytes().all(label)) {
            refuse(document, issues, &path, format!("invalid namespace value {namespace:?} in sidecar"));
        }
        match name.parse::<HostPattern>() {
            Ok(HostPattern::Exact(name)) if !name.contains('.') => {
                refuse(document, issues, path, "short names (non FQDN) are not allowed");
            }
            Ok(_) => {}
            Err(error) => refuse(document, issues, path, error.to_string()),
        }
    }
}
