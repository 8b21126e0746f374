//! The hosts that routes can lead to: Kubernetes services and ServiceEntries, as clients of a namespace see them.

use std::collections::{HashMap, HashSet};

use mesh_core::config::Document;

use super::{
    names::{resolve, wildcards},
    resources::{Resources, SERVICE, SERVICE_ENTRY},
    view::View as _,
};

/// One object that has a host.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) document: &'a Document,
    /// The numbers of its ports.
    pub(super) ports: Vec<i64>,
    /// The namespaces that see it.
    scopes: Vec<&'a str>,
}

#[derive(Debug, Default)]
pub(super) struct Hosts<'a> {
    known: Vec<Known<'a>>,
    exact: HashMap<String, Vec<usize>>,
    /// `*.foo.com` under `.foo.com`.
    wildcard: HashMap<String, Vec<usize>>,
    /// What is covered by a wildcard: every `.suffix` of every host.
    suffixes: HashSet<String>,
}

impl<'a> Hosts<'a> {
    pub(super) fn new(resources: &Resources<'a>) -> Self {
        let mut hosts = Self::default();
        for (document, spec) in resources.specs(SERVICE_ENTRY) {
            let own = document.namespace();
            let ports: Vec<i64> = spec.list("ports").iter().filter_map(|port| port.int("number")).collect();
            let scopes = scopes(spec.texts("exportTo"), own);
            for host in spec.texts("hosts").into_iter().filter(|host| *host != "*") {
                let known = Known { document, ports: ports.clone(), scopes: scopes.clone() };
                hosts.add(&resolve(host, own), known);
            }
        }
        for (document, spec) in resources.specs(SERVICE) {
            let own = document.namespace();
            let ports = spec.list("ports").iter().filter_map(|port| port.int("port")).collect();
            // istio annotation networking.istio.io/exportTo: a list with commas.
            let export = document.annotations().get("networking.istio.io/exportTo").unwrap_or_default();
            let export = export.split(',').map(str::trim).filter(|namespace| !namespace.is_empty()).collect();
            hosts.add(&resolve(document.name(), own), Known { document, ports, scopes: scopes(export, own) });
        }
        hosts
    }

    fn add(&mut self, host: &str, known: Known<'a>) {
        let index = self.known.len();
        self.known.push(known);
        match host.strip_prefix('*') {
            Some(suffix) => self.wildcard.entry(suffix.to_owned()).or_default().push(index),
            None => self.exact.entry(host.to_owned()).or_default().push(index),
        }
        self.suffixes.extend(wildcards(host).map(str::to_owned));
        self.suffixes.extend(host.strip_prefix('*').map(str::to_owned));
    }

    /// Who has a host, as an object of `own` sees it that is exported to `export_to`; empty when nobody has.
    ///
    /// istio analyzers/util GetDestinationHost: what everybody sees, then what one of the object's clients sees, then
    /// wildcards.
    pub(super) fn find(&self, host: &str, own: &str, export_to: &[&str]) -> Vec<&Known<'a>> {
        let clients: Vec<&str> = if export_to.is_empty() { vec![own] } else { export_to.to_vec() };
        let sees = |known: &&Known<'_>| {
            known
                .scopes
                .iter()
                .any(|scope| *scope == "*" || clients.iter().any(|ns| scope == if *ns == "." { &own } else { ns }))
        };
        let all = |indices: &Vec<usize>| -> Vec<&Known<'a>> {
            indices.iter().map(|index| &self.known[*index]).filter(sees).collect()
        };
        let exact = match host.strip_prefix('*') {
            Some(suffix) => self.wildcard.get(suffix),
            None => self.exact.get(host),
        };
        let found = exact.map(all).unwrap_or_default();
        if !found.is_empty() {
            return found;
        }
        let mut covering = wildcards(host).filter_map(|suffix| self.wildcard.get(suffix)).map(all);
        covering.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Is any host below a wildcard?
    pub(super) fn any_below(&self, host: &str) -> bool {
        host.strip_prefix('*').is_some_and(|suffix| self.suffixes.contains(suffix))
    }
}

fn scopes<'a>(export_to: Vec<&'a str>, own: &'a str) -> Vec<&'a str> {
    if export_to.is_empty() {
        return vec!["*"];
    }
    export_to.into_iter().map(|namespace| if namespace == "." { own } else { namespace }).collect()
}
