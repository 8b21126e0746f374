//! What routes come to in a table, clause by clause; `checks.rs` is what is refused, `stack.rs` what callers see.

mod checks;
mod parents;
mod semantics;
mod stack;

use std::sync::Arc;

use http::Request;
use mesh_core::{
    ClusterName, MeshConfig, Reason, Workload,
    config::{Document, Issues},
    registry::{Registry, Sources},
};

use super::{GatewayRoutes, GrpcRoute, HttpRoute, ReferenceGrant};
use crate::{CompileInput, Decision, RequestHead, RetryPolicy, RoutePolicy, RouteTable, VirtualService};

type Table = RouteTable<Arc<ClusterName>>;

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, name: http}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {ports: [{port: 9080, name: http}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: two}, spec: {ports: [{port: 80, name: http}, {port: 81, name: http-x}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: far, namespace: other}, spec: {ports: [{port: 80, name: http}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: third, namespace: third}, spec: {ports: [{port: 80, name: http}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [one.example.com, two.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
";

/// Read what there is: routes, grants and VirtualServices; for a client of a namespace.
fn compile_in(namespace: &str, yaml: &str) -> (Table, Issues) {
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &format!("{SERVICES}{yaml}"), &mut issues);
    let (mut routes, mut sources, mut virtual_services) = (GatewayRoutes::default(), Sources::default(), Vec::new());
    for document in &documents {
        let issues = &mut issues;
        match document.kind() {
            "HTTPRoute" => routes.http.extend(HttpRoute::from_document(document, issues).map(Arc::new)),
            "GRPCRoute" => routes.grpc.extend(GrpcRoute::from_document(document, issues).map(Arc::new)),
            "ReferenceGrant" => routes.grants.extend(ReferenceGrant::from_document(document, issues).map(Arc::new)),
            "VirtualService" => {
                virtual_services.extend(VirtualService::from_document(document, issues).map(Arc::new));
            }
            "Service" => sources.services.push(Arc::new(read(document))),
            "ServiceEntry" => sources
                .service_entries
                .push(Arc::new(mesh_core::registry::ServiceEntry::from_document(document, issues).unwrap())),
            _ => {}
        }
    }
    assert!(!issues.has_errors(), "{issues}");
    let mesh = MeshConfig::default();
    let registry = Registry::build(&sources, &mesh.trust_domain, namespace);
    let workload = Workload::new(namespace, "me");
    let virtual_services = routes.join(&virtual_services, &registry, &workload, &mut issues);
    let input = CompileInput {
        workload: &workload,
        mesh: &mesh,
        registry: &registry,
        virtual_services: &virtual_services,
        default_retry: Some(RetryPolicy::istio_default()),
    };
    let mut clusters = |name: &ClusterName| {
        let known = registry.service_for(&name.service.host).is_some_and(|service| service.port(name.port).is_some());
        (name.is_passthrough() || known).then(|| Arc::new(name.clone()))
    };
    let table = RouteTable::compile(&input, &mut clusters, &mut issues);
    (table, issues)
}

fn read(document: &Document) -> mesh_core::registry::KubernetesService {
    mesh_core::registry::KubernetesService::from_document(document, &mut Issues::default()).unwrap()
}

fn compile(yaml: &str) -> Table {
    let (table, issues) = compile_in("default", yaml);
    assert!(issues.is_empty(), "{issues}");
    table
}

/// A route of the namespace `default` whose parent is the service `a`; `rules` are the entries of its list.
fn http(name: &str, rules: &str) -> String {
    route("HTTPRoute", name, "default", "{group: '', kind: Service, name: a}", rules)
}

fn route(kind: &str, name: &str, namespace: &str, parent: &str, rules: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{parentRefs: [{parent}], rules: [{rules}]}}}}\n---\n"
    )
}

/// A rule to the service `b`, named so that a test sees which one it was.
fn rule(name: &str, matches: &str) -> String {
    format!("{{name: {name}, matches: [{matches}], backendRefs: [{{name: b, port: 9080}}]}}")
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let (method, uri) = uri.split_once(' ').unwrap_or(("GET", uri));
    let builder = Request::builder().method(method).uri(uri);
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
}

/// The name of the rule that takes a request.
fn taken(table: &Table, uri: &str, headers: &[(&str, &str)]) -> Result<String, Reason> {
    let request = request(uri, headers);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    let policy = match table.route(&head, || 0).map_err(|error| error.reason())? {
        Decision::Forward(destination) => destination.policy(),
        Decision::Redirect(_, policy) | Decision::DirectResponse(_, policy) => policy,
    };
    Ok(policy.name().unwrap().to_string())
}

/// Where a draw sends a request; `500` where it goes nowhere.
fn sent(table: &Table, uri: &str, roll: u64) -> String {
    let request = request(uri, &[]);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    match table.route(&head, || roll).unwrap() {
        Decision::Forward(destination) if destination.cluster().is_some() => {
            let name = destination.name();
            format!("{}:{}", name.service.name, name.port)
        }
        Decision::Forward(destination) => destination.policy().missing.status().as_u16().to_string(),
        Decision::Redirect(redirect, _) => String::from_utf8(redirect.location(&head)).unwrap(),
        Decision::DirectResponse(response, _) => response.status.as_u16().to_string(),
    }
}

/// What the rule that forwards a request says.
fn policy(table: &Table, uri: &str) -> RoutePolicy<Arc<ClusterName>> {
    let request = request(uri, &[]);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    let Decision::Forward(destination) = table.route(&head, || 0).unwrap() else { panic!("it does not forward {uri}") };
    (**destination.policy()).clone()
}
