//! One `match` entry of a rule: conditions that are all to hold.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use mesh_core::{
    Labels, Workload,
    config::{Document, Position},
};

use crate::{RequestHead, string_match::StringMatch};

/// A condition on a header or a query parameter; without a value, its presence is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Named<K> {
    pub(crate) name: K,
    pub(crate) value: Option<StringMatch>,
}

/// A compiled HTTPMatchRequest.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteMatch {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) uri: Option<StringMatch>,
    pub(crate) ignore_uri_case: bool,
    pub(crate) scheme: Option<StringMatch>,
    pub(crate) method: Option<StringMatch>,
    pub(crate) authority: Option<StringMatch>,
    pub(crate) headers: Box<[Named<HeaderName>]>,
    pub(crate) without_headers: Box<[Named<HeaderName>]>,
    pub(crate) query: Box<[Named<Arc<str>>]>,
    pub(crate) port: Option<u16>,
    pub(crate) source: Source,
    pub(crate) at: At,
}

/// Where an entry of a list stands: its number, and its place in the file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct At {
    pub(crate) index: u32,
    pub(crate) position: Position,
}

/// What a match asks of the client, decided once when the table is compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(crate) labels: Labels,
    pub(crate) namespace: Option<Arc<str>>,
    /// The entry's own `gateways`: does the list contain `mesh`?
    pub(crate) mesh_gateway: Option<bool>,
    /// The list itself, which a delegate's is compared with.
    pub(crate) gateways: Arc<[String]>,
}

impl At {
    /// The place of a field, which is an entry of a list.
    pub(crate) fn new(document: &Document, path: &str, index: usize) -> Self {
        let position = document.spec().map_or_else(Position::default, |spec| spec.locate(path));
        Self { index: u32::try_from(index).unwrap_or(u32::MAX), position }
    }
}

/// A condition that a request does not meet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unmet<'a> {
    Port(u16),
    Uri(&'a StringMatch),
    Method(&'a StringMatch),
    Header(&'a Named<HeaderName>),
    WithoutHeader(&'a Named<HeaderName>),
    Query(&'a Named<Arc<str>>),
    Scheme(&'a StringMatch),
    Authority(&'a StringMatch),
}

impl Source {
    /// istio route.go sourceMatchHTTP: a `gateways` list decides alone; labels and namespace count without one.
    pub(crate) fn admits(&self, client: &Workload) -> bool {
        self.mesh_gateway.unwrap_or_else(|| {
            client.labels.contains_all(&self.labels) && self.namespace.as_ref().is_none_or(|ns| *ns == client.namespace)
        })
    }
}

impl RouteMatch {
    /// Does a request match? Pure, and allocates nothing.
    pub(crate) fn matches(&self, head: &RequestHead<'_>) -> bool {
        self.unmet(head).is_none()
    }

    /// The first condition that does not hold for a request: the one answer to whether it matches and to why not.
    pub(crate) fn unmet(&self, head: &RequestHead<'_>) -> Option<Unmet<'_>> {
        fn fails<'a>(matcher: Option<&'a StringMatch>, value: &str) -> Option<&'a StringMatch> {
            matcher.filter(|matcher| !matcher.matches(value.as_bytes()))
        }
        if let Some(port) = self.port.filter(|port| *port != head.port) {
            return Some(Unmet::Port(port));
        }
        if let Some(uri) = self.uri.as_ref().filter(|uri| !self.matches_uri(uri, head.path.as_bytes())) {
            return Some(Unmet::Uri(uri));
        }
        if let Some(method) = fails(self.method.as_ref(), head.method) {
            return Some(Unmet::Method(method));
        }
        if let Some(condition) = self.headers.iter().find(|condition| !has(condition, head.headers)) {
            return Some(Unmet::Header(condition));
        }
        if let Some(condition) = self.without_headers.iter().find(|condition| has_or_empty(condition, head.headers)) {
            return Some(Unmet::WithoutHeader(condition));
        }
        let asked = |condition: &&Named<Arc<str>>| match (&condition.value, head.query_parameter(&condition.name)) {
            (Some(value), Some(found)) => !value.matches(found.as_bytes()),
            (None, found) => found.is_none(),
            (Some(_), None) => true,
        };
        if let Some(condition) = self.query.iter().find(asked) {
            return Some(Unmet::Query(condition));
        }
        let scheme = fails(self.scheme.as_ref(), head.scheme).map(Unmet::Scheme);
        scheme.or_else(|| fails(self.authority.as_ref(), head.authority).map(Unmet::Authority))
    }

    fn matches_uri(&self, uri: &StringMatch, path: &[u8]) -> bool {
        if self.ignore_uri_case { uri.matches_ignoring_case(path) } else { uri.matches(path) }
    }

    /// istio route.go IsCatchAllRoute: prefix `/` or regex `.*` and no other condition on the request. A port that was
    /// compared when the table was compiled is none.
    pub(crate) fn is_catch_all(&self, port_settled: bool) -> bool {
        self.uri.as_ref().is_none_or(StringMatch::is_any_path) && self.asks_only_for_path(port_settled)
    }

    /// Is there no condition on the request but the path?
    pub(crate) fn asks_only_for_path(&self, port_settled: bool) -> bool {
        (port_settled || self.port.is_none())
            && self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query.is_empty()
    }
}

/// measured on Envoy 1.40 (t3): a repeated header matches if any single value does; `a,b` on one line is one value.
fn has(condition: &Named<HeaderName>, headers: &HeaderMap) -> bool {
    match &condition.value {
        None => headers.contains_key(&condition.name),
        Some(value) => {
            headers.get_all(&condition.name).iter().any(|found| value.matches(found.as_bytes().trim_ascii()))
        }
    }
}

/// measured on Envoy 1.40 (t10): in withoutHeaders a missing header counts as an empty one, so `regex: ".*"` never
/// lets a request through.
fn has_or_empty(condition: &Named<HeaderName>, headers: &HeaderMap) -> bool {
    match &condition.value {
        Some(value) if !headers.contains_key(&condition.name) => value.matches(b""),
        _ => has(condition, headers),
    }
}
