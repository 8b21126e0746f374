//! A generated table as the routes that Envoy runs: what istiod makes of it, written from Istio's documentation and
//! sources, and sharing nothing with the compiler that is under test.
//!
//! Names in comments are of functions below istio `pilot/pkg/networking/core`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    clusters::{self, PASSTHROUGH, UPSTREAMS},
    hosts::{Route, VirtualHost, virtual_hosts},
    model::{Action, CLUSTER_DOMAIN, Destination, Match, Operations, Redirect, Retries, Rule, Table, Text},
    policies::{cors, fault, retry_policy},
};

pub(crate) const TYPE: &str = "type.googleapis.com/";

/// The header that fixes the weighted draw.
pub(crate) const ROLL_HEADER: &str = "x-roll";

/// The RouteConfiguration of a port.
pub(crate) fn route_configuration(
    name: &str,
    port: u16,
    tables: &[Table],
    registry_only: bool,
    version: &str,
) -> Value {
    let hosts = tables.iter().flat_map(|table| virtual_hosts(table, port));
    let mut hosts: Vec<_> = hosts.map(|host| virtual_host(&host)).collect();
    hosts.push(json!({"name": "version", "domains": ["version.referee"], "routes": [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": version}}}]}));
    hosts.push(catch_all(registry_only));
    let reveal: Vec<_> = REVEALED
        .iter()
        .map(|(key, value)| {
            json!({"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                   "keep_empty_value": true})
        })
        .collect();
    json!({
        "@type": format!("{TYPE}envoy.config.route.v3.RouteConfiguration"),
        "name": name, "virtual_hosts": hosts, "validate_clusters": false, "ignore_port_in_host_matching": true,
        "response_headers_to_add": reveal
    })
}

// buildCatchAllVirtualHost
fn catch_all(registry_only: bool) -> Value {
    let route = if registry_only {
        json!({"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}})
    } else {
        json!({"name": "allow_any", "match": {"prefix": "/"},
               "route": {"cluster": PASSTHROUGH, "timeout": "0s", "max_grpc_timeout": "0s"}})
    };
    json!({"name": "catch_all", "domains": ["*"], "include_request_attempt_count": true, "routes": [route]})
}

/// Response headers in which Envoy says what it decided.
pub(crate) const REVEALED: [(&str, &str); 5] = [
    ("x-o-route", "%ROUTE_NAME%"),
    ("x-o-cluster", "%UPSTREAM_CLUSTER%"),
    ("x-o-flags", "%RESPONSE_FLAGS%"),
    ("x-o-details", "%RESPONSE_CODE_DETAILS%"),
    ("x-o-attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
];

fn virtual_host(host: &VirtualHost) -> Value {
    let routes: Vec<_> = host.routes.iter().map(|one| route(one, host.port)).collect();
    json!({"name": host.domains[0], "domains": host.domains, "routes": routes, "include_request_attempt_count": true})
}

// TranslateRouteMatch
fn route_match(entry: Option<&Match>) -> Value {
    let Some(entry) = entry else { return json!({"prefix": "/"}) };
    let mut to = Map::new();
    match &entry.uri {
        None => to.insert("prefix".into(), json!("/")),
        Some(Text::Exact(path)) => to.insert("path".into(), json!(path)),
        Some(Text::Prefix(prefix)) => to.insert("prefix".into(), json!(prefix)),
        Some(Text::Regex(pattern)) => to.insert("safe_regex".into(), json!({"regex": pattern.regex})),
        Some(Text::Present | Text::Star) => unreachable!("a path is always present"),
    };
    if entry.ignore_case && matches!(entry.uri, Some(Text::Exact(_) | Text::Prefix(_))) {
        to.insert("case_sensitive".into(), json!(false));
    }
    let mut headers = Vec::new();
    for (name, value) in [(":method", &entry.method), (":authority", &entry.authority), (":scheme", &entry.scheme)] {
        headers.extend(value.as_ref().map(|value| named(name, value)));
    }
    headers.extend(entry.headers.iter().map(|(name, value)| named(&name.to_lowercase(), value)));
    for (name, value) in &entry.without {
        let mut matcher = named(&name.to_lowercase(), value);
        matcher["invert_match"] = json!(true);
        if !matches!(value, Text::Present | Text::Star) {
            matcher["treat_missing_header_as_empty"] = json!(true);
        }
        headers.push(matcher);
    }
    if !headers.is_empty() {
        to.insert("headers".into(), headers.into());
    }
    if !entry.query.is_empty() {
        to.insert("query_parameters".into(), entry.query.iter().map(|(name, value)| named(name, value)).collect());
    }
    to.into()
}

/// A HeaderMatcher or a QueryParameterMatcher: they look alike.
fn named(name: &str, value: &Text) -> Value {
    match value {
        Text::Exact(value) => json!({"name": name, "string_match": {"exact": value}}),
        Text::Prefix(value) => json!({"name": name, "string_match": {"prefix": value}}),
        Text::Regex(pattern) => json!({"name": name, "string_match": {"safe_regex": {"regex": pattern.regex}}}),
        // canBeConvertedToPresentMatch
        Text::Present | Text::Star => json!({"name": name, "present_match": true}),
    }
}

// TranslateRoute
fn route(route: &Route, port: u16) -> Value {
    let Route { name, rule, entry } = route;
    let mut to = Map::from_iter([("name".into(), json!(name)), ("match".into(), route_match(entry.as_ref()))]);
    let mut route_level = vec![&rule.headers];
    match &rule.action {
        Action::Route(destinations) => {
            let mut action = Map::new();
            forward(&mut action, rule, destinations, port);
            if let [only] = &**destinations {
                // processDestination appends a single destination's operations to the route's own
                route_level.push(&only.headers);
            }
            to.insert("route".into(), action.into());
        }
        Action::Redirect(spec) => {
            to.insert("redirect".into(), redirect(spec, port));
        }
        Action::DirectResponse { status, body } => {
            let mut answer = json!({"status": status});
            if let Some(body) = body {
                answer["body"] = json!({"inline_string": body});
            }
            to.insert("direct_response".into(), answer);
        }
        Action::Delegate { .. } => unreachable!("the delegate's rules are in its place"),
    }
    let requests: Vec<_> = route_level.iter().map(|headers| &headers.request).collect();
    let responses: Vec<_> = route_level.iter().map(|headers| &headers.response).collect();
    header_operations(&mut to, "request", &requests);
    header_operations(&mut to, "response", &responses);
    let mut filters = Map::new();
    if !rule.fault.is_empty() {
        filters.insert("envoy.filters.http.fault".into(), fault(&rule.fault));
    }
    if let Some(policy) = &rule.cors {
        filters.insert("envoy.filters.http.cors".into(), cors(policy));
    }
    if !filters.is_empty() {
        to.insert("typed_per_filter_config".into(), filters.into());
    }
    to.into()
}

// ApplyRedirect
fn redirect(spec: &Redirect, listener: u16) -> Value {
    let code = match spec.code {
        None | Some(301) => "MOVED_PERMANENTLY",
        Some(302) => "FOUND",
        Some(303) => "SEE_OTHER",
        Some(307) => "TEMPORARY_REDIRECT",
        Some(_) => "PERMANENT_REDIRECT",
    };
    let mut to = json!({"response_code": code});
    // "FROM_REQUEST_PORT = listener port"; no explicit :80 with http and no :443 with https, and a sidecar's listener is
    // http
    let derived = (spec.derive_port == Some("FROM_REQUEST_PORT")).then_some(listener);
    let port = spec.port.or(derived);
    let port = port.filter(|port| *port != if spec.scheme == Some("https") { 443 } else { 80 });
    for (field, value) in [
        ("path_redirect", json!(spec.uri)),
        ("prefix_rewrite", json!(spec.prefix)),
        ("host_redirect", json!(spec.authority)),
        ("scheme_redirect", json!(spec.scheme)),
        ("port_redirect", json!(port)),
    ] {
        if !value.is_null() {
            to[field] = value;
        }
    }
    to
}

// applyHTTPRouteDestination
fn forward(action: &mut Map<String, Value>, rule: &Rule, destinations: &[Destination], port: u16) {
    // setTimeout: grpc-timeout counts, up to the route's
    let timeout = json!(seconds(rule.timeout_ms.unwrap_or(0)));
    action.insert("timeout".into(), timeout.clone());
    action.insert("max_grpc_timeout".into(), timeout);
    match &rule.retries {
        None => {
            action.insert("retry_policy".into(), retry_policy(&Retries { attempts: 2, ..Retries::default() }));
        }
        Some(retries) if retries.attempts == 0 => {}
        Some(retries) => {
            action.insert("retry_policy".into(), retry_policy(retries));
        }
    }
    let mirrors = mirrors(rule, port);
    if !mirrors.is_empty() {
        action.insert("request_mirror_policies".into(), mirrors.into());
    }
    let rewrite = rule.rewrite.as_ref();
    if let Some(uri) = rewrite.and_then(|rewrite| rewrite.uri.as_ref()) {
        action.insert("prefix_rewrite".into(), json!(uri));
    }
    if let Some((regex, substitution)) = rewrite.and_then(|rewrite| rewrite.regex) {
        action.insert("regex_rewrite".into(), json!({"pattern": {"regex": regex}, "substitution": substitution}));
    }
    // "authority precedence": rewrite.authority > rule set > rule add > destination (only if there is none at the rule)
    let rewritten = rewrite.and_then(|rewrite| rewrite.authority.as_deref());
    let rule_authority = rewritten.or_else(|| authority(&rule.headers.request));
    if let Some(authority) = rule_authority {
        action.insert("host_rewrite_literal".into(), json!(authority));
    }
    if let [only] = destinations {
        action.insert("cluster".into(), json!(of(only, port)));
        if let (None, Some(authority)) = (rule_authority, authority(&only.headers.request)) {
            action.insert("host_rewrite_literal".into(), json!(authority));
        }
        return;
    }
    let weighted: Vec<_> = destinations
        .iter()
        .filter(|destination| destination.weight.unwrap_or(0) > 0)
        .map(|destination| {
            let mut to = Map::from_iter([
                ("name".into(), json!(of(destination, port))),
                ("weight".into(), json!(destination.weight)),
            ]);
            header_operations(&mut to, "request", &[&destination.headers.request]);
            header_operations(&mut to, "response", &[&destination.headers.response]);
            if let (None, Some(authority)) = (rule_authority, authority(&destination.headers.request)) {
                to.insert("host_rewrite_literal".into(), json!(authority));
            }
            Value::from(to)
        })
        .collect();
    action.insert("weighted_clusters".into(), json!({"clusters": weighted, "header_name": ROLL_HEADER}));
}

// TranslateRequestMirrorPolicy: not sampled, and the Host stays as it is (DISABLE_SHADOW_HOST_SUFFIX)
fn mirrors(rule: &Rule, port: u16) -> Vec<Value> {
    let share = |percent: u32| json!({"default_value": {"numerator": percent * 10_000, "denominator": "MILLION"}});
    let policy = |(percent, cluster)| {
        json!({"cluster": cluster, "trace_sampled": false, "disable_shadow_host_suffix_append": true,
               "runtime_fraction": share(percent)})
    };
    due(rule, port).map(policy).collect()
}

// MirrorPercent: all without a percentage, and at 0 % there is no mirror
fn due(rule: &Rule, port: u16) -> impl Iterator<Item = (u32, String)> {
    let due = rule.copies().filter(|mirror| mirror.percent != Some(0));
    due.map(move |mirror| (mirror.percent.unwrap_or(100), cluster(&mirror.host, None, mirror.port, port)))
}

/// The clusters that get copies of what a rule forwards.
pub(crate) fn copies(rule: &Rule, port: u16) -> impl Iterator<Item = String> {
    let forwards = matches!(rule.action, Action::Route(_));
    due(rule, port).map(|(_, cluster)| cluster).filter(move |_| forwards)
}

// GetDestinationCluster: the destination's port, else the service's single port, else the port dialled
fn cluster(host: &str, subset: Option<&str>, port: Option<u16>, dialled: u16) -> String {
    let upstream = UPSTREAMS.iter().find(|(name, _)| *host == format!("{name}.default{CLUSTER_DOMAIN}"));
    let single = upstream.and_then(|(_, ports)| match ports {
        [port] => Some(*port),
        _ => None,
    });
    clusters::cluster(port.or(single).unwrap_or(dialled), subset.unwrap_or_default(), host)
}

fn of(destination: &Destination, dialled: u16) -> String {
    cluster(&destination.host, destination.subset.as_deref(), destination.port, dialled)
}

fn is_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
}

fn authority(ops: &Operations) -> Option<&str> {
    ops.set.iter().chain(&ops.add).find(|(name, _)| is_authority(name)).map(|(_, value)| &**value)
}

// TranslateHeadersOperations: removals, then sets, then adds, each sorted by key
fn header_operations(to: &mut Map<String, Value>, direction: &str, levels: &[&Operations]) {
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for ops in levels {
        remove.extend(ops.remove.iter().cloned());
        for (pairs, action) in [(&ops.set, "OVERWRITE_IF_EXISTS_OR_ADD"), (&ops.add, "APPEND_IF_EXISTS_OR_ADD")] {
            let sorted: BTreeMap<_, _> = pairs.iter().cloned().collect();
            for (key, value) in sorted.into_iter().filter(|(key, _)| !is_authority(key)) {
                add.push(json!({"header": {"key": key, "value": value}, "append_action": action}));
            }
        }
    }
    if !add.is_empty() {
        to.insert(format!("{direction}_headers_to_add"), add.into());
    }
    if !remove.is_empty() {
        to.insert(format!("{direction}_headers_to_remove"), remove.into());
    }
}

/// A protobuf duration.
pub(crate) fn seconds(ms: u64) -> String {
    format!("{}.{:03}s", ms / 1000, ms % 1000)
}
