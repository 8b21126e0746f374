//! One host and port, two protocols.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mesh_core::config::Document;

use crate::lint::{
    codes,
    names::{few, resolve},
    report::Findings,
    resources::{Resources, SERVICE_ENTRY},
    view::View as _,
};

/// A port of an entry.
#[derive(Clone)]
struct Use<'a> {
    document: &'a Document,
    path: String,
    protocol: String,
}

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    // By host, port and who sees it.
    let mut uses: BTreeMap<(String, i64), BTreeMap<&str, Vec<Use<'_>>>> = BTreeMap::new();
    for (document, spec) in resources.specs(SERVICE_ENTRY) {
        let own: &str = document.namespace();
        let export = spec.texts("exportTo");
        let scopes: BTreeSet<&str> = if export.is_empty() || export.contains(&"*") {
            ["*"].into()
        } else {
            export.into_iter().map(|namespace| if namespace == "." { own } else { namespace }).collect()
        };
        for (index, port) in spec.list("ports").iter().enumerate() {
            let protocol = port.text("protocol").to_ascii_uppercase();
            let (number, path) = (port.int("number").unwrap_or_default(), format!("ports[{index}].protocol"));
            for host in spec.texts("hosts") {
                let by_scope = uses.entry((resolve(host, own), number)).or_default();
                for scope in &scopes {
                    let one = Use { document, path: path.clone(), protocol: protocol.clone() };
                    by_scope.entry(scope).or_default().push(one);
                }
            }
        }
    }
    let mut told = HashSet::new();
    for ((host, port), by_scope) in &uses {
        let public = by_scope.get("*").map_or(&[][..], Vec::as_slice);
        for (scope, uses) in by_scope {
            let beside = if *scope == "*" { &[][..] } else { public };
            let all: Vec<&Use<'_>> = uses.iter().chain(beside).collect();
            let protocols: BTreeSet<&str> = all.iter().map(|one| one.protocol.as_str()).collect();
            if protocols.len() < 2 {
                continue;
            }
            let names: BTreeSet<String> =
                all.iter().map(|one| format!("{}/{}", one.document.namespace(), one.document.name())).collect();
            let names = few(names.into_iter().collect());
            let protocols: Vec<&str> = protocols.into_iter().collect();
            let message = format!(
                "Multiple ServiceEntries ({}) define the same host {host:?} and port {port} with conflicting protocols ({}).",
                names.join(", "),
                protocols.join(", "),
            );
            for one in all {
                if told.insert(std::ptr::from_ref(one.document)) {
                    let code = &codes::CONFLICTING_SERVICE_ENTRY_PROTOCOL;
                    findings.add(code, one.document, one.path.clone(), message.clone());
                }
            }
        }
    }
}
