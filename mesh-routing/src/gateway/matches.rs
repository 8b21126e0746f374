//! Matches, and which of two comes first.
//!
//! gateway API HTTPRouteRule.matches: "Proxy or Load Balancer routing configuration generated from HTTPRoutes MUST
//! prioritize matches based on the following criteria": what of a match counts is its [`Precedence`].

use http::HeaderName;

use super::{
    parser::Parser,
    spec::{GrpcMatch, GrpcMethod, HttpMatch, NamedMatch, PathMatch, PathType, ValueType},
};
use crate::{
    matcher::{Named, RouteMatch},
    string_match::{Kind, StringMatch, StringMatchSpec},
};

/// A match, and its weight among others.
#[derive(Clone, Debug)]
pub(super) struct Match {
    pub(super) precedence: Precedence,
    pub(super) matcher: RouteMatch,
}

/// The greater comes first. istio sortHTTPRoutes: exact, prefix, regex; the longer path; a method; more headers; more
/// query parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence {
    rank: u8,
    length: usize,
    method: bool,
    headers: usize,
    query: usize,
}

impl Precedence {
    /// `length` is that of the path's text.
    fn new(matcher: &RouteMatch, length: usize) -> Self {
        Self {
            rank: match &matcher.uri {
                Some(StringMatch::Exact(_)) => 3,
                Some(StringMatch::Segments(_) | StringMatch::Prefix(_)) => 2,
                Some(StringMatch::Regex(_)) => 1,
                None => 0,
            },
            length,
            method: matcher.method.is_some(),
            headers: matcher.headers.len(),
            query: matcher.query.len(),
        }
    }
}

/// A condition on the path, and the length of its text.
type Path = (StringMatch, usize);

impl Match {
    fn new(path: Option<Path>, matcher: RouteMatch) -> Self {
        let (uri, length) = path.map_or((None, 0), |(uri, length)| (Some(uri), length));
        let matcher = RouteMatch { uri, ..matcher };
        Self { precedence: Precedence::new(&matcher, length), matcher }
    }
}

impl Parser<'_> {
    pub(super) fn http_match(&mut self, at: &str, spec: &HttpMatch) -> Match {
        self.limit(&format!("{at}.headers"), spec.headers.len(), 16);
        self.limit(&format!("{at}.queryParams"), spec.query_params.len(), 16);
        let path = self.path(&format!("{at}.path"), &spec.path);
        let matcher = RouteMatch {
            method: spec.method.map(|method| StringMatch::Exact(method.as_str().into())),
            headers: self.headers_match(&format!("{at}.headers"), &spec.headers),
            // gateway API HTTPQueryParamMatch.name: "This must be an exact string match".
            query: self.named(&format!("{at}.queryParams"), &spec.query_params, |name| Ok(name.into()), |a, b| a == b),
            ..RouteMatch::default()
        };
        Match::new(path, matcher)
    }

    pub(super) fn grpc_match(&mut self, at: &str, spec: &GrpcMatch) -> Match {
        self.limit(&format!("{at}.headers"), spec.headers.len(), 16);
        let method = spec.method.as_ref().and_then(|method| self.method(&format!("{at}.method"), method));
        let headers = self.headers_match(&format!("{at}.headers"), &spec.headers);
        Match::new(method, RouteMatch { headers, ..RouteMatch::default() })
    }

    /// istio createURIMatch: a prefix without the slash at its end.
    fn path(&mut self, at: &str, spec: &PathMatch) -> Option<Path> {
        let value = spec.value.as_deref().unwrap_or("/");
        let at = format!("{at}.value");
        if value.len() > 1024 {
            self.error(at, format!("Too long: {} characters, at most 1024", value.len()));
            return None;
        }
        let path = match spec.r#type {
            PathType::RegularExpression => {
                return self.regex(at, "path", value, Kind::Uri).map(|path| (path, value.len()));
            }
            PathType::Exact => (StringMatch::Exact(value.into()), value.len()),
            PathType::PathPrefix => {
                let prefix = value.strip_suffix('/').unwrap_or(value);
                (StringMatch::Segments(prefix.into()), prefix.len().max(1))
            }
        };
        self.at(at, check_path(value)).map(|()| path)
    }

    fn regex(&mut self, at: String, field: &str, regex: &str, kind: Kind) -> Option<StringMatch> {
        let spec = StringMatchSpec { regex: Some(regex.to_owned()), ..StringMatchSpec::default() };
        self.at(at, spec.compile(field, kind)).flatten()
    }

    fn headers_match(&mut self, at: &str, specs: &[NamedMatch]) -> Box<[Named<HeaderName>]> {
        let name = |name: &str| name.parse().map_err(|_| format!("header name {name} is not a valid header name"));
        self.named(at, specs, name, |a: &str, b| a.eq_ignore_ascii_case(b))
    }

    /// gateway API HTTPHeaderMatch.name: "If multiple entries specify equivalent header names, only the first entry with
    /// an equivalent name MUST be considered for a match."
    fn named<K>(
        &mut self,
        at: &str,
        specs: &[NamedMatch],
        parse: impl Fn(&str) -> Result<K, String>,
        same: impl Fn(&str, &str) -> bool,
    ) -> Box<[Named<K>]> {
        let mut named = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let at = format!("{at}[{index}]");
            if specs[..index].iter().any(|other| other.name == spec.name) {
                self.error(format!("{at}.name"), format!("Duplicate value: {:?}", spec.name));
            } else if specs[..index].iter().any(|other| same(&other.name, &spec.name)) {
                continue;
            }
            if spec.name.is_empty() || spec.value.is_empty() {
                let field = if spec.name.is_empty() { "name" } else { "value" };
                self.error(format!("{at}.{field}"), "should be at least 1 chars long");
                continue;
            }
            let value = match spec.r#type {
                ValueType::Exact => Some(StringMatch::Exact(spec.value.as_str().into())),
                // istio canBeConvertedToPresentMatch: the regex `*` asks for presence.
                ValueType::RegularExpression => self.regex(format!("{at}.value"), "value", &spec.value, Kind::Named),
            };
            if let Some(name) = self.at(format!("{at}.name"), parse(&spec.name)) {
                named.push(Named { name, value });
            }
        }
        named.into()
    }

    /// istio createGRPCURIMatch.
    fn method(&mut self, at: &str, spec: &GrpcMethod) -> Option<Path> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (service, method) = (given(&spec.service), given(&spec.method));
        if service.is_none() && method.is_none() {
            self.error(at, "One or both of 'service' or 'method' must be specified");
            return None;
        }
        let (service, method) = (service.as_deref(), method.as_deref());
        if spec.r#type == ValueType::Exact {
            if service.is_some_and(|service| !is_grpc_service(service)) {
                let rule = r"(matching ^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)";
                self.error(format!("{at}.service"), format!("service must only contain valid characters {rule}"));
            }
            if method.is_some_and(|method| !is_identifier(method)) {
                let rule = "(matching ^[A-Za-z_][A-Za-z_0-9]*$)";
                self.error(format!("{at}.method"), format!("method must only contain valid characters {rule}"));
            }
        }
        let regex = match (spec.r#type, service, method) {
            (ValueType::Exact, Some(service), Some(method)) => {
                let path = format!("/{service}/{method}");
                return Some((StringMatch::Exact(path.as_str().into()), path.len()));
            }
            // istio TranslateRouteMatch: a prefix of a Gateway API route is one of segments.
            (ValueType::Exact, Some(service), None) => {
                let path = format!("/{service}");
                return Some((StringMatch::Segments(path.as_str().into()), path.len()));
            }
            (ValueType::RegularExpression, Some(service), Some(method)) => format!("/{service}/{method}"),
            (ValueType::RegularExpression, Some(service), None) => format!("/{service}/.+"),
            (_, None, method) => format!("/[^/]+/{}", method.unwrap_or_default()),
        };
        self.regex(at.to_owned(), "method", &regex, Kind::Uri).map(|path| (path, regex.len()))
    }
}

/// gateway API HTTPPathMatch, the rules for Exact and PathPrefix.
fn check_path(path: &str) -> Result<(), String> {
    const TYPES: &str = "when type one of ['Exact', 'PathPrefix']";
    if !path.starts_with('/') {
        return Err(format!("value must be an absolute path and start with '/' {TYPES}"));
    }
    for inside in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        if path.contains(inside) {
            return Err(format!("must not contain '{inside}' {TYPES}"));
        }
    }
    for end in ["/..", "/."] {
        if path.ends_with(end) {
            return Err(format!("must not end with '{end}' {TYPES}"));
        }
    }
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let plain = byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte);
        let mut escaped = || (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit()));
        let good = plain || (byte == b'%' && escaped());
        if !good {
            let rule = r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$";
            return Err(format!(
                "must only contain valid characters (matching {rule}) for types ['Exact', 'PathPrefix']"
            ));
        }
    }
    Ok(())
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_grpc_service(name: &str) -> bool {
    name.strip_prefix('.').unwrap_or(name).split('.').all(is_identifier)
}
