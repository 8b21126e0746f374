//! What the requests of a run exercised: a feature counts when the route that Envoy chose has it.

use std::collections::BTreeMap;

use crate::{
    accepted::answered_preflight,
    compare::Outcome,
    hosts::VirtualHost,
    model::{Abort, Action, Headers, Match, Request, Rule, Step, Text},
    rules::RETRY_ON,
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
    for kind in ["present", "regex *"] {
        all.extend(["headers", "withoutHeaders", "queryParams"].map(|field| format!("match: {field} {kind}")));
    }
    all.extend(["ignoreUriCase", "port", "without match"].map(|feature| format!("match: {feature}")));
    all.extend(["sourceLabels", "sourceNamespace", "gateways"].map(|feature| format!("match: {feature}")));
    let kinds = ["service by its name", "service by a wildcard", "service without rules"];
    all.extend(kinds.map(|kind| format!("host: {kind}")));
    all.extend(["name", "wildcard"].map(|kind| format!("host: {kind} outside the registry")));
    all.extend(["contested", "another name"].map(|kind| format!("host: {kind}")));
    all.extend(
        ["mirror", "mirrors", "without a percentage", "at 0 %", "at 100 %", "arrived"]
            .map(|of| format!("mirror: {of}")),
    );
    all.extend(
        ["subset defined", "subset unknown", "delegate", "deprecated fields"].map(|what| format!("action: {what}")),
    );
    all.extend(["request", "response"].map(|direction| format!("action: both levels {direction} headers")));
    let fields = ["uri", "prefixRewrite", "authority", "scheme", "port", "derivePort"];
    all.extend(fields.map(|field| format!("action: redirect {field}")));
    all.extend([301, 302, 303, 307, 308].map(|code| format!("action: redirect {code}")));
    all.extend(["with", "without"].map(|with| format!("action: directResponse {with} a body")));
    all.extend(["allow_any", "block_all", "none matched"].map(|route| format!("route: {route}")));
    all.extend(["answered a preflight", "let an origin read"].map(|what| format!("cors: {what}")));
    all.extend(BYTES.map(|(name, _)| format!("bytes: {name}")));
    for level in ["rule", "destination", "weighted"] {
        for direction in ["request", "response"] {
            all.extend(["set", "add", "remove"].map(|verb| format!("action: {level} {direction} headers {verb}")));
        }
    }
    all.extend(["one destination", "weighted destinations", "timeout"].map(|feature| format!("action: {feature}")));
    all.extend(["corsPolicy"].map(|feature| format!("action: {feature}")));
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

    /// Count a case of a table's hosts.
    pub(crate) fn add(&mut self, hosts: &[VirtualHost], request: &Request, envoy: &Outcome) {
        self.cases += 1;
        self.count("bytes", &byte_features(request));
        self.count("cors", &cors_features(request, envoy));
        let flags = envoy.says("x-o-flags");
        self.count("flags", &flags.split(',').filter(|flag| *flag != "-").map(str::to_owned).collect::<Vec<_>>());
        let name = envoy.says("x-o-route");
        let here = hosts.iter().filter(|host| host.port == request.port);
        let chosen = here.flat_map(|host| host.routes.iter().map(move |route| (host, route)));
        let Some((host, route)) = chosen.into_iter().find(|(_, route)| route.name == name) else {
            self.count("route", &[if name == "-" { "none matched".into() } else { name }]);
            return;
        };
        let (rule, entry) = (&route.rule, route.entry.as_ref());
        self.count("host", &host_features(host, request));
        if entry.is_some_and(|entry| !entry.is_catch_all()) {
            self.specific += 1;
        }
        match entry {
            None => self.count("match", &["without match".into()]),
            Some(entry) => self.count("match", &match_features(entry)),
        }
        self.count("action", &action_features(rule));
        self.count("mirror", &mirror_features(rule, envoy));
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

fn host_features(host: &VirtualHost, request: &Request) -> Vec<String> {
    let mut features = vec![host.kind.to_owned()];
    features.extend(host.contested.then(|| "contested".to_owned()));
    let name = String::from_utf8_lossy(&request.host).to_lowercase();
    let name = name.split(':').next().unwrap_or_default();
    features.extend((host.domains[0] != name && host.domains.iter().any(|d| d == name)).then(|| "another name".into()));
    features
}

fn cors_features(request: &Request, envoy: &Outcome) -> Vec<String> {
    let mut features = Vec::new();
    features.extend(answered_preflight(request, envoy).then(|| "answered a preflight".to_owned()));
    features.extend((envoy.says("access-control-allow-origin") != "-").then(|| "let an origin read".to_owned()));
    features
}

fn mirror_features(rule: &Rule, envoy: &Outcome) -> Vec<String> {
    if !matches!(rule.action, Action::Route(_)) {
        return Vec::new();
    }
    let mut features = Vec::new();
    features.extend(rule.mirror.as_ref().map(|_| "mirror".to_owned()));
    features.extend((!rule.mirrors.is_empty()).then(|| "mirrors".to_owned()));
    for mirror in rule.copies() {
        features.push(match mirror.percent {
            None => "without a percentage".into(),
            Some(percent) => format!("at {percent} %"),
        });
    }
    features.extend((!envoy.copies.is_empty()).then(|| "arrived".to_owned()));
    features
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
    features.extend((!entry.source_labels.is_empty()).then(|| "sourceLabels".into()));
    features.extend(entry.source_namespace.map(|_| "sourceNamespace".into()));
    features.extend((!entry.gateways.is_empty()).then(|| "gateways".into()));
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
            let subsets = destinations.iter().filter_map(|destination| destination.subset.as_ref());
            features
                .extend(subsets.map(|subset| format!("subset {}", if subset == "v1" { "defined" } else { "unknown" })));
            for (direction, of) in [("request", 0), ("response", 1)] {
                let says = |headers: &Headers| [&headers.request, &headers.response][of].is_empty();
                if several && !says(&rule.headers) && destinations.iter().any(|to| !says(&to.headers)) {
                    features.push(format!("both levels {direction} headers"));
                }
            }
            for destination in destinations {
                levels(&mut features, if several { "weighted" } else { "destination" }, &destination.headers);
            }
        }
        Action::Redirect(to) => {
            for (field, there) in [
                ("uri", to.uri.is_some()),
                ("prefixRewrite", to.prefix.is_some()),
                ("authority", to.authority.is_some()),
                ("scheme", to.scheme.is_some()),
                ("port", to.port.is_some()),
                ("derivePort", to.derive_port.is_some()),
            ] {
                features.extend(there.then(|| format!("redirect {field}")));
            }
            features.push(format!("redirect {}", to.code.unwrap_or(301)));
        }
        Action::DirectResponse { body, .. } => {
            features.push(format!("directResponse {} a body", if body.is_some() { "with" } else { "without" }));
        }
        Action::Delegate { .. } => {}
    }
    let old = rule.old_spelling
        && (rule.mirror_percent.is_some()
            || rule.fault.delay.is_some_and(|(_, percent)| percent.is_some())
            || rule.cors.as_ref().is_some_and(|cors| cors.origins.iter().all(|origin| origin.kind() == "exact")));
    features.extend(old.then(|| "deprecated fields".to_owned()));
    features.extend(rule.lent.then(|| "delegate".to_owned()));
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

/// A feature of a request's bytes, and whether a request has it.
type ByteFeature = (&'static str, fn(&Request) -> bool);

const BYTES: [ByteFeature; 20] = [
    ("//", |request| has(request, b"//")),
    ("%2F", |request| has(request, b"%2F")),
    ("%61", |request| has(request, b"%61")),
    ("#", |request| has(request, b"#")),
    (";", |request| has(request, b";")),
    ("dot segments", |request| has(request, b"/./") || has(request, b"/../")),
    ("non-ASCII path", |request| !request.target.is_ascii()),
    ("long path", |request| request.target.len() > 1000),
    ("query", |request| has(request, b"?")),
    ("repeated parameter", |request| {
        let names: Vec<_> = parameters(request).map(|pair| pair.split(|byte| *byte == b'=').next()).collect();
        names.iter().enumerate().any(|(at, name)| names[..at].contains(name))
    }),
    ("parameter without a value", |request| parameters(request).any(|pair| !pair.contains(&b'='))),
    ("parameter with an empty value", |request| parameters(request).any(|pair| pair.ends_with(b"="))),
    ("host with a port", |request| request.host.contains(&b':')),
    ("host in odd case", |request| request.host.iter().any(u8::is_ascii_uppercase)),
    ("trailing dot", |request| {
        request.host.split(|byte| *byte == b':').next().is_some_and(|host| host.ends_with(b"."))
    }),
    ("non-ASCII header", |request| request.headers.iter().any(|(_, value)| !value.is_ascii())),
    ("empty header", |request| request.headers.iter().any(|(_, value)| value.is_empty())),
    ("repeated header", |request| {
        let names: Vec<_> = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.iter().enumerate().any(|(at, name)| names[..at].contains(name))
    }),
    ("gRPC", |request| request.headers.iter().any(|(_, value)| value == b"application/grpc")),
    ("body", |request| !request.body.is_empty()),
];

fn has(request: &Request, what: &[u8]) -> bool {
    request.target.windows(what.len()).any(|window| window == what)
}

fn parameters(request: &Request) -> impl Iterator<Item = &[u8]> {
    let query = request.target.splitn(2, |byte| *byte == b'?').nth(1);
    query.into_iter().flat_map(|query| query.split(|byte| *byte == b'&'))
}

fn byte_features(request: &Request) -> Vec<String> {
    BYTES.iter().filter(|(_, of)| of(request)).map(|(name, _)| (*name).to_owned()).collect()
}
