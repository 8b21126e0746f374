//! Rules that can never be used: a warning, in the words of Istio's analyzer.
//!
//! istio pkg/config/validation analyzeUnreachableHTTPRules. Rules without a name are numbered from 0.

use std::collections::{HashMap, hash_map::Entry};

use mesh_core::config::{Document, Issues};

use super::spec::HttpRoute;

pub(super) fn warn(document: &Document, routes: &[HttpRoute], issues: &mut Issues) {
    // By their printed form: matches have no hash of their own, and there may be thousands.
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut catch_all = None;
    for (number, route) in routes.iter().enumerate() {
        let mut unused = |why: &str| {
            let message = format!("virtualService rule {} not used ({why})", rule_name(route, number));
            issues.push(document.warning(format!("http[{number}]"), message));
        };
        if route.r#match.is_empty() {
            if catch_all.is_some() {
                unused("only the last rule can have no matches");
            }
            catch_all = Some(number);
            continue;
        }
        if catch_all.is_some() {
            unused("route without matches defined before");
            continue;
        }
        let mut duplicates = Vec::new();
        for (index, entry) in route.r#match.iter().enumerate() {
            match seen.entry(format!("{entry:?}")) {
                Entry::Occupied(known) => duplicates.push((index, *known.get())),
                Entry::Vacant(new) => {
                    new.insert(number);
                }
            }
        }
        if duplicates.len() == route.r#match.len() {
            unused("all matches used by prior rules");
            continue;
        }
        for (index, rule) in duplicates {
            let entry = &route.r#match[index];
            let name = if entry.name.is_empty() { format!("#{index}") } else { format!("{:?}", entry.name) };
            let message = format!(
                "virtualService rule {} match {name} is not used (duplicate/overlapping match in rule {})",
                rule_name(route, number),
                rule_name(&routes[rule], rule),
            );
            issues.push(document.warning(format!("http[{number}].match[{index}]"), message));
        }
    }
}

fn rule_name(route: &HttpRoute, number: usize) -> String {
    if route.name.is_empty() { format!("#{number}") } else { format!("{:?}", route.name) }
}
