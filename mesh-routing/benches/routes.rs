//! What a route lookup costs: `cargo bench -p mesh-routing`.
//!
//! Per table and size: the first route, all routes in turn, the last one, and a request that none takes. Tables:
//!
//! - `mix`: 60 % exact paths, 30 % prefixes, 5 % regexes, 5 % a header or query parameter on a shared path.
//! - `headers`: routes of one path that differ by a header's value only.
//! - `regexes`: half of them begin with their own text, half only contain it.

use std::{cell::Cell, sync::Arc};

use divan::{Bencher, black_box};
use http::Request;
use mesh_core::{
    ClusterName, MeshConfig, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use mesh_routing::{CompileInput, RequestHead, RouteTable, VirtualService};

const MIX: [usize; 4] = [10, 100, 1_000, 10_000];
const HEADERS: [usize; 2] = [1_000, 10_000];
const REGEXES: [usize; 2] = [100, 1_000];

fn main() {
    divan::main();
}

/// A rule's condition and a request that it takes.
type Rule = (String, Request<()>);

fn get(path: &str, header: Option<(&str, &str)>) -> Request<()> {
    let mut request = Request::get(format!("http://a{path}")).header("host", "a").header("user-agent", "bench");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    request.body(()).expect("a request")
}

fn mixed(n: usize) -> Rule {
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

fn by_header(n: usize) -> Rule {
    (
        format!("{{uri: {{prefix: /}}, headers: {{x-tenant: {{exact: t{n}}}}}}}"),
        get("/items", Some(("x-tenant", &format!("t{n}")))),
    )
}

fn by_regex(n: usize) -> Rule {
    if n.is_multiple_of(2) {
        (format!("{{uri: {{regex: '/svc{n:05}/[a-z]+/.*'}}}}"), get(&format!("/svc{n:05}/items/42"), None))
    } else {
        (format!("{{uri: {{regex: '/[a-z]+/svc{n:05}/.*'}}}}"), get(&format!("/items/svc{n:05}/42"), None))
    }
}

struct Table {
    table: RouteTable<Arc<ClusterName>>,
    /// One for each rule.
    requests: Vec<Request<()>>,
}

fn table(rule: fn(usize) -> Rule, rules: usize) -> Table {
    let (conditions, requests): (Vec<_>, Vec<_>) = (0..rules).map(rule).unzip();
    let rules = conditions
        .iter()
        .map(|condition| format!("\n  - {{match: [{condition}], route: [{{destination: {{host: a}}}}]}}"));
    let yaml = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: 80, name: http}}]}}}}\n---\n\
         kind: VirtualService\nmetadata: {{name: a}}\nspec:\n  hosts: [a]\n  http:{}\n",
        rules.collect::<String>()
    );
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
    let mesh = MeshConfig::default();
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    let rules = VirtualService::from_document(&documents[1], &mut issues).expect("the rules are right");
    let input = CompileInput {
        workload: &Workload::new("default", "me"),
        mesh: &mesh,
        registry: &registry,
        virtual_services: &[Arc::new(rules)],
        default_retry: None,
    };
    let table = RouteTable::compile(&input, &mut |name| Some(Arc::new(name.clone())), &mut issues);
    Table { table, requests }
}

/// Look requests up in turn, in an order that is no order.
fn look_up<'a>(bencher: Bencher<'_, '_>, table: &Table, requests: impl Iterator<Item = &'a Request<()>>) {
    let head = |request| RequestHead::new(request, table.table.path_normalization()).expect("a path");
    let heads: Vec<_> = requests.map(head).collect();
    let stride = heads.len() * 5 / 8 + 1;
    let at = Cell::new(0);
    bencher.bench_local(|| {
        let mut next = at.get() + stride;
        while next >= heads.len() {
            next -= heads.len();
        }
        at.set(next);
        table.table.route(black_box(&heads[next]), || 0).is_ok()
    });
}

macro_rules! tables {
    ($($name:ident: $rule:path, $sizes:path;)*) => {$(
        mod $name {
            use super::*;

            #[divan::bench(args = $sizes)]
            fn first(bencher: Bencher<'_, '_>, rules: usize) {
                let table = table($rule, rules);
                look_up(bencher, &table, table.requests.iter().take(1));
            }

            #[divan::bench(args = $sizes)]
            fn average(bencher: Bencher<'_, '_>, rules: usize) {
                let table = table($rule, rules);
                look_up(bencher, &table, table.requests.iter());
            }

            #[divan::bench(args = $sizes)]
            fn last(bencher: Bencher<'_, '_>, rules: usize) {
                let table = table($rule, rules);
                look_up(bencher, &table, table.requests.last().into_iter());
            }

            #[divan::bench(args = $sizes)]
            fn miss(bencher: Bencher<'_, '_>, rules: usize) {
                let table = table($rule, rules);
                let miss = get("/api/v1/svc00000/other", None);
                look_up(bencher, &table, std::iter::once(&miss));
            }
        }
    )*};
}

tables! {
    mix: mixed, MIX;
    headers: by_header, HEADERS;
    regexes: by_regex, REGEXES;
}
