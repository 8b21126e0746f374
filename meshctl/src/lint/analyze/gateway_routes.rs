//! Gateway API's routes for services, and to services, that are not there.

use mesh_core::{
    config::{Document, Node},
    service_host,
};

use crate::lint::{
    codes,
    report::Findings,
    resources::{GRPC_ROUTE, HTTP_ROUTE, REFERENCE_GRANT, Resources},
    view::{View as _, spec},
};

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for kind in [HTTP_ROUTE, GRPC_ROUTE] {
        for (document, spec) in resources.specs(kind) {
            let mut check =
                |what, path: String, node: &Node| reference(resources, document, what, &path, node, findings);
            for (index, parent) in spec.list("parentRefs").iter().enumerate() {
                // A parent without a kind is a Gateway.
                if parent.text("kind") == "Service" {
                    check("parentRef", format!("parentRefs[{index}]"), parent);
                }
            }
            for (rule, node) in spec.list("rules").iter().enumerate() {
                for (index, backend) in node.list("backendRefs").iter().enumerate() {
                    check("backendRef", format!("rules[{rule}].backendRefs[{index}]"), backend);
                }
                for (index, filter) in node.list("filters").iter().enumerate() {
                    let mirror = filter.child("requestMirror");
                    if mirror.has("backendRef") {
                        let path = format!("rules[{rule}].filters[{index}].requestMirror.backendRef");
                        check("backendRef", path, mirror.child("backendRef"));
                    }
                }
            }
        }
    }
}

fn reference(
    resources: &Resources<'_>,
    document: &Document,
    what: &str,
    path: &str,
    node: &Node,
    findings: &mut Findings,
) {
    // gateway API BackendObjectReference: group defaults to core, kind to Service. Hostname is Istio's, for any host.
    let (group, kind, namespace) = (node.text("group"), node.text("kind"), node.text("namespace"));
    let own: &str = document.namespace();
    let namespace = if namespace.is_empty() { own } else { namespace };
    let host = match (group, kind) {
        ("", "" | "Service") => service_host(node.text("name"), namespace).to_string(),
        ("networking.istio.io", "Hostname") => node.text("name").to_ascii_lowercase(),
        _ => return,
    };
    let known = resources.hosts.find(&host, own, &[]);
    if known.is_empty() {
        let message = format!("Referenced {what} not found: {host:?}");
        findings.add(&codes::REFERENCED_RESOURCE_NOT_FOUND, document, format!("{path}.name"), message);
        return;
    }
    let has = |port: &i64| known.iter().any(|known| known.ports.contains(port));
    if let Some(port) = node.int("port").filter(|port| !has(port)) {
        let message = format!("Referenced host:port not found: {:?}", format!("{host}:{port}"));
        findings.add(&codes::REFERENCED_RESOURCE_NOT_FOUND, document, format!("{path}.port"), message);
    }
    if what == "backendRef" && group.is_empty() && namespace != own {
        granted(resources, document, (namespace, node.text("name")), format!("{path}.namespace"), findings);
    }
}

/// gateway API BackendObjectReference.namespace: "when a namespace different than the local namespace is specified, a
/// ReferenceGrant object is required in the referent namespace". Not for the namespace of the service that the route is
/// for (GEP-1426, consumer routes). The words are those of `meshctl explain`.
fn granted(
    resources: &Resources<'_>,
    document: &Document,
    (namespace, name): (&str, &str),
    path: String,
    findings: &mut Findings,
) {
    let (kind, own): (&str, &str) = (document.kind(), document.namespace());
    let is_target = |parent: &Node| {
        let parents = parent.text("namespace");
        parent.text("kind") == "Service" && (if parents.is_empty() { own } else { parents }) == namespace
    };
    if spec(document).list("parentRefs").iter().all(is_target) {
        return;
    }
    let from =
        |from: &Node| (from.text("group"), from.text("kind"), from.text("namespace")) == (document.group(), kind, own);
    let to = |to: &Node| {
        to.text("group").is_empty() && to.text("kind") == "Service" && ["", name].contains(&to.text("name"))
    };
    let lets = |(grant, spec): (&Document, &Node)| {
        let namespaces: &str = grant.namespace();
        namespaces == namespace && spec.list("from").iter().any(from) && spec.list("to").iter().any(to)
    };
    if !resources.specs(REFERENCE_GRANT).any(lets) {
        let message = format!(
            "no ReferenceGrant in {namespace} lets {kind} {own}/{} refer to Service {name}: its requests are answered with \
             500, and nothing is mirrored there",
            document.name(),
        );
        findings.add(&codes::REFERENCE_NOT_GRANTED, document, path, message);
    }
}
