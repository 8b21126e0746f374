//! What a policy may know about a request.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Request, header::HOST};
use mesh_core::{
    Connection, ServerName,
    identity::{PeerIdentity, RequestPrincipal, SpiffeId},
};

/// A canonical request, as policies see it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RequestView<'a> {
    /// The verified peer; `None` on plaintext.
    pub peer: Option<&'a SpiffeId>,
    /// The claims of a verified token; `None` where there was none.
    pub principal: Option<&'a RequestPrincipal>,
    /// The connection's addresses, where the server gave them.
    pub connection: Option<Connection>,
    /// The name that the TLS client asked for.
    pub sni: Option<&'a str>,
    /// Method, upper-case.
    pub method: &'a str,
    /// Host as sent, with its port where it has one.
    pub host: Option<&'a str>,
    /// Canonical path, without the query.
    pub path: &'a str,
    /// Headers as received.
    pub headers: Option<&'a HeaderMap>,
    /// Proxies in front that are trusted to append to X-Forwarded-For. Default 0.
    pub trusted_proxies: u32,
}

impl<'a> RequestView<'a> {
    /// A request of which only this is known; set the other fields as they are.
    #[must_use]
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self {
            peer: None,
            principal: None,
            connection: None,
            sni: None,
            method,
            host: None,
            path,
            headers: None,
            trusted_proxies: 0,
        }
    }

    /// Look at a canonical request. Identity is read from the extensions and from nowhere else.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        let (uri, extensions) = (request.uri(), request.extensions());
        let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
        Self {
            peer: extensions.get::<PeerIdentity>().map(PeerIdentity::id),
            principal: extensions.get(),
            connection: extensions.get::<Connection>().copied(),
            sni: extensions.get::<ServerName>().map(|name| &*name.0),
            method: request.method().as_str(),
            host: uri.authority().map(http::uri::Authority::as_str).or_else(header),
            path: uri.path(),
            headers: Some(request.headers()),
            trusted_proxies: 0,
        }
    }

    /// The client's address behind proxies: the entry of X-Forwarded-For that the outermost trusted proxy added, the
    /// connection's peer where there is none.
    ///
    /// envoy http_conn_man headers "x-forwarded-for": "If use_remote_address is false and xff_num_trusted_hops is set to a
    /// value N that is greater than zero, the trusted client address is the (N+1)th address from the right end of XFF. (If
    /// the XFF contains fewer than N+1 addresses, Envoy falls back to using the immediate downstream connection's source
    /// address as trusted client address.)" Istio's sidecars have use_remote_address off, and N = 0 by default.
    #[must_use]
    pub fn remote_ip(&self) -> Option<IpAddr> {
        let direct = self.connection.map(|connection| connection.peer.ip());
        let Some(headers) = self.headers else { return direct };
        let mut skip = self.trusted_proxies;
        for value in headers.get_all("x-forwarded-for").iter().rev() {
            // What is no address is nobody's.
            let Ok(value) = value.to_str() else { return direct };
            for entry in value.rsplit(',') {
                if skip == 0 {
                    return address(entry.trim()).or(direct);
                }
                skip -= 1;
            }
        }
        direct
    }
}

/// `1.2.3.4`, `1.2.3.4:5`, `2001:db8::1`, `[2001:db8::1]:5`.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_behind_proxies() {
        // envoy "x-forwarded-for": "the trusted client address is the (N+1)th address from the right end of XFF"
        for (forwarded, trusted_proxies, remote) in [
            (&[][..], 0, "9.9.9.9"),
            (&["1.1.1.1"], 0, "1.1.1.1"),
            (&["1.1.1.1, 2.2.2.2"], 0, "2.2.2.2"),
            (&["1.1.1.1", "2.2.2.2"], 0, "2.2.2.2"),
            (&["1.1.1.1, 2.2.2.2"], 1, "1.1.1.1"),
            (&["1.1.1.1", "2.2.2.2"], 1, "1.1.1.1"),
            (&["1.1.1.1,2.2.2.2"], 2, "9.9.9.9"),
            (&["1.1.1.1, nobody"], 0, "9.9.9.9"),
            (&["1.1.1.1, "], 0, "9.9.9.9"),
            (&["1.1.1.1:80"], 0, "1.1.1.1"),
            (&["[2001:db8::1]:80"], 0, "2001:db8::1"),
        ] {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let connection = Connection::new("9.9.9.9:1".parse().unwrap(), "8.8.8.8:2".parse().unwrap());
            let view = RequestView {
                connection: Some(connection),
                headers: Some(&headers),
                trusted_proxies,
                ..RequestView::new("GET", "/")
            };
            assert_eq!(view.remote_ip(), Some(remote.parse().unwrap()), "{forwarded:?} {trusted_proxies}");
        }
    }
}
