//! Two VirtualServices for one host: only one is in force.
//!
//! istio ConflictingMeshGatewayHostsAnalyzer: those that the same namespaces see, for the same host; and one that some
//! see beside one that everybody sees, where their hosts overlap.

use std::collections::{BTreeMap, HashMap, HashSet};

use mesh_core::config::Document;

use super::is_for_mesh;
use crate::lint::{
    codes,
    names::{NAMED, few, resolve, wildcards},
    report::Findings,
    resources::{Resources, VIRTUAL_SERVICE},
    view::View as _,
};

/// A host of a VirtualService.
#[derive(Clone, Copy, Debug)]
struct Claim<'a> {
    document: &'a Document,
    index: usize,
}

/// By host, then by the place of the object among the others.
type Claims<'a> = BTreeMap<String, Vec<Claim<'a>>>;

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let mut scopes: BTreeMap<&str, Claims<'_>> = BTreeMap::new();
    for (document, spec) in resources.specs(VIRTUAL_SERVICE).filter(|(_, spec)| is_for_mesh(spec)) {
        let own: &str = document.namespace();
        let export = spec.texts("exportTo");
        let mut seen_by: Vec<&str> = export.iter().map(|ns| if *ns == "." { own } else { ns }).collect();
        if seen_by.is_empty() || seen_by.contains(&"*") {
            seen_by = vec!["*"];
        }
        seen_by.dedup();
        for (index, host) in spec.texts("hosts").into_iter().enumerate() {
            for scope in &seen_by {
                let claims = scopes.entry(scope).or_default().entry(resolve(host, own)).or_default();
                claims.push(Claim { document, index });
            }
        }
    }
    let public = Public::new(scopes.remove("*").unwrap_or_default());
    let mut told = HashSet::new();
    for (host, claims) in &public.claims {
        tell(host, claims, &mut told, findings);
    }
    for claims in scopes.into_values() {
        for (host, mut claims) in claims {
            claims.extend(public.overlapping(&host));
            tell(&host, &claims, &mut told, findings);
        }
    }
}

/// What everybody sees.
struct Public<'a> {
    claims: Claims<'a>,
    /// The hosts below each suffix that a wildcard may have.
    below: HashMap<String, Vec<String>>,
}

impl<'a> Public<'a> {
    fn new(claims: Claims<'a>) -> Self {
        let mut below: HashMap<String, Vec<String>> = HashMap::new();
        for host in claims.keys() {
            for suffix in wildcards(host) {
                below.entry(suffix.to_owned()).or_default().push(host.clone());
            }
        }
        Self { claims, below }
    }

    fn overlapping(&self, host: &str) -> Vec<Claim<'a>> {
        let above = wildcards(host).map(|suffix| format!("*{suffix}"));
        let below = host.strip_prefix('*').and_then(|suffix| self.below.get(suffix));
        let hosts = above.chain(below.into_iter().flatten().cloned()).chain([host.to_owned()]);
        hosts.filter_map(|host| self.claims.get(&host)).flatten().copied().take(NAMED).collect()
    }
}

fn tell<'a>(host: &str, claims: &[Claim<'a>], told: &mut HashSet<*const Document>, findings: &mut Findings) {
    let mut names: Vec<String> =
        claims.iter().map(|claim| format!("{}/{}", claim.document.namespace(), claim.document.name())).collect();
    names.dedup();
    if names.len() < 2 {
        return;
    }
    let names = few(names).join(",");
    for claim in claims {
        // Once for each object, as Istio does: whoever merges two resources merges all of their hosts.
        if told.insert(std::ptr::from_ref(claim.document)) {
            let message = format!(
                "The VirtualServices {names} associated with mesh gateway define the same host {host} which can lead to \
                 undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single resource."
            );
            let code = &codes::CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS;
            findings.add(code, claim.document, format!("hosts[{}]", claim.index), message);
        }
    }
}
