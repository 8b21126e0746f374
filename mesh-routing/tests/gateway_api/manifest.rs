//! Manifests as they stand, with Gateways for parents made services.

use std::{collections::BTreeSet, fmt::Write as _};

use mesh_core::config::{Document, Issues, Node, Value};
use serde_json::{Map, json};

/// The objects of a test.
pub struct Manifest {
    pub documents: Vec<Document>,
}

/// Read the base manifest and a test's own. `grants` says whether ReferenceGrants are there.
pub fn read(name: &str, grants: bool) -> Manifest {
    let mut documents = Vec::new();
    for file in ["base-manifests.yaml", name] {
        let path = mesh_test::shared("gateway-api/manifests").unwrap().join(file);
        let mut issues = Issues::default();
        let text = std::fs::read_to_string(path).unwrap();
        documents.extend(Document::parse_all(file, &text, &mut issues));
        assert!(issues.is_empty(), "{issues}");
    }
    documents.retain(|document| grants || document.kind() != "ReferenceGrant");
    let (mut gateways, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for document in &mut documents {
        if matches!(document.kind(), "HTTPRoute" | "GRPCRoute") {
            *document = rewritten(document, &mut gateways, &mut hosts);
        }
    }
    let mut more = String::new();
    for (namespace, name) in gateways {
        // The ports of the suite's listeners.
        let _ = writeln!(
            more,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{ports: \
             [{{port: 80, name: http}}, {{port: 443, name: http-443}}, {{port: 8080, name: http-8080}}]}}}}"
        );
    }
    for (namespace, host) in hosts {
        let _ = writeln!(
            more,
            "---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {host}, namespace: {namespace}}}, \
             spec: {{hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}}}"
        );
    }
    documents.extend(Document::parse_all("gateways", &more, &mut Issues::default()));
    Manifest { documents }
}

/// A route of services instead of Gateways: of one for each hostname, where it has hostnames.
fn rewritten(
    document: &Document,
    gateways: &mut BTreeSet<(String, String)>,
    hosts: &mut BTreeSet<(String, String)>,
) -> Document {
    let own = document.namespace().to_string();
    let mut spec = json(document.spec().unwrap());
    let names = spec["hostnames"].as_array().cloned().unwrap_or_default();
    let mut parents = Vec::new();
    for parent in spec["parentRefs"].as_array().unwrap() {
        let namespace = parent["namespace"].as_str().unwrap_or(&own).to_owned();
        let name = parent["name"].as_str().unwrap().to_owned();
        assert!(parent.get("kind").is_none_or(|kind| kind == "Gateway"));
        if names.is_empty() {
            parents.push(json!({"group": "", "kind": "Service", "namespace": namespace, "name": name}));
            gateways.insert((namespace, name));
        }
    }
    for name in names {
        let name = name.as_str().unwrap().to_owned();
        parents.push(json!({"group": "networking.istio.io", "kind": "ServiceEntry", "namespace": own, "name": name}));
        hosts.insert((own.clone(), name));
    }
    spec["parentRefs"] = parents.into();
    spec.as_object_mut().unwrap().remove("hostnames");
    let whole = json!({
        "apiVersion": document.api_version(),
        "kind": document.kind(),
        "metadata": {"name": &**document.name(), "namespace": own},
        "spec": spec,
    });
    Document::from_value(document.source(), &whole).unwrap()
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Float(value) => json!(value),
        Value::String(value) => json!(value),
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.name.clone(), json(value)));
            serde_json::Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}
