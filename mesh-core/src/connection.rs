use std::{net::SocketAddr, sync::Arc};

/// The addresses of the connection that a request came on. The server puts it into the request's extensions where
/// it accepts; policies on addresses and ports read it, and so may the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Address of the other end, as accepted: never from a header.
    pub peer: SocketAddr,
    /// Our own end; its port is the workload's.
    pub local: SocketAddr,
}

impl Connection {
    /// A connection from `peer` to `local`.
    #[must_use]
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { peer, local }
    }
}

/// The name that a TLS client asked for on a request's connection (SNI). The server puts it into the request's extensions;
/// whoever calls chooses it, so it is never identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(pub Arc<str>);
