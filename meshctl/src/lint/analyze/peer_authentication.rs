//! PeerAuthentications that nothing comes of.
//!
//! istio ComposePeerAuthentication: in each scope, mesh, namespace and workload, the oldest counts alone; a selector in
//! the root namespace selects nothing.

use std::collections::HashMap;

use mesh_core::config::Document;

use crate::lint::{
    codes,
    report::Findings,
    resources::{PEER_AUTHENTICATION, Resources},
    workloads::policy_selector,
};

/// A namespace, and the labels in it.
type Scope<'a> = (&'a str, Vec<(&'a str, &'a str)>);

pub(super) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let mut policies: Vec<&Document> = resources.of(PEER_AUTHENTICATION).to_vec();
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
        match oldest.get(&(namespace, labels.clone())) {
            Some(first) => {
                let message = format!(
                    "has no effect: {}/{} comes first, for the same workloads",
                    first.namespace(),
                    first.name()
                );
                findings.add(&codes::POLICY_WITHOUT_EFFECT, document, "metadata.name", message);
            }
            None => {
                oldest.insert((namespace, labels), document);
            }
        }
    }
}
