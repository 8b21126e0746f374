//! What a policy may know about a request.

use http::{Request, header::HOST};
use mesh_core::{
    Connection,
    identity::{PeerIdentity, SpiffeId},
};

/// A canonical request, as policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestView<'a> {
    /// The verified peer; `None` on plaintext.
    pub peer: Option<&'a SpiffeId>,
    /// The connection's addresses, where the server gave them.
    pub connection: Option<Connection>,
    /// Method, upper-case.
    pub method: &'a str,
    /// Host as sent, with its port where it has one.
    pub host: Option<&'a str>,
    /// Canonical path, without the query.
    pub path: &'a str,
}

impl<'a> RequestView<'a> {
    /// A request of which only this is known; set the other fields as they are.
    #[must_use]
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self { peer: None, connection: None, method, host: None, path }
    }

    /// Look at a canonical request. Identity is read from the extensions and from nowhere else.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        let uri = request.uri();
        let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
        Self {
            peer: request.extensions().get::<PeerIdentity>().map(PeerIdentity::id),
            connection: request.extensions().get::<Connection>().copied(),
            method: request.method().as_str(),
            host: uri.authority().map(http::uri::Authority::as_str).or_else(header),
            path: uri.path(),
        }
    }
}
