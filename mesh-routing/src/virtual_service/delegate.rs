//! Delegation: a VirtualService without hosts lends its rules to those that name it.
//!
//! istio networking/v1alpha3 HTTPRoute.delegate: "Delegate is used to specify the particular VirtualService which can
//! be used to define delegate HTTPRoute." One level only. The delegate's rules take the place of the one that delegates,
//! each where both match and with what it says itself, else with what the root says (istio mergeHTTPRoute). A rule
//! whose matches cannot hold together with the root's is left out.

use std::{collections::HashMap, sync::Arc};

use mesh_core::config::Issues;

use super::model::{Action, Delegate, LeftOut, Lender, Retries, Rule, VirtualService};
use crate::{
    matcher::{Named, RouteMatch, Source},
    string_match::StringMatch,
};

/// All VirtualServices with hosts, in order, with the rules of their delegates. Warnings go to `issues`.
pub(crate) fn merge(all: &[Arc<VirtualService>], issues: &mut Issues) -> Vec<Arc<VirtualService>> {
    let without_hosts = all.iter().filter(|vs| vs.hosts.is_empty());
    let delegates: HashMap<(&str, &str), &VirtualService> =
        without_hosts.map(|vs| ((&*vs.object.namespace, &*vs.object.name), &**vs)).collect();
    let with_hosts = all.iter().filter(|vs| !vs.hosts.is_empty());
    let delegating = |rule: &Rule| matches!(rule.action, Action::Delegate(_));
    with_hosts
        .map(|root| match root.rules.iter().any(delegating) {
            false => Arc::clone(root),
            true => Arc::new(resolve(root, &delegates, issues)),
        })
        .collect()
}

fn resolve(
    root: &VirtualService,
    delegates: &HashMap<(&str, &str), &VirtualService>,
    issues: &mut Issues,
) -> VirtualService {
    let mut rules = Vec::with_capacity(root.rules.len());
    let mut left_out = Vec::new();
    for rule in &root.rules {
        let Action::Delegate(delegation) = &rule.action else {
            rules.push(rule.clone());
            continue;
        };
        let Delegate { namespace, name, place, .. } = delegation;
        let before = rules.len();
        let mut leave_out = |because: String| {
            issues.push(place.warning(because.clone()));
            left_out.push(LeftOut { before, name: rule.name.clone(), at: rule.at, because: because.into() });
        };
        let mut skip = |why: &str| {
            leave_out(format!("delegate virtual service {namespace}/{name} {why}: this rule is not in force"));
        };
        // istio mergeVirtualServices: a delegate that is missing or not visible is skipped; the other rules stay.
        let Some(delegate) = delegates.get(&(&**namespace, &**name)) else {
            skip("not found (it is one without hosts)");
            continue;
        };
        if !delegate.export_to.includes(&delegate.object.namespace, &root.object.namespace) {
            skip(&format!("is not exported to namespace {}", root.object.namespace));
            continue;
        }
        let lender = Arc::new(Lender { object: delegate.object.clone(), source: Arc::clone(&delegate.source) });
        for (index, delegated) in delegate.rules.iter().enumerate() {
            match merged(rule, delegation, delegated) {
                Some(rule) => rules.push(Rule { lender: Some(Arc::clone(&lender)), ..rule }),
                None => {
                    let message = format!(
                        "http[{index}] of {namespace}/{name} matches nothing that this rule matches, and is not in force here"
                    );
                    issues.push(place.warning(message.clone()));
                    let (before, name) = (rules.len(), rule.name.clone());
                    left_out.push(LeftOut { before, name, at: rule.at, because: message.into() });
                }
            }
        }
    }
    VirtualService { rules, left_out, ..root.clone() }
}

/// istio mergeHTTPRoute: what the delegate says, else what the root says.
fn merged(root: &Rule, delegation: &Delegate, rule: &Rule) -> Option<Rule> {
    let matches = merged_matches(&root.matches, &rule.matches)?;
    let action = match (&rule.action, &delegation.direct_response) {
        // A rule with its own answer keeps it; Envoy has one action, and Istio asks for the answer first.
        (Action::Forward(_), Some(answer)) => Action::DirectResponse(answer.clone()),
        (action, _) => action.clone(),
    };
    Some(Rule {
        name: joined(root.name.as_ref(), rule.name.as_ref()),
        matches,
        action,
        weighted: rule.weighted,
        headers: rule.headers.clone().or_else(|| root.headers.clone()),
        timeout: rule.timeout.or(root.timeout),
        retries: match &rule.retries {
            Retries::Default => root.retries.clone(),
            given @ Retries::Policy(_) => given.clone(),
        },
        fault: rule.fault.clone().or_else(|| root.fault.clone()),
        rewrite: rule.rewrite.clone().or_else(|| root.rewrite.clone()),
        cors: rule.cors.clone().or_else(|| root.cors.clone()),
        mirror: rule.mirror.clone().or_else(|| root.mirror.clone()),
        mirror_share: rule.mirror_share.or(root.mirror_share),
        mirrors: rule.mirrors.clone().or_else(|| root.mirrors.clone()),
        at: rule.at,
        lender: None,
        route: None,
    })
}

/// `root-delegate`.
fn joined(root: Option<&Arc<str>>, own: Option<&Arc<str>>) -> Option<Arc<str>> {
    match (root, own) {
        (Some(root), Some(own)) => Some(format!("{root}-{own}").into()),
        (name, None) | (None, name) => name.cloned(),
    }
}

/// istio mergeHTTPMatchRequests: every entry of the delegate crossed with every one of the root that it can hold
/// together with; `None` when an entry of the delegate finds none.
fn merged_matches(root: &[Arc<RouteMatch>], own: &[Arc<RouteMatch>]) -> Option<Vec<Arc<RouteMatch>>> {
    if root.is_empty() || own.is_empty() {
        return Some([root, own].concat());
    }
    let mut matches = Vec::new();
    for entry in own {
        let before = matches.len();
        let compatible = root.iter().filter(|root| !conflict(root, entry));
        matches.extend(compatible.map(|root| Arc::new(merged_match(root, entry))));
        if matches.len() == before {
            return None;
        }
    }
    Some(matches)
}

fn merged_match(root: &RouteMatch, own: &RouteMatch) -> RouteMatch {
    let or = |own: &Option<StringMatch>, root: &Option<StringMatch>| own.clone().or_else(|| root.clone());
    let gateways = if own.source.mesh_gateway.is_some() { &own.source } else { &root.source };
    RouteMatch {
        name: joined(root.name.as_ref(), own.name.as_ref()),
        uri: or(&own.uri, &root.uri),
        ignore_uri_case: own.ignore_uri_case,
        scheme: or(&own.scheme, &root.scheme),
        method: or(&own.method, &root.method),
        authority: or(&own.authority, &root.authority),
        headers: merged_names(&root.headers, &own.headers),
        without_headers: merged_names(&root.without_headers, &own.without_headers),
        query: merged_names(&root.query, &own.query),
        port: own.port.or(root.port),
        source: Source {
            labels: root.source.labels.iter().chain(own.source.labels.iter()).collect(),
            namespace: own.source.namespace.clone().or_else(|| root.source.namespace.clone()),
            mesh_gateway: gateways.mesh_gateway,
            gateways: Arc::clone(&gateways.gateways),
        },
        at: own.at,
    }
}

/// Both, the delegate's where both name the same.
fn merged_names<K: Clone + PartialEq>(root: &[Named<K>], own: &[Named<K>]) -> Box<[Named<K>]> {
    let kept = root.iter().filter(|root| own.iter().all(|own| own.name != root.name));
    kept.chain(own).cloned().collect()
}

/// istio hasConflict.
fn conflict(root: &RouteMatch, own: &RouteMatch) -> bool {
    let plain = [(&root.uri, &own.uri), (&root.scheme, &own.scheme), (&root.method, &own.method)];
    let plain = plain.into_iter().chain([(&root.authority, &own.authority)]);
    let port = |(root, own): (u16, u16)| root != own;
    plain.into_iter().any(|pair| matches!(pair, (Some(root), Some(own)) if texts_conflict(root, own)))
        || names_conflict(&root.headers, &own.headers)
        || names_conflict(&root.without_headers, &own.without_headers)
        || names_conflict(&root.query, &own.query)
        || root.ignore_uri_case != own.ignore_uri_case
        || root.port.zip(own.port).is_some_and(port)
        || sources_conflict(&root.source, &own.source)
}

/// A root's namespace must be repeated, labels must agree, gateways must be among the root's.
fn sources_conflict(root: &Source, own: &Source) -> bool {
    let label = |(key, value): (&str, &str)| root.labels.get(key).is_some_and(|root| root != value);
    let gateway = |gateway| !root.gateways.contains(gateway);
    (root.namespace.is_some() && own.namespace != root.namespace)
        || own.labels.iter().any(label)
        || (!root.gateways.is_empty() && own.gateways.iter().any(gateway))
}

/// A condition on presence goes with no other on the same name.
fn names_conflict<K: PartialEq>(root: &[Named<K>], own: &[Named<K>]) -> bool {
    own.iter().any(|own| {
        root.iter().filter(|root| root.name == own.name).any(|root| match (&root.value, &own.value) {
            (Some(root), Some(own)) => texts_conflict(root, own),
            _ => true,
        })
    })
}

/// istio stringMatchConflict: "regex on both sides = conflict", and one beside anything else as well; else the
/// delegate's must be within the root's.
fn texts_conflict(root: &StringMatch, own: &StringMatch) -> bool {
    match (root, own) {
        // An empty text is none to Istio, and what is neither exact nor a prefix conflicts.
        (StringMatch::Exact(root), StringMatch::Exact(own)) => root.is_empty() || root != own,
        (StringMatch::Prefix(root), StringMatch::Exact(own) | StringMatch::Prefix(own)) => {
            root.is_empty() || !own.starts_with(&**root)
        }
        (StringMatch::Exact(_), StringMatch::Prefix(_))
        | (StringMatch::Regex(_) | StringMatch::Segments(_), _)
        | (_, StringMatch::Regex(_) | StringMatch::Segments(_)) => true,
    }
}
