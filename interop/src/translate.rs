//! A generated table as the routes that Envoy runs: what istiod makes of it, written from Istio's documentation and
//! sources, and sharing nothing with the compiler that is under test.
//!
//! Names in comments are of functions below istio `pilot/pkg/networking/core`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    istio::UPSTREAMS,
    model::{
        Abort, Action, Cors, Destination, Fault, Match, Operations, Percent, Redirect, Retries, Rule, Table, Text,
    },
};

const TYPE: &str = "type.googleapis.com/";

/// Istio's answer to a rule that says nothing about retries (retry.go, cachedDefaultPolicy).
const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// The header that fixes the weighted draw.
pub(crate) const ROLL_HEADER: &str = "x-roll";

/// The RouteConfiguration of a port.
pub(crate) fn route_configuration(name: &str, port: u16, tables: &[Table], version: &str) -> Value {
    let mut hosts: Vec<_> = tables.iter().filter_map(|table| virtual_host(table, port)).collect();
    hosts.push(json!({"name": "version", "domains": ["version.referee"], "routes": [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": version}}}]}));
    // buildCatchAllVirtualHost
    hosts.push(json!({"name": "allow_any", "domains": ["*"], "include_request_attempt_count": true, "routes": [
        {"name": "allow_any", "match": {"prefix": "/"},
         "route": {"cluster": "PassthroughCluster", "timeout": "0s", "max_grpc_timeout": "0s"}}]}));
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

/// Response headers in which Envoy says what it decided.
pub(crate) const REVEALED: [(&str, &str); 5] = [
    ("x-o-route", "%ROUTE_NAME%"),
    ("x-o-cluster", "%UPSTREAM_CLUSTER%"),
    ("x-o-flags", "%RESPONSE_FLAGS%"),
    ("x-o-details", "%RESPONSE_CODE_DETAILS%"),
    ("x-o-attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
];

fn virtual_host(table: &Table, port: u16) -> Option<Value> {
    if table.wildcard && port != 80 {
        return None; // a host that no service has gets a virtual host on port 80 only
    }
    let service = table.service();
    let full = format!("{service}.default.svc.cluster.local");
    let domains = if table.wildcard {
        vec![table.host()]
    } else {
        // generateVirtualHostDomains, GenerateAltVirtualHosts
        vec![
            full.clone(),
            format!("{full}."),
            format!("{service}.default.svc"),
            format!("{service}.default"),
            service.clone(),
        ]
    };
    let mut routes: Vec<_> = table.rules.iter().flat_map(|rule| rule_routes(rule, port)).collect();
    if routes.is_empty() {
        if table.wildcard {
            return None;
        }
        // "If every entry is filtered out statically the VS counts as absent": BuildDefaultHTTPOutboundRoute
        let action = json!({"cluster": format!("outbound|{port}||{full}"), "timeout": "0s", "max_grpc_timeout": "0s",
                            "retry_policy": retry_policy(&Retries { attempts: 2, ..Retries::default() })});
        routes.push(json!({"name": "default", "match": {"prefix": "/"}, "route": action}));
    }
    Some(json!({"name": service, "domains": domains, "routes": routes, "include_request_attempt_count": true}))
}

/// One route per `match` entry that this port admits: "OR over entries, AND inside an entry".
fn rule_routes(rule: &Rule, port: u16) -> Vec<Value> {
    if rule.matches.is_empty() {
        return vec![route(rule, rule.name.clone(), json!({"prefix": "/"}), port)];
    }
    let admitted = rule.matches.iter().enumerate().filter(|(_, entry)| entry.port.is_none_or(|only| only == port));
    admitted.map(|(index, entry)| route(rule, format!("{}.m{index}", rule.name), route_match(entry), port)).collect()
}

// TranslateRouteMatch
fn route_match(entry: &Match) -> Value {
    let mut to = Map::new();
    match &entry.uri {
        None => to.insert("prefix".into(), json!("/")),
        Some(Text::Exact(path)) => to.insert("path".into(), json!(path)),
        Some(Text::Prefix(prefix)) => to.insert("prefix".into(), json!(prefix)),
        Some(Text::Regex(pattern)) => to.insert("safe_regex".into(), json!({"regex": pattern.regex})),
        Some(Text::Present) => unreachable!("a path is always present"),
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
        if !matches!(value, Text::Present) {
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
        Text::Present => json!({"name": name, "present_match": true}),
    }
}

// TranslateRoute
fn route(rule: &Rule, name: String, matches: Value, port: u16) -> Value {
    let mut to = Map::from_iter([("name".into(), json!(name)), ("match".into(), matches)]);
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
            to.insert("redirect".into(), redirect(spec));
        }
        Action::DirectResponse { status, body } => {
            let mut answer = json!({"status": status});
            if let Some(body) = body {
                answer["body"] = json!({"inline_string": body});
            }
            to.insert("direct_response".into(), answer);
        }
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
fn redirect(spec: &Redirect) -> Value {
    let code = match spec.code {
        None | Some(301) => "MOVED_PERMANENTLY",
        Some(302) => "FOUND",
        Some(303) => "SEE_OTHER",
        Some(307) => "TEMPORARY_REDIRECT",
        Some(_) => "PERMANENT_REDIRECT",
    };
    let mut to = json!({"response_code": code});
    for (field, value) in [
        ("path_redirect", json!(spec.uri)),
        ("host_redirect", json!(spec.authority)),
        ("scheme_redirect", json!(spec.scheme)),
        ("port_redirect", json!(spec.port)),
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
        action.insert("cluster".into(), json!(cluster(only, port)));
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
                ("name".into(), json!(cluster(destination, port))),
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

// GetDestinationCluster: the destination's port, else the service's single port, else the port dialled
fn cluster(destination: &Destination, dialled: u16) -> String {
    let name = destination.host.split('.').next().unwrap_or_default();
    let single = UPSTREAMS.iter().find(|(known, _)| *known == name).and_then(|(_, ports)| match ports {
        [port] => Some(*port),
        _ => None,
    });
    let port = destination.port.or(single).unwrap_or(dialled);
    format!("outbound|{port}|{}|{name}.default.svc.cluster.local", destination.subset.as_deref().unwrap_or_default())
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

// ConvertPolicy, parseRetryOn
fn retry_policy(retries: &Retries) -> Value {
    let mut words: Vec<&str> = retries.on.iter().copied().filter(|word| word.parse::<u16>().is_err()).collect();
    let codes: Vec<u16> = retries.on.iter().filter_map(|word| word.parse().ok()).collect();
    if !codes.is_empty() && !words.contains(&"retriable-status-codes") {
        words.push("retriable-status-codes");
    }
    let on = if words.is_empty() { DEFAULT_RETRY_ON.to_owned() } else { words.join(",") };
    let previous = json!({"name": "envoy.retry_host_predicates.previous_hosts", "typed_config":
        {"@type": format!("{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")}});
    let mut policy = json!({
        "num_retries": retries.attempts, "retry_on": on, "retriable_status_codes": codes,
        "host_selection_retry_max_attempts": "5", "retry_host_predicate": [previous]
    });
    if let Some(timeout) = retries.per_try_ms {
        policy["per_try_timeout"] = json!(seconds(timeout));
    }
    if let Some(base) = retries.backoff_ms {
        policy["retry_back_off"] = json!({"base_interval": seconds(base), "max_interval": seconds(base * 10)});
    }
    policy
}

// TranslateCORSPolicy
fn cors(policy: &Cors) -> Value {
    let origins: Vec<_> = policy
        .origins
        .iter()
        .map(|origin| match origin {
            Text::Exact(value) => json!({"exact": value}),
            Text::Prefix(value) => json!({"prefix": value}),
            Text::Regex(pattern) => json!({"safe_regex": {"regex": pattern.regex}}),
            Text::Present => unreachable!("an origin is said"),
        })
        .collect();
    let mut to = json!({
        "@type": format!("{TYPE}envoy.extensions.filters.http.cors.v3.CorsPolicy"),
        "allow_origin_string_match": origins,
        "allow_methods": policy.methods.join(","),
        "allow_headers": policy.headers.join(","),
        "expose_headers": policy.expose.join(","),
        "forward_not_matching_preflights": policy.unmatched != Some("IGNORE"),
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    });
    if let Some(seconds) = policy.max_age {
        to["max_age"] = json!(seconds.to_string());
    }
    if let Some(credentials) = policy.credentials {
        to["allow_credentials"] = json!(credentials);
    }
    to
}

// TranslateFault
fn fault(fault: &Fault) -> Value {
    let share = |percent: Percent| json!({"numerator": percent.unwrap_or(0) * 10_000, "denominator": "MILLION"});
    let mut to =
        Map::from_iter([("@type".into(), json!(format!("{TYPE}envoy.extensions.filters.http.fault.v3.HTTPFault")))]);
    if let Some((delay, percent)) = &fault.delay {
        to.insert("delay".into(), json!({"fixed_delay": seconds(*delay), "percentage": share(*percent)}));
    }
    if let Some((abort, percent)) = &fault.abort {
        let mut spec = json!({"percentage": share(*percent)});
        match abort {
            Abort::Http(status) => spec["http_status"] = json!(status),
            Abort::Grpc(_, code) => spec["grpc_status"] = json!(code),
        }
        to.insert("abort".into(), spec);
    }
    to.into()
}

/// A protobuf duration.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}s", ms / 1000, ms % 1000)
}
