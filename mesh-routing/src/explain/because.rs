//! Conditions that do not hold, in words.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName};
use mesh_core::Workload;

use crate::{
    RequestHead,
    matcher::{Named, RouteMatch, Unmet},
    string_match::StringMatch,
};

/// The condition of an entry that a request does not meet.
pub(super) fn unmet(matcher: &RouteMatch, unmet: Unmet<'_>, head: &RequestHead<'_>) -> String {
    let plain = |what, wanted, found| format!("{what}: {}, found {found:?}", text(wanted));
    match unmet {
        Unmet::Port(port) => wrong_port(port, head.port),
        Unmet::Uri(uri) => {
            let case = if matcher.ignore_uri_case { " (in any case)" } else { "" };
            format!("uri {}{case} does not match path {:?}", text(uri), head.path)
        }
        Unmet::Method(method) => plain("method", method, head.method),
        Unmet::Scheme(scheme) => plain("scheme", scheme, head.scheme),
        Unmet::Authority(authority) => plain("authority", authority, head.authority),
        Unmet::Header(condition) => {
            let wanted = condition.value.as_ref().map_or_else(|| "must be present".to_owned(), text);
            format!("header {}: {wanted}, {}", condition.name, found(condition, head.headers))
        }
        Unmet::WithoutHeader(condition) => match &condition.value {
            // measured on Envoy 1.40 (t10): in withoutHeaders a missing header counts as an empty one.
            Some(value) if !head.headers.contains_key(&condition.name) => {
                format!("withoutHeaders {}: {}, absent, which counts as empty", condition.name, text(value))
            }
            Some(value) => {
                let found = found(condition, head.headers);
                format!("withoutHeaders {}: {}, {found}", condition.name, text(value))
            }
            None => format!("withoutHeaders {}: must be absent, {}", condition.name, found(condition, head.headers)),
        },
        Unmet::Query(condition) => {
            let wanted = condition.value.as_ref().map_or_else(|| "must be present".to_owned(), text);
            let found = head.query_parameter(&condition.name);
            let found = found.map_or_else(|| "absent".to_owned(), |value| format!("found {value:?}"));
            format!("query parameter {}: {wanted}, {found}", condition.name)
        }
    }
}

/// What keeps an entry out of the table of this port and this client.
pub(super) fn not_here(
    matcher: &RouteMatch,
    port: Option<u16>,
    client: &Workload,
    head: &RequestHead<'_>,
) -> Option<String> {
    if let Some(wanted) = matcher.port.filter(|wanted| Some(*wanted) != port) {
        return Some(wrong_port(wanted, head.port));
    }
    let source = &matcher.source;
    if source.admits(client) {
        return None;
    }
    if source.mesh_gateway == Some(false) {
        return Some(format!("gateways: {}, and \"mesh\" is not among them", source.gateways.join(", ")));
    }
    for (key, wanted) in source.labels.iter() {
        let found = client.labels.get(key);
        if found != Some(wanted) {
            let found = found.map_or_else(|| "the client has none".to_owned(), |found| format!("found {found:?}"));
            return Some(format!("sourceLabels {key}: {wanted:?}, {found}"));
        }
    }
    let namespace = source.namespace.as_deref().unwrap_or_default();
    Some(format!("sourceNamespace: {namespace:?}, found {:?}", client.namespace))
}

pub(super) fn wrong_port(wanted: u16, found: u16) -> String {
    format!("port: {wanted}, found {found}")
}

fn text(wanted: &StringMatch) -> String {
    match wanted {
        StringMatch::Exact(text) => format!("exact {text:?}"),
        StringMatch::Prefix(text) => format!("prefix {text:?}"),
        StringMatch::Segments(text) => format!("path prefix {:?}", if text.is_empty() { "/" } else { text }),
        StringMatch::Regex(regex) => format!("regex {:?}", regex.text()),
    }
}

fn found(condition: &Named<HeaderName>, headers: &HeaderMap) -> String {
    let mut values = headers.get_all(&condition.name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(first) = values.next() else { return "absent".into() };
    let mut list = format!("found {first:?}");
    for value in values {
        let _ = write!(list, " and {value:?}");
    }
    list
}
