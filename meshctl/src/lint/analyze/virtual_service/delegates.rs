//! Rules that are left to a VirtualService that is not there: they are not in force.

use std::collections::HashMap;

use mesh_core::config::Node;

use crate::lint::{
    codes,
    report::Findings,
    resources::{Resources, VIRTUAL_SERVICE},
    view::View as _,
};

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let mut delegates: HashMap<(&str, &str), &Node> = HashMap::new();
    for (document, spec) in resources.specs(VIRTUAL_SERVICE).filter(|(_, spec)| spec.list("hosts").is_empty()) {
        delegates.insert((document.namespace(), document.name()), spec);
    }
    for (document, spec) in resources.specs(VIRTUAL_SERVICE) {
        let own: &str = document.namespace();
        for (rule, http) in spec.list("http").iter().enumerate().filter(|(_, http)| http.has("delegate")) {
            let delegate = http.child("delegate");
            let (namespace, name) = (delegate.text("namespace"), delegate.text("name"));
            let namespace = if namespace.is_empty() { own } else { namespace };
            let seen = |delegate: &&Node| {
                let export = delegate.texts("exportTo");
                export.is_empty()
                    || export.iter().any(|to| matches!(*to, "*") || *to == own || (*to == "." && namespace == own))
            };
            if delegates.get(&(namespace, name)).copied().filter(seen).is_none() {
                let message =
                    format!("Referenced delegate virtual service not found: {:?}", format!("{namespace}/{name}"));
                let path = format!("http[{rule}].delegate.name");
                findings.add(&codes::REFERENCED_RESOURCE_NOT_FOUND, document, path, message);
            }
        }
    }
}
