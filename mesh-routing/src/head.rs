//! What of a request the rules look at.

use std::borrow::Cow;

use http::{HeaderMap, Method, Request, header::HOST};
use mesh_core::path::{InvalidPath, PathNormalization, normalize};

/// The part of a request that routing reads: borrowed, in the form that rules match on.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    pub(crate) method: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) port: u16,
    pub(crate) path: Cow<'a, str>,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
}

impl<'a> RequestHead<'a> {
    /// Read a request.
    ///
    /// The host is the `Host` header's where there is one, as on the wire; the port is the one the URI dials, 80
    /// or 443 by scheme when it names none. The scheme that rules see is the one `x-forwarded-proto` names, where it
    /// names one (measured on Envoy 1.40, t2). A path of another form is normalised, which allocates.
    ///
    /// # Errors
    /// When the path has no normal form.
    pub fn new<B>(request: &'a Request<B>, normalization: PathNormalization) -> Result<Self, InvalidPath> {
        let head = Self::as_is(request);
        Ok(Self { path: normalize(request_path(request), normalization)?, ..head })
    }

    /// The same of a request whose path is in its normal form already.
    pub(crate) fn as_is<B>(request: &'a Request<B>) -> Self {
        let uri = request.uri();
        let scheme = uri.scheme_str().unwrap_or("http");
        let forwarded = request.headers().get("x-forwarded-proto").and_then(|proto| {
            ["http", "https"].into_iter().find(|known| known.as_bytes().eq_ignore_ascii_case(proto.as_bytes()))
        });
        let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let dialled = uri.authority().map(http::uri::Authority::as_str);
        let dialled = dialled.map(|authority| authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        let authority = header.or(dialled).unwrap_or_default().trim();
        let port = dialled.or(header).and_then(|authority| split_port(authority).1);
        Self {
            method: request.method().as_str(),
            scheme: forwarded.unwrap_or(scheme),
            authority,
            port: port.unwrap_or(if scheme == "https" { 443 } else { 80 }),
            path: Cow::Borrowed(request_path(request)),
            query: uri.query(),
            headers: request.headers(),
        }
    }

    /// The host without its port, as sent.
    #[must_use]
    pub fn host(&self) -> &'a str {
        split_port(self.authority).0
    }

    /// The port the request is for.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path that rules see.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// All of it as one URL, in the form that rules see.
    pub(crate) fn url(&self) -> String {
        let mut url = format!("{}://{}{}", self.scheme, self.authority, self.path);
        if let Some(query) = self.query {
            url.push('?');
            url.push_str(query);
        }
        url
    }

    /// The raw value of the first query parameter of this name.
    ///
    /// measured on Envoy 1.40 (t2): nothing is decoded, `;` separates nothing, `?e` and `?e=` both are empty.
    pub(crate) fn query_parameter(&self, name: &str) -> Option<&'a str> {
        self.query?
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v)
    }
}

fn request_path<B>(request: &Request<B>) -> &str {
    if request.method() == Method::CONNECT { "" } else { request.uri().path() }
}

/// `host:port`, `[::1]:port`, or a host alone.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) if port.is_empty() => (host, None),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_host_and_port() {
        for (authority, host, port) in [
            ("a:80", "a", Some(80)),
            ("a", "a", None),
            ("a:", "a", None),
            ("[::1]:80", "[::1]", Some(80)),
            ("[::1]", "[::1]", None),
            ("::1", "::1", None),
            ("a:x", "a:x", None),
        ] {
            assert_eq!(split_port(authority), (host, port), "{authority}");
        }
    }

    #[test]
    fn the_scheme_is_the_forwarded_one() {
        // measured on Envoy 1.40: `https`, `HTTPS` and `ws` in x-forwarded-proto
        for (forwarded, scheme) in [("https", "https"), ("HTTPS", "https"), ("ws", "http")] {
            let request = Request::get("http://a/").header("x-forwarded-proto", forwarded).body(()).unwrap();
            let head = RequestHead::new(&request, PathNormalization::Base).unwrap();
            assert_eq!((head.scheme, head.port), (scheme, 80), "{forwarded}");
        }
    }

    #[test]
    fn the_port_is_the_dialled_one_and_the_host_the_named_one() {
        let request = Request::get("http://10.0.0.1:9080/a").header("host", "reviews").body(()).unwrap();
        let head = RequestHead::new(&request, PathNormalization::Base).unwrap();
        assert_eq!((head.host(), head.port()), ("reviews", 9080));
        let request = Request::get("https://user@a/a").body(()).unwrap();
        let head = RequestHead::new(&request, PathNormalization::Base).unwrap();
        assert_eq!((head.host(), head.port()), ("a", 443));
        let request = Request::get("/a").header("host", "b:81").body(()).unwrap();
        let head = RequestHead::new(&request, PathNormalization::Base).unwrap();
        assert_eq!((head.host(), head.port()), ("b", 81));
    }
}
