//! The form a request takes on a connection.

use http::{HeaderValue, Method, Request, Uri, Version, header, uri};
use mesh_core::registry::Protocol;
use mesh_lb::HttpVersion;
use mesh_tls::Alpn;

use crate::Body;

/// Which HTTP version a request travels in.
///
/// The port's declared protocol decides, as in Istio, unless the DestinationRule does; an undeclared one keeps the caller's.
/// gRPC needs HTTP/2 whatever they say, an upgrade needs HTTP/1.1.
pub(super) fn protocol<B>(request: &Request<B>, declared: Protocol, version: HttpVersion) -> Alpn {
    if request.headers().contains_key(header::UPGRADE) {
        return Alpn::H1;
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if content_type.starts_with(b"application/grpc") {
        return Alpn::H2;
    }
    match (version, declared) {
        (HttpVersion::Http2, _) => Alpn::H2,
        (HttpVersion::Declared, Protocol::Http2 | Protocol::Grpc) => Alpn::H2,
        (HttpVersion::Declared, Protocol::Http) => Alpn::H1,
        _ if request.version() == Version::HTTP_2 => Alpn::H2,
        _ => Alpn::H1,
    }
}

/// The authority a request is for: its Host header (the router may have rewritten it), else its URI's.
pub(super) fn host<B>(request: &Request<B>) -> Option<HeaderValue> {
    match request.headers().get(header::HOST) {
        Some(host) => Some(host.clone()),
        None => HeaderValue::from_str(request.uri().authority()?.as_str()).ok(),
    }
}

/// HTTP/1.1: origin form and a Host header (RFC 9112 3.2.1).
pub(super) fn to_h1(request: &mut Request<Body>) {
    if let Some(host) = host(request) {
        request.headers_mut().insert(header::HOST, host);
    }
    *request.version_mut() = Version::HTTP_11;
    if request.method() != Method::CONNECT {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| uri::PathAndQuery::from_static("/")));
    }
}

/// HTTP/2: `:scheme` and `:authority`, no connection headers (RFC 9113 8.2.2, 8.3.1).
pub(super) fn to_h2(request: &mut Request<Body>, secure: bool) {
    *request.version_mut() = Version::HTTP_2;
    let authority = host(request).and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if secure { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    parts.authority = authority.or(parts.authority);
    parts.path_and_query.get_or_insert_with(|| uri::PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h1_is_origin_form_with_a_host() {
        let mut request = Request::get("http://reviews:9080/a?b=1").body(Body::empty()).unwrap();
        to_h1(&mut request);
        assert_eq!(request.uri(), "/a?b=1");
        assert_eq!(request.headers()[header::HOST], "reviews:9080");
    }

    #[test]
    fn h2_carries_the_routers_host() {
        let mut request = Request::get("http://reviews:9080/a")
            .header("host", "other")
            .header("connection", "keep-alive")
            .header("te", "trailers")
            .body(Body::empty())
            .unwrap();
        to_h2(&mut request, true);
        assert_eq!(request.uri(), "https://other/a");
        assert!(!request.headers().contains_key(header::HOST));
        assert!(!request.headers().contains_key(header::CONNECTION));
        assert_eq!(request.headers()[header::TE], "trailers");
    }

    #[test]
    fn the_port_decides_the_protocol() {
        // istio "Protocol selection": declared by the port's name or appProtocol.
        let plain = Request::get("http://a/").body(()).unwrap();
        assert_eq!(protocol(&plain, Protocol::Http, HttpVersion::Declared), Alpn::H1);
        assert_eq!(protocol(&plain, Protocol::Http2, HttpVersion::Declared), Alpn::H2);
        assert_eq!(protocol(&plain, Protocol::Unspecified, HttpVersion::Declared), Alpn::H1);
        let h2 = Request::get("http://a/").version(Version::HTTP_2).body(()).unwrap();
        assert_eq!(protocol(&h2, Protocol::Unspecified, HttpVersion::Declared), Alpn::H2);
        assert_eq!(protocol(&h2, Protocol::Http, HttpVersion::Declared), Alpn::H1);
        // istio HTTPSettings.h2UpgradePolicy and useClientProtocol.
        assert_eq!(protocol(&plain, Protocol::Http, HttpVersion::Http2), Alpn::H2);
        assert_eq!(protocol(&plain, Protocol::Http2, HttpVersion::Requests), Alpn::H1);
        assert_eq!(protocol(&h2, Protocol::Http, HttpVersion::Requests), Alpn::H2);
        let grpc = Request::post("http://a/").header("content-type", "application/grpc").body(()).unwrap();
        assert_eq!(protocol(&grpc, Protocol::Http, HttpVersion::Declared), Alpn::H2);
        let upgrade = Request::get("http://a/").header("upgrade", "websocket").body(()).unwrap();
        assert_eq!(protocol(&upgrade, Protocol::Http2, HttpVersion::Declared), Alpn::H1);
    }
}
