//! The parts of a route that say nothing about where it leads: retries, CORS, faults. As in [`translate`](crate::translate),
//! what istiod makes of them, written from Istio's documentation and sources.

use serde_json::{Map, Value, json};

use crate::{
    model::{Abort, Cors, Fault, Percent, Retries, Text},
    translate::{TYPE, seconds},
};

/// Istio's answer to a rule that says nothing about retries (retry.go, cachedDefaultPolicy).
const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

// ConvertPolicy, parseRetryOn
pub(crate) fn retry_policy(retries: &Retries) -> Value {
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
pub(crate) fn cors(policy: &Cors) -> Value {
    let origins: Vec<_> = policy
        .origins
        .iter()
        .map(|origin| match origin {
            Text::Exact(value) => json!({"exact": value}),
            Text::Prefix(value) => json!({"prefix": value}),
            Text::Regex(pattern) => json!({"safe_regex": {"regex": pattern.regex}}),
            Text::Present | Text::Star => unreachable!("an origin is said"),
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
pub(crate) fn fault(fault: &Fault) -> Value {
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
