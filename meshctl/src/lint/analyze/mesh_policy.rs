//! MeshPolicies of which a part is not in force: in each scope, mesh, namespace and workload, the oldest that has limits
//! of a direction gives them all, and so it is with the choice of endpoints; a selector in the root namespace selects nothing.

use std::collections::HashMap;

use mesh_core::config::Document;

use crate::lint::{
    codes,
    report::Findings,
    resources::{MESH_POLICY, Resources},
    view::{View as _, spec},
    workloads::policy_selector,
};

/// A namespace, the labels in it, and a part of a policy.
type Scope<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'static str);

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let mut policies: Vec<&Document> = resources.of(MESH_POLICY).to_vec();
    policies.sort_by(|a, b| a.creation_order(b));
    let mut oldest: HashMap<Scope<'_>, &Document> = HashMap::new();
    for document in policies {
        let namespace: &str = document.namespace();
        let mut labels = policy_selector(document).unwrap_or_default();
        labels.sort_unstable();
        if !labels.is_empty() && namespace == resources.root_namespace() {
            let message = "a selector has no effect in the root namespace: this policy applies to nothing";
            findings.add(&codes::POLICY_WITHOUT_EFFECT, document, "selector", message);
            continue;
        }
        let limits = spec(document).child("localRateLimit");
        for (field, has) in [
            ("localRateLimit.inbound", limits.has("inbound")),
            ("localRateLimit.outbound", limits.has("outbound")),
            ("loadBalancing", spec(document).has("loadBalancing")),
        ] {
            if !has {
                continue;
            }
            let first = *oldest.entry((namespace, labels.clone(), field)).or_insert(document);
            if !std::ptr::eq(first, document) {
                let message = format!("not in force: {} comes first, for the same workloads", first.object());
                let path = field.to_owned();
                findings.add(&codes::POLICY_WITHOUT_EFFECT, document, path, message);
            }
        }
    }
}
