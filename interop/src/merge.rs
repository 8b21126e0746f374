//! What istiod makes of delegation, in this crate's own words: the rules of a VirtualService without hosts, in the place
//! of the rule that names it.
//!
//! Names in comments are of functions in istio `pilot/pkg/model/virtualservice.go`.

use crate::model::{Action, CLUSTER_DOMAIN, Destination, Match, Mirror, Rule, Text, VirtualService};

/// The rules of a VirtualService, those of its delegates included, with hosts in full.
pub(crate) fn rules(root: &VirtualService, all: &[VirtualService]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in &root.rules {
        let Action::Delegate { name, namespace } = &rule.action else {
            rules.push(in_full(rule, &root.namespace));
            continue;
        };
        let namespace = namespace.as_ref().unwrap_or(&root.namespace);
        let named = |vs: &&VirtualService| vs.hosts.is_empty() && vs.name == *name && vs.namespace == *namespace;
        // "missing delegate: that route skipped, others stay"; "exportTo must include root ns"
        let Some(delegate) = all.iter().find(named).filter(|delegate| visible(delegate, &root.namespace)) else {
            continue;
        };
        let own = in_full(rule, &root.namespace);
        rules.extend(delegate.rules.iter().filter_map(|lent| merged(&own, in_full(lent, &delegate.namespace))));
    }
    rules
}

fn visible(delegate: &VirtualService, from: &str) -> bool {
    let to = |to: &&str| *to == "*" || *to == from || (*to == "." && delegate.namespace == from);
    delegate.export_to.is_empty() || delegate.export_to.iter().any(to)
}

/// Short names are of the namespace of the VirtualService that has them.
fn in_full(rule: &Rule, namespace: &str) -> Rule {
    let full = |host: &mut String| *host = full(host, namespace);
    let mut rule = rule.clone();
    if let Action::Route(destinations) = &mut rule.action {
        destinations.iter_mut().for_each(|Destination { host, .. }| full(host));
    }
    rule.mirror.iter_mut().chain(&mut rule.mirrors).for_each(|Mirror { host, .. }| full(host));
    rule
}

/// ResolveShortnameToFQDN
pub(crate) fn full(host: &str, namespace: &str) -> String {
    if host.contains('.') || host == "*" { host.to_owned() } else { format!("{host}.{namespace}{CLUSTER_DOMAIN}") }
}

// mergeHTTPRoute: what the delegate does not say the root says
fn merged(root: &Rule, mut rule: Rule) -> Option<Rule> {
    rule.matches = match (&*root.matches, &*rule.matches) {
        ([], own) => own.to_vec(),
        (root, []) => root.to_vec(),
        (root, own) => crossed(root, own)?,
    };
    rule.lent = true;
    rule.name = joined(&root.name, &rule.name);
    rule.rewrite = rule.rewrite.or_else(|| root.rewrite.clone());
    rule.timeout_ms = rule.timeout_ms.or(root.timeout_ms);
    rule.retries = rule.retries.or_else(|| root.retries.clone());
    rule.cors = rule.cors.or_else(|| root.cors.clone());
    rule.mirror = rule.mirror.or_else(|| root.mirror.clone());
    rule.mirror_percent = rule.mirror_percent.or(root.mirror_percent);
    if rule.mirrors.is_empty() {
        rule.mirrors.clone_from(&root.mirrors);
    }
    if rule.fault.is_empty() {
        rule.fault = root.fault.clone();
    }
    if rule.headers.is_empty() {
        rule.headers = root.headers.clone();
    }
    Some(rule)
}

fn joined(root: &str, own: &str) -> String {
    match (root, own) {
        ("", name) | (name, "") => name.to_owned(),
        (root, own) => format!("{root}-{own}"),
    }
}

// mergeHTTPMatchRequests: "every delegate match must be compatible with at least one root match, else route dropped"
fn crossed(root: &[Match], own: &[Match]) -> Option<Vec<Match>> {
    let mut all = Vec::new();
    for entry in own {
        let mut pairs = root.iter().filter(|root| go_together(root, entry)).map(|root| both(root, entry)).peekable();
        pairs.peek()?;
        all.extend(pairs);
    }
    Some(all)
}

// mergeHTTPMatchRequest
fn both(root: &Match, own: &Match) -> Match {
    let over = |root: &[(String, Text)], own: &[(String, Text)]| {
        let kept = root.iter().filter(|(name, _)| own.iter().all(|(known, _)| known != name));
        kept.chain(own).cloned().collect()
    };
    let labels = root.source_labels.iter().filter(|(key, _)| own.source_labels.iter().all(|(known, _)| known != key));
    Match {
        name: joined(&root.name, &own.name),
        uri: own.uri.clone().or_else(|| root.uri.clone()),
        ignore_case: own.ignore_case,
        scheme: own.scheme.clone().or_else(|| root.scheme.clone()),
        method: own.method.clone().or_else(|| root.method.clone()),
        authority: own.authority.clone().or_else(|| root.authority.clone()),
        headers: over(&root.headers, &own.headers),
        without: over(&root.without, &own.without),
        query: over(&root.query, &own.query),
        port: own.port.or(root.port),
        source_labels: labels.chain(&own.source_labels).copied().collect(),
        source_namespace: own.source_namespace.or(root.source_namespace),
        gateways: if own.gateways.is_empty() { root.gateways.clone() } else { own.gateways.clone() },
    }
}

// hasConflict, the other way round
fn go_together(root: &Match, own: &Match) -> bool {
    let texts = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let within = |root: &[(String, Text)], own: &[(String, Text)]| {
        own.iter().all(|(name, own)| root.iter().all(|(known, root)| known != name || narrows(root, own)))
    };
    let maps =
        within(&root.headers, &own.headers) && within(&root.without, &own.without) && within(&root.query, &own.query);
    let labels = own
        .source_labels
        .iter()
        .all(|(key, value)| root.source_labels.iter().all(|(known, root)| known != key || root == value));
    texts.iter().all(|(root, own)| root.as_ref().zip(own.as_ref()).is_none_or(|(root, own)| narrows(root, own)))
        && maps
        && root.ignore_case == own.ignore_case
        && root.port.zip(own.port).is_none_or(|(root, own)| root == own)
        && (root.source_namespace.is_none() || root.source_namespace == own.source_namespace)
        && labels
        && (root.gateways.is_empty() || own.gateways.iter().all(|gateway| root.gateways.contains(gateway)))
}

// stringMatchConflict, the other way round: equal, or a longer prefix or a text of the root's prefix; an empty text goes
// with nothing, and neither does a regex
fn narrows(root: &Text, own: &Text) -> bool {
    match (root, own) {
        (Text::Exact(root), Text::Exact(own)) => !root.is_empty() && root == own,
        (Text::Prefix(root), Text::Prefix(own) | Text::Exact(own)) => {
            !root.is_empty() && !own.is_empty() && own.starts_with(&**root)
        }
        _ => false,
    }
}
