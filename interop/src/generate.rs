//! Random tables: a service with rules of its own, rules lent by delegates, or several VirtualServices that have hosts
//! in common.

use crate::{
    clusters::own_hosts,
    conditions::path,
    dice::Dice,
    hosts::is_wildcard,
    merge::full,
    model::{
        Action, CLIENT_NAMESPACE, CLUSTER_DOMAIN, Fault, Match, PORTS, Rule, Service, Table, Text, VirtualService,
    },
    rules::{For, rules},
};

/// A table.
pub(crate) fn table(dice: &mut Dice, number: usize) -> Table {
    match dice.below(100) {
        0..=49 => single(dice, number),
        50..=74 => delegating(dice, number),
        _ => family(dice, number),
    }
}

/// The VirtualService of a service, or of a wildcard that no service has.
fn single(dice: &mut Dice, number: usize) -> Table {
    let [own, ..] = own_hosts(number);
    let wildcard = dice.chance(10);
    let host = match number % 2 {
        _ if wildcard => format!("*.w{number}.test"),
        0 => format!("t{number}"),
        _ => own.clone(),
    };
    let spelled = if wildcard { vec![format!("x.w{number}.test")] } else { spellings(&own) };
    let of = For { hosts: &spelled, namespace: CLIENT_NAMESPACE, prefix: String::new(), old_spelling: true };
    let rules = rules(dice, &of, 6);
    let services = if wildcard { Vec::new() } else { vec![service(own, PORTS.to_vec())] };
    let name = format!("t{number}");
    Table { number, services, virtual_services: vec![virtual_service(&name, CLIENT_NAMESPACE, vec![host], rules)] }
}

/// A VirtualService that sends some of its rules to delegates.
fn delegating(dice: &mut Dice, number: usize) -> Table {
    let [own, ..] = own_hosts(number);
    let spelled = spellings(&own);
    let elsewhere = format!("n{number}");
    let of = For { hosts: &spelled, namespace: CLIENT_NAMESPACE, prefix: String::new(), old_spelling: false };
    let mut root = virtual_service("root", CLIENT_NAMESPACE, vec![format!("t{number}")], rules(dice, &of, 4));
    let mut delegates: Vec<_> = (0..1 + dice.below(2))
        .map(|index| {
            let namespace = if dice.chance(60) { CLIENT_NAMESPACE } else { &elsewhere };
            let of = For { hosts: &spelled, namespace, prefix: format!("d{index}"), old_spelling: false };
            let mut lent = virtual_service(&format!("lent{index}"), namespace, Vec::new(), rules(dice, &of, 4));
            lent.export_to = export_to(dice, 70);
            lent
        })
        .collect();
    for rule in &mut root.rules {
        if dice.chance(35) {
            continue;
        }
        let to = &mut delegates[..];
        let to = &mut to[dice.below(to.len())];
        // Its conditions are for several rules at once: few, and such as others may narrow.
        rule.matches.truncate(1 + dice.below(2));
        rule.matches.iter_mut().for_each(|entry| loosen(dice, entry));
        to.rules.iter_mut().for_each(|lent| narrow(dice, &rule.matches, lent));
        let named = to.namespace != CLIENT_NAMESPACE || dice.chance(30);
        let missing = dice.chance(4);
        let name = if missing { "nowhere".into() } else { to.name.clone() };
        rule.action = Action::Delegate { name, namespace: named.then(|| to.namespace.clone()) };
    }
    let mut virtual_services = delegates;
    virtual_services.insert(dice.below(virtual_services.len() + 1), root);
    Table { number, services: vec![service(own, PORTS.to_vec())], virtual_services }
}

/// Leave a root's entry little more than a prefix.
fn loosen(dice: &mut Dice, entry: &mut Match) {
    if dice.chance(25) {
        return;
    }
    let short = path(dice).split('/').take(2).collect::<Vec<_>>().join("/");
    let kept = std::mem::take(entry);
    *entry = Match { name: kept.name, uri: dice.chance(75).then_some(Text::Prefix(short)), ..Match::default() };
    if entry.uri.is_none() || dice.chance(30) {
        entry.headers = kept.headers;
        entry.query = kept.query;
        entry.method = kept.method;
        entry.port = kept.port;
        entry.source_labels = kept.source_labels;
        entry.gateways = kept.gateways;
    }
}

/// Let most entries of a delegate's rule lie within one of the root's.
fn narrow(dice: &mut Dice, root: &[Match], lent: &mut Rule) {
    for entry in &mut lent.matches {
        if root.is_empty() || dice.chance(15) {
            continue;
        }
        let within = dice.pick(root);
        entry.ignore_case = within.ignore_case;
        entry.uri = match &within.uri {
            Some(Text::Prefix(prefix)) if dice.chance(60) => {
                let longer = format!("{prefix}{}", path(dice));
                Some(if dice.chance(50) { Text::Prefix(longer) } else { Text::Exact(longer) })
            }
            Some(_) => dice.chance(15).then(|| within.uri.clone()).flatten(),
            None => entry.uri.take(),
        };
        if dice.chance(70) {
            entry.headers.retain(|(name, _)| within.headers.iter().all(|(known, _)| known != name));
            entry.query.retain(|(name, _)| within.query.iter().all(|(known, _)| known != name));
            entry.method = None;
        } else if dice.chance(50) {
            entry.headers.clone_from(&within.headers);
        }
        if dice.chance(70) {
            entry.port = within.port;
            entry.source_labels.clear();
            entry.source_namespace = within.source_namespace;
            entry.gateways.clear();
        }
    }
    // What a delegate leaves open its root says.
    if dice.chance(40) {
        lent.fault = Fault::default();
        lent.rewrite = None;
        lent.retries = None;
        lent.timeout_ms = None;
    }
}

/// Several VirtualServices for hosts of which some are services, and of which some are named more than once.
fn family(dice: &mut Dice, number: usize) -> Table {
    let mut services = Vec::new();
    for host in own_hosts(number) {
        if dice.chance(80) {
            let ports: [&[u16]; 4] = [&PORTS, &PORTS, &[80], &[9080]];
            services.push(service(host, dice.pick(&ports).to_vec()));
        }
    }
    let count = 2 + dice.below(3);
    let virtual_services = (0..count)
        .map(|index| {
            let namespace = if dice.chance(70) { CLIENT_NAMESPACE.to_owned() } else { format!("n{number}") };
            let hosts = hosts(dice, number, &namespace);
            let spelled: Vec<_> =
                hosts.iter().flat_map(|host| spellings(&full(host, &namespace).replacen('*', "x", 1))).collect();
            let of = For { hosts: &spelled, namespace: &namespace, prefix: format!("v{index}"), old_spelling: false };
            let rules = rules(dice, &of, 3);
            let mut one = virtual_service(&format!("v{index}"), &namespace, hosts, rules);
            one.export_to = export_to(dice, 60);
            let gateways: [&[&str]; 3] = [&["mesh"], &["istio-system/ingress", "mesh"], &["istio-system/ingress"]];
            one.gateways = if dice.chance(80) { Vec::new() } else { dice.pick(&gateways).to_vec() };
            one
        })
        .collect();
    Table { number, services, virtual_services }
}

/// One to three hosts; no VirtualService may name two that overlap.
fn hosts(dice: &mut Dice, number: usize, namespace: &str) -> Vec<String> {
    let [here, there, one, two] = own_hosts(number);
    let mut all = vec![
        here.clone(),
        here,
        there.clone(),
        there,
        one,
        two,
        format!("*.n{number}{CLUSTER_DOMAIN}"),
        format!("*.w{number}.test"),
        format!("*.w{number}.test"),
        format!("*.x.w{number}.test"),
        format!("ghost.w{number}.test"),
        // Another name of a service, spelled out.
        format!("s{number}.n{number}"),
        if namespace == CLIENT_NAMESPACE { format!("t{number}") } else { format!("s{number}") },
    ];
    let mut chosen: Vec<String> = Vec::new();
    for _ in 0..1 + dice.below(3) {
        let next = all.swap_remove(dice.below(all.len()));
        let within = |wide: &str, narrow: &str| {
            let (wide, narrow) = (full(wide, namespace), full(narrow, namespace));
            wide == narrow || (is_wildcard(&wide) && narrow.ends_with(&wide[1..]))
        };
        if chosen.iter().all(|known| !within(known, &next) && !within(&next, known)) {
            chosen.push(next);
        }
    }
    chosen
}

fn export_to(dice: &mut Dice, to_all: usize) -> Vec<&'static str> {
    let all: [&[&str]; 6] = [&["*"], &["."], &["default"], &["default", "other"], &["other"], &["~"]];
    if dice.chance(to_all) { Vec::new() } else { dice.pick(&all).to_vec() }
}

/// How requests spell a host.
fn spellings(host: &str) -> Vec<String> {
    let short = host.strip_suffix(CLUSTER_DOMAIN);
    let bare = short.and_then(|short| short.strip_suffix(".default"));
    let mut all = vec![host.to_owned()];
    all.extend(bare.map(str::to_owned));
    all.extend(bare.map(str::to_owned));
    all.extend(short.map(|short| format!("{short}.svc")));
    all
}

fn service(host: String, ports: Vec<u16>) -> Service {
    let namespace = host.strip_suffix(CLUSTER_DOMAIN).and_then(|short| Some(short.split_once('.')?.1.to_owned()));
    Service { namespace: namespace.unwrap_or_else(|| CLIENT_NAMESPACE.into()), host, ports }
}

fn virtual_service(name: &str, namespace: &str, hosts: Vec<String>, rules: Vec<Rule>) -> VirtualService {
    let (name, namespace) = (name.to_owned(), namespace.to_owned());
    VirtualService { name, namespace, hosts, gateways: Vec::new(), export_to: Vec::new(), rules }
}
