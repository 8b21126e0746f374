//! `redirect`: where else to ask.
//!
//! istio networking/v1alpha3 HTTPRedirect, as Istio translates it for Envoy (istio route.go ApplyRedirect) and as Envoy
//! makes a `location` of it: always absolute, from the request as far as the rule is silent.

use std::{fmt::Write as _, sync::Arc};

use http::StatusCode;
use serde::Deserialize;

use crate::{
    RequestHead,
    head::split_port,
    rewrite::{PathModifier, PathRewrite},
    string_match::StringMatch,
};

/// `redirect` as YAML has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RedirectSpec {
    uri: String,
    prefix_rewrite: String,
    authority: String,
    port: Option<i64>,
    derive_port: Option<DerivePort>,
    scheme: String,
    redirect_code: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum DerivePort {
    FromProtocolDefault,
    FromRequestPort,
}

/// A rule's `redirect`, before it is known what was matched.
#[derive(Clone, Debug)]
pub(crate) struct RedirectRule {
    redirect: Redirect,
    prefix: Option<Arc<str>>,
}

/// Where requests are sent instead.
#[derive(Clone, Debug)]
pub struct Redirect {
    status: StatusCode,
    scheme: Option<Arc<str>>,
    authority: Option<Arc<str>>,
    port: Option<Port>,
    path: NewPath,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Number(u16),
    OfRequest,
}

#[derive(Clone, Debug)]
enum NewPath {
    Same,
    Other(Arc<str>),
    Rewritten(PathRewrite),
}

impl RedirectSpec {
    /// Compile; errors are (field below `redirect`, Istio's message).
    pub(crate) fn compile(&self) -> Result<RedirectRule, (&'static str, String)> {
        let some = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        let port = match (self.port, self.derive_port) {
            (Some(_), Some(_)) => return Err(("", "only one of port and derivePort may be set".into())),
            (None, None | Some(DerivePort::FromProtocolDefault)) => None,
            (None, Some(DerivePort::FromRequestPort)) => Some(Port::OfRequest),
            (Some(port), None) => {
                let message = || ("port", format!("port number {port} must be in the range 1..65535"));
                Some(Port::Number(u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(message)?))
            }
        };
        let says = [&self.uri, &self.prefix_rewrite, &self.authority, &self.scheme].iter().any(|s| !s.is_empty());
        if !says && self.port.is_none() && self.derive_port.is_none() {
            return Err(("", "redirect must specify URI, authority, scheme, or port".into()));
        }
        if !self.uri.is_empty() && !self.prefix_rewrite.is_empty() {
            return Err(("", "redirect may only specify one of uri or prefix_rewrite".into()));
        }
        if !matches!(&*self.scheme, "" | "http" | "https") {
            return Err(("scheme", "invalid redirect scheme, must be \"http\" or \"https\"".into()));
        }
        let redirect = Redirect {
            status: status(self.redirect_code).map_err(|message| ("redirectCode", message))?,
            scheme: some(&self.scheme),
            authority: some(&self.authority),
            port,
            path: some(&self.uri).map_or(NewPath::Same, NewPath::Other),
        };
        Ok(RedirectRule { redirect, prefix: some(&self.prefix_rewrite) })
    }
}

/// Istio accepts every 3xx and makes a route without an action of those that Envoy does not know; here they are
/// refused.
fn status(code: i64) -> Result<StatusCode, String> {
    match code {
        0 | 301 => Ok(StatusCode::MOVED_PERMANENTLY),
        302 => Ok(StatusCode::FOUND),
        303 => Ok(StatusCode::SEE_OTHER),
        307 => Ok(StatusCode::TEMPORARY_REDIRECT),
        308 => Ok(StatusCode::PERMANENT_REDIRECT),
        300..=399 => Err(format!("redirect code {code} is not one of 301, 302, 303, 307 and 308")),
        _ => Err(format!("{code} is not a valid redirect code, must be 3xx")),
    }
}

impl RedirectRule {
    /// A Gateway API route's RequestRedirect filter.
    ///
    /// istio createRedirectFilter: without a port it is the scheme's own where there is a scheme, else the request's.
    pub(crate) fn of_gateway(
        status: StatusCode,
        scheme: Option<Arc<str>>,
        authority: Option<Arc<str>>,
        port: Option<u16>,
        path: Option<PathModifier>,
    ) -> Self {
        let port = match port {
            Some(port) => Some(Port::Number(port)),
            None if scheme.is_some() => None,
            None => Some(Port::OfRequest),
        };
        let (path, prefix) = match path {
            None => (NewPath::Same, None),
            Some(PathModifier::ReplaceFullPath(path)) => (NewPath::Other(path), None),
            Some(PathModifier::ReplacePrefixMatch(prefix)) => (NewPath::Same, Some(prefix)),
        };
        Self { redirect: Redirect { status, scheme, authority, port, path }, prefix }
    }

    /// The redirect of requests that were let in by this match on the URI.
    pub(crate) fn matched(&self, uri: Option<&StringMatch>) -> Redirect {
        let mut redirect = self.redirect.clone();
        if let Some(prefix) = &self.prefix {
            redirect.path = NewPath::Rewritten(PathRewrite::new(prefix, uri));
        }
        redirect
    }
}

impl Redirect {
    /// Status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The `location` for a request. Bytes, because a path may have any.
    #[must_use]
    pub fn location(&self, head: &RequestHead<'_>) -> Vec<u8> {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme);
        let port = self.port.map(|port| match port {
            Port::Number(port) => port,
            Port::OfRequest => head.port,
        });
        // istio ApplyRedirect: no explicit :80 with http and no :443 with https; a sidecar's listener is http. A port
        // left out so counts as not given: one that the Host header has stays.
        let port = port.filter(|port| *port != if self.scheme.as_deref() == Some("https") { 443 } else { 80 });
        let host = match &self.authority {
            Some(authority) => authority,
            None => own_host(head, scheme, port.is_some()),
        };
        let mut location = format!("{scheme}://{host}");
        if let Some(port) = port {
            let _ = write!(location, ":{port}");
        }
        let mut location = location.into_bytes();
        match &self.path {
            NewPath::Same => location.extend_from_slice(head.path.as_bytes()),
            NewPath::Other(path) => location.extend_from_slice(path.as_bytes()),
            NewPath::Rewritten(rewrite) => location.extend_from_slice(&rewrite.apply(&head.path)),
        }
        // measured on Envoy 1.40 (t2): the query stays, unless the new path brings its own.
        let brings_query = matches!(&self.path, NewPath::Other(path) if path.contains('?'));
        if let Some(query) = head.query.filter(|_| !brings_query) {
            location.push(b'?');
            location.extend_from_slice(query.as_bytes());
        }
        location
    }
}

/// The request's own host, as sent. Its port goes when there is a new one, or when the scheme changes and the port is
/// the old scheme's default: measured on Envoy 1.40 (t2), `rd.test:80` loses it and `rd.test:8081` does not.
fn own_host<'a>(head: &RequestHead<'a>, scheme: &str, new_port: bool) -> &'a str {
    let (host, port) = split_port(head.authority);
    let default = if head.scheme == "https" { 443 } else { 80 };
    let goes = new_port || (scheme != head.scheme && port == Some(default));
    if goes { host } else { head.authority }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use mesh_core::path::PathNormalization;

    use super::*;

    fn exact() -> Option<StringMatch> {
        Some(StringMatch::Exact("/".into()))
    }

    // istio.md 1.2: "Location is absolute; query kept unless new path contains `?`"
    #[test]
    fn location_is_envoys() {
        // measured on Envoy 1.40 (t2, redirect), row by row; the last rows are istio ApplyRedirect's.
        let of = |change: fn(&mut RedirectSpec)| {
            let mut spec = RedirectSpec::default();
            change(&mut spec);
            spec
        };
        let p = of(|spec| spec.uri = "/newp".into());
        let pq = of(|spec| spec.uri = "/newp?x=1".into());
        let h = of(|spec| spec.authority = "other.test".into());
        let s = of(|spec| spec.scheme = "https".into());
        let hp = of(|spec| (spec.authority, spec.port) = ("other.test".into(), Some(9999)));
        let port = of(|spec| spec.port = Some(8443));
        let pf = of(|spec| spec.prefix_rewrite = "/np".into());
        let ps = of(|spec| (spec.prefix_rewrite, spec.authority) = ("/".into(), "foo.example.com".into()));
        let derived = of(|spec| spec.derive_port = Some(DerivePort::FromRequestPort));
        let default = of(|spec| spec.derive_port = Some(DerivePort::FromProtocolDefault));
        let port80 = of(|spec| spec.port = Some(80));
        let s443 = of(|spec| (spec.scheme, spec.port) = ("https".into(), Some(443)));
        let s80 = of(|spec| (spec.scheme, spec.port) = ("https".into(), Some(80)));
        let prefix = |text: &str| Some(StringMatch::Prefix(text.into()));
        let any = Some(StringMatch::Regex(Arc::new(crate::re2::compile("/redre.*").unwrap())));
        for (spec, matched, uri, location) in [
            (&p, exact(), "http://rd.test/p", "http://rd.test/newp"),
            (&p, exact(), "http://rd.test/p?a=1", "http://rd.test/newp?a=1"),
            (&pq, exact(), "http://rd.test/pq?a=1", "http://rd.test/newp?x=1"),
            (&pq, exact(), "http://rd.test/pq", "http://rd.test/newp?x=1"),
            (&h, exact(), "http://rd.test/h?a=1", "http://other.test/h?a=1"),
            (&hp, exact(), "http://rd.test/hp", "http://other.test:9999/hp"),
            (&s, exact(), "http://rd.test/s", "https://rd.test/s"),
            (&port, exact(), "http://rd.test/port", "http://rd.test:8443/port"),
            (&pf, prefix("/pf"), "http://rd.test/pf", "http://rd.test/np"),
            (&pf, prefix("/pf"), "http://rd.test/pf/x?a=1", "http://rd.test/np/x?a=1"),
            (&pf, prefix("/pf"), "http://rd.test/pfx", "http://rd.test/npx"),
            (&ps, prefix("/ps/"), "http://rd.test/ps/bar?z=1", "http://foo.example.com/bar?z=1"),
            (&p, exact(), "http://rd.test:8081/p", "http://rd.test:8081/newp"),
            (&h, exact(), "http://rd.test:8081/h", "http://other.test/h"),
            (&hp, exact(), "http://rd.test:8081/hp", "http://other.test:9999/hp"),
            (&s, exact(), "http://rd.test:8081/s", "https://rd.test:8081/s"),
            (&port, exact(), "http://rd.test:8081/port", "http://rd.test:8443/port"),
            (&pf, prefix("/pf"), "http://rd.test:8081/pf/x", "http://rd.test:8081/np/x"),
            (&s, exact(), "http://rd.test:80/s", "https://rd.test/s"),
            (&h, exact(), "http://rd.test:80/h", "http://other.test/h"),
            (&h, exact(), "https://rd.test/h", "https://other.test/h"),
            (&s, exact(), "http://RD.test/s", "https://RD.test/s"),
            // measured on Envoy 1.40: an exact match, a regex, and no match on the path at all
            (&pf, exact(), "http://a.test:80/redp?a=1", "http://a.test:80/np?a=1"),
            (&pf, any, "http://a.test:80/redre/a?b", "http://a.test:80/np?b"),
            (&pf, None, "http://a.test:80/a/../%61?b", "http://a.test:80/npa?b"),
            // "`/` on `/ns` => `//x`"
            (&of(|spec| spec.prefix_rewrite = "/".into()), prefix("/ns"), "http://a/ns/x", "http://a//x"),
            // "`derivePort: FROM_REQUEST_PORT` = listener port"
            (&derived, exact(), "http://10.0.0.1:8081/a", "http://10.0.0.1:8081/a"),
            (&derived, exact(), "http://rd.test/a", "http://rd.test/a"),
            (&default, exact(), "http://rd.test:8081/a", "http://rd.test:8081/a"),
            // "`port:80/443` elided when default for scheme"
            (&port80, exact(), "http://rd.test/a", "http://rd.test/a"),
            (&s443, exact(), "http://rd.test/a", "https://rd.test/a"),
            (&s80, exact(), "http://rd.test/a", "https://rd.test:80/a"),
            (&s, exact(), "http://[::1]:80/a", "https://[::1]/a"),
        ] {
            let request = Request::get(uri).body(()).unwrap();
            let head = RequestHead::new(&request, PathNormalization::Base).unwrap();
            let redirect = spec.compile().unwrap().matched(matched.as_ref());
            assert_eq!(String::from_utf8(redirect.location(&head)).unwrap(), location, "{uri} {spec:?}");
            assert_eq!(redirect.status(), 301);
        }
    }

    // istio.md 1.2: "301 default; allowed 301/302/303/307/308"
    #[test]
    fn refuses_what_istio_refuses() {
        let uri = || RedirectSpec { uri: "/a".into(), ..RedirectSpec::default() };
        for (spec, message) in [
            (RedirectSpec::default(), "redirect must specify URI, authority, scheme, or port"),
            (RedirectSpec { redirect_code: 200, ..uri() }, "200 is not a valid redirect code, must be 3xx"),
            (
                RedirectSpec { redirect_code: 304, ..uri() },
                "redirect code 304 is not one of 301, 302, 303, 307 and 308",
            ),
            (RedirectSpec { scheme: "ftp".into(), ..uri() }, "invalid redirect scheme, must be \"http\" or \"https\""),
            (
                RedirectSpec { prefix_rewrite: "/b".into(), ..uri() },
                "redirect may only specify one of uri or prefix_rewrite",
            ),
            (RedirectSpec { port: Some(0), ..uri() }, "port number 0 must be in the range 1..65535"),
        ] {
            assert_eq!(spec.compile().unwrap_err().1, message);
        }
        for code in [301, 302, 303, 307, 308] {
            let redirect = RedirectSpec { redirect_code: code, ..uri() }.compile().unwrap().matched(None);
            assert_eq!(i64::from(redirect.status().as_u16()), code);
        }
    }
}
