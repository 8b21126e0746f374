//! Tables to measure on, and requests for their routes.

use std::sync::Arc;

use http::Request;
use mesh_core::{
    ClusterName, MeshConfig, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use mesh_routing::{CompileInput, RetryPolicy, RouteTable, VirtualService};

/// A rule's condition, and a request that it takes.
pub(crate) type Rule = (String, Request<()>);

/// A request.
pub(crate) fn get(path: &str, header: Option<(&str, &str)>) -> Request<()> {
    let mut request = Request::get(format!("http://a{path}")).header("host", "a").header("user-agent", "bench");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    request.body(()).expect("a request")
}

/// 60 % exact paths, 30 % prefixes, 5 % regexes, 5 % a header or query parameter on a path that they share.
pub(crate) fn mixed(n: usize) -> Rule {
    let path = format!("/api/v1/svc{n:05}");
    match n % 20 {
        0..12 => (format!("{{uri: {{exact: {path}/items}}}}"), get(&format!("{path}/items"), None)),
        12..18 => (format!("{{uri: {{prefix: {path}/}}}}"), get(&format!("{path}/items/42"), None)),
        18 => (format!("{{uri: {{regex: '{path}/items/[0-9]+'}}}}"), get(&format!("{path}/items/42"), None)),
        _ if n % 40 == 19 => (
            format!("{{uri: {{prefix: /api/v2}}, headers: {{x-tenant: {{exact: t{n}}}}}}}"),
            get("/api/v2/items", Some(("x-tenant", &format!("t{n}")))),
        ),
        _ => (
            format!("{{uri: {{prefix: /api/v2}}, queryParams: {{tenant: {{exact: t{n}}}}}}}"),
            get(&format!("/api/v2/items?tenant=t{n}"), None),
        ),
    }
}

/// Routes of one path that differ by a header's value only.
pub(crate) fn by_header(n: usize) -> Rule {
    (
        format!("{{uri: {{prefix: /}}, headers: {{x-tenant: {{exact: t{n}}}}}}}"),
        get("/items", Some(("x-tenant", &format!("t{n}")))),
    )
}

/// Regexes: half of them begin with text of their own, half only contain it.
pub(crate) fn by_regex(n: usize) -> Rule {
    if n.is_multiple_of(2) {
        (format!("{{uri: {{regex: '/svc{n:05}/[a-z]+/.*'}}}}"), get(&format!("/svc{n:05}/items/42"), None))
    } else {
        (format!("{{uri: {{regex: '/[a-z]+/svc{n:05}/.*'}}}}"), get(&format!("/items/svc{n:05}/42"), None))
    }
}

/// Regexes without any text of their own: all that tells them apart is how much they repeat.
pub(crate) fn by_shape(n: usize) -> Rule {
    let (letters, digits) = (n / 32 + 1, n % 32 + 1);
    let path = format!("/{}/{}", "a".repeat(letters), "1".repeat(digits));
    (format!("{{uri: {{regex: '/[a-z]{{{letters}}}/[0-9]{{{digits}}}'}}}}"), get(&path, None))
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    /// What the table is compiled from: a mesh keeps it for the next change.
    pub(crate) _rules: Arc<VirtualService>,
    /// The table.
    pub(crate) table: RouteTable<Arc<ClusterName>>,
}

impl Table {
    /// Of as many rules.
    pub(crate) fn new(rule: fn(usize) -> Rule, rules: usize) -> Self {
        let rules =
            (0..rules).map(|n| format!("\n  - {{match: [{}], route: [{{destination: {{host: a}}}}]}}", rule(n).0));
        let yaml = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: 80, name: http}}]}}}}\n---\n\
         kind: VirtualService\nmetadata: {{name: a}}\nspec:\n  hosts: [a]\n  http:{}\n",
            rules.collect::<String>()
        );
        let mut issues = Issues::default();
        let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
        let mesh = MeshConfig::default();
        let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
        let virtual_service = VirtualService::from_document(&documents[1], &mut issues).expect("the rules are right");
        let virtual_service = Arc::new(virtual_service);
        let input = CompileInput {
            workload: &Workload::new("default", "me"),
            mesh: &mesh,
            registry: &registry,
            virtual_services: &[Arc::clone(&virtual_service)],
            default_retry: Some(RetryPolicy::istio_default()),
        };
        let table = RouteTable::compile(&input, &mut |name| Some(Arc::new(name.clone())), &mut issues);
        Table { _rules: virtual_service, table }
    }
}
