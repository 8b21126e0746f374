//! What the requests of a run exercised: a feature counts when the route that Envoy chose has it.

use std::collections::BTreeMap;

use crate::{
    compare::Outcome,
    generate::RETRY_ON,
    model::{Abort, Action, Headers, Match, Request, Rule, Step, Table, Text},
};

/// Cases per feature.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    counts: BTreeMap<String, u64>,
    cases: u64,
    specific: u64,
}

/// What a run has to exercise, so that a feature that never came up is seen: at 0.
fn expected() -> Vec<String> {
    let texts = ["exact", "prefix", "regex"];
    let mut all: Vec<String> = Vec::new();
    for field in ["uri", "scheme", "method", "authority", "headers", "withoutHeaders", "queryParams"] {
        all.extend(texts.map(|kind| format!("match: {field} {kind}")));
    }
    all.extend(["headers", "withoutHeaders", "queryParams"].map(|field| format!("match: {field} present")));
    all.extend(["ignoreUriCase", "port", "without match"].map(|feature| format!("match: {feature}")));
    for level in ["rule", "destination", "weighted"] {
        for direction in ["request", "response"] {
            all.extend(["set", "add", "remove"].map(|verb| format!("action: {level} {direction} headers {verb}")));
        }
    }
    all.extend(["one destination", "weighted destinations", "timeout"].map(|feature| format!("action: {feature}")));
    all.extend(["redirect", "directResponse", "corsPolicy"].map(|feature| format!("action: {feature}")));
    all.extend(["uri", "uriRegexRewrite", "authority"].map(|what| format!("action: rewrite {what}")));
    for kind in ["delay", "abort HTTP", "abort gRPC"] {
        all.extend([0, 100].map(|percent| format!("fault: {kind} at {percent} %")));
    }
    all.extend(RETRY_ON.map(|word| format!("retry: on {word}")));
    all.extend(["happened", "default policy", "off", "perTryTimeout"].map(|feature| format!("retry: {feature}")));
    all
}

impl Coverage {
    pub(crate) fn new() -> Self {
        let counts = expected().into_iter().map(|feature| (feature, 0)).collect();
        Self { counts, cases: 0, specific: 0 }
    }

    /// Count a case.
    pub(crate) fn add(&mut self, table: &Table, request: &Request, envoy: &Outcome) {
        self.cases += 1;
        self.count("normalisation and bytes", &byte_features(request));
        let route = envoy.says("x-o-route");
        let Some((rule, entry)) = chosen(table, &route) else {
            self.count("route", &[if route == "-" { "none matched".into() } else { route }]);
            return;
        };
        if entry.is_some_and(|entry| !entry.is_catch_all()) {
            self.specific += 1;
        }
        match entry {
            None => self.count("match", &["without match".into()]),
            Some(entry) => self.count("match", &match_features(entry)),
        }
        self.count("action", &action_features(rule));
        self.count("fault", &fault_features(rule));
        self.count("retry", &retry_features(rule, request, envoy));
    }

    fn count(&mut self, group: &str, features: &[String]) {
        for feature in features {
            *self.counts.entry(format!("{group}: {feature}")).or_default() += 1;
        }
    }

    /// The share, in percent, of cases that matched a rule that is not a catch-all.
    pub(crate) fn specific_percent(&self) -> u64 {
        self.specific * 100 / self.cases.max(1)
    }

    pub(crate) fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
}

/// The rule and the `match` entry that a route's name stands for.
fn chosen<'a>(table: &'a Table, route: &str) -> Option<(&'a Rule, Option<&'a Match>)> {
    let (rule, entry) = route.split_once('.').map_or((route, None), |(rule, entry)| (rule, Some(entry)));
    let rule = table.rules.iter().find(|known| known.name == rule)?;
    let entry = entry.and_then(|entry| rule.matches.get(entry.strip_prefix('m')?.parse::<usize>().ok()?));
    Some((rule, entry))
}

fn match_features(entry: &Match) -> Vec<String> {
    let mut features = Vec::new();
    let fields =
        [("uri", &entry.uri), ("scheme", &entry.scheme), ("method", &entry.method), ("authority", &entry.authority)];
    for (field, value) in fields {
        features.extend(value.as_ref().map(|value| format!("{field} {}", value.kind())));
    }
    if entry.ignore_case && matches!(entry.uri, Some(Text::Exact(_) | Text::Prefix(_))) {
        features.push("ignoreUriCase".into());
    }
    for (field, values) in
        [("headers", &entry.headers), ("withoutHeaders", &entry.without), ("queryParams", &entry.query)]
    {
        features.extend(values.iter().map(|(_, value)| format!("{field} {}", value.kind())));
    }
    features.extend(entry.port.map(|_| "port".into()));
    features
}

fn action_features(rule: &Rule) -> Vec<String> {
    let mut features = Vec::new();
    let levels = |features: &mut Vec<String>, level: &str, headers: &Headers| {
        for (direction, ops) in [("request", &headers.request), ("response", &headers.response)] {
            for (verb, used) in
                [("set", !ops.set.is_empty()), ("add", !ops.add.is_empty()), ("remove", !ops.remove.is_empty())]
            {
                if used {
                    features.push(format!("{level} {direction} headers {verb}"));
                }
            }
        }
    };
    levels(&mut features, "rule", &rule.headers);
    match &rule.action {
        Action::Route(destinations) => {
            let several = destinations.len() > 1;
            features.push(if several { "weighted destinations" } else { "one destination" }.into());
            for destination in destinations {
                levels(&mut features, if several { "weighted" } else { "destination" }, &destination.headers);
            }
        }
        Action::Redirect(_) => features.push("redirect".into()),
        Action::DirectResponse { .. } => features.push("directResponse".into()),
    }
    features.extend(rule.cors.as_ref().map(|_| "corsPolicy".to_owned()));
    if let Some(rewrite) = &rule.rewrite {
        for (what, there) in [
            ("uri", rewrite.uri.is_some()),
            ("uriRegexRewrite", rewrite.regex.is_some()),
            ("authority", rewrite.authority.is_some()),
        ] {
            features.extend(there.then(|| format!("rewrite {what}")));
        }
    }
    if rule.timeout_ms.is_some() {
        features.push("timeout".into());
    }
    features
}

fn fault_features(rule: &Rule) -> Vec<String> {
    let mut features = Vec::new();
    let share = |percent: Option<u32>| if percent == Some(100) { "at 100 %" } else { "at 0 %" };
    if let Some((_, percent)) = rule.fault.delay {
        features.push(format!("delay {}", share(percent)));
    }
    if let Some((abort, percent)) = &rule.fault.abort {
        let kind = if matches!(abort, Abort::Http(_)) { "abort HTTP" } else { "abort gRPC" };
        features.push(format!("{kind} {}", share(*percent)));
    }
    features
}

/// Words of `retryOn` count where the first attempt did not simply succeed.
fn retry_features(rule: &Rule, request: &Request, envoy: &Outcome) -> Vec<String> {
    let mut features = Vec::new();
    if envoy.seen.len() > 1 {
        features.push("happened".into());
    }
    let failed = request.plan.first() != Some(&Step::Status(200));
    match &rule.retries {
        None if failed => features.push("default policy".into()),
        Some(retries) if retries.attempts == 0 => features.push("off".into()),
        Some(retries) => {
            if failed {
                features.extend(retries.on.iter().map(|word| format!("on {word}")));
            }
            if retries.per_try_ms.is_some() {
                features.push("perTryTimeout".into());
            }
        }
        None => {}
    }
    features
}

fn byte_features(request: &Request) -> Vec<String> {
    let has = |what: &[u8]| request.target.windows(what.len()).any(|window| window == what);
    let encoded = |window: &[u8]| window[0] == b'%' && window[1] == b'6' && window[2].is_ascii_hexdigit();
    let repeated = |(name, _): &(Vec<u8>, Vec<u8>)| {
        request.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).count() > 1
    };
    [
        ("//", has(b"//")),
        ("%2F", has(b"%2F")),
        ("%6x", request.target.windows(3).any(encoded)),
        ("#", has(b"#")),
        (";", has(b";")),
        ("dot segments", has(b"/./") || has(b"/../")),
        ("non-ASCII path", !request.target.is_ascii()),
        ("long path", request.target.len() > 1000),
        ("query", has(b"?")),
        ("host with a port", request.host.contains(&b':')),
        ("host in odd case", request.host.iter().any(u8::is_ascii_uppercase)),
        ("trailing dot", request.host.split(|byte| *byte == b':').next().is_some_and(|host| host.ends_with(b"."))),
        ("non-ASCII header", request.headers.iter().any(|(_, value)| !value.is_ascii())),
        ("empty header", request.headers.iter().any(|(_, value)| value.is_empty())),
        ("repeated header", request.headers.iter().any(repeated)),
        ("gRPC", request.headers.iter().any(|(_, value)| value == b"application/grpc")),
        ("body", !request.body.is_empty()),
    ]
    .into_iter()
    .filter(|(_, there)| *there)
    .map(|(name, _)| name.to_owned())
    .collect()
}
