//! Mesh identity on connections that we make.

use std::io;

use mesh_core::identity::PeerIdentity;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use std::{net::Ipv4Addr, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Alpn, Credentials, ExpectedPeer, IdentityHandle, Rejected,
    alpn::ISTIO,
    verify::{identify, rejection},
};

/// Mutual TLS with mesh identity, towards others. Clones share the identity.
#[derive(Clone, Debug)]
pub struct MeshTls {
    identity: IdentityHandle,
}

/// A connection whose server has proved who it is.
#[derive(Debug)]
#[non_exhaustive]
pub struct TlsClientStream<IO> {
    /// The encrypted stream.
    pub stream: TlsStream<IO>,
    /// Whom we talk to.
    pub peer: PeerIdentity,
    /// The generation of our identity that it was made with; part of a pool's key.
    pub generation: u64,
}

/// Why there is no connection. Nothing of the request has left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No identity is expected of the server: configuration names nobody.
    #[error("no identity is expected of the server, so none is accepted")]
    NobodyExpected,
    /// Our own certificate has expired.
    #[error("our own certificate has expired")]
    OwnIdentityExpired,
    /// The server's certificate was refused.
    #[error("the server's certificate was refused: {0}")]
    Peer(#[from] Rejected),
    /// The server chose no protocol that we configured.
    #[error("the server chose protocol {chosen:?}, expected {}", .expected.name())]
    Protocol {
        /// What it chose; empty for nothing.
        chosen: String,
        /// What the connection is for.
        expected: Alpn,
    },
    /// The handshake was resumed, which we never offer: the verifier has not seen this peer.
    #[error("the server resumed a session that we did not offer")]
    Resumed,
    /// The handshake failed otherwise: the transport, or an alert of the server's.
    #[error("TLS handshake: {0}")]
    Handshake(#[source] io::Error),
}

impl MeshTls {
    /// With the identity of this handle, whichever is in force when a connection is made.
    #[must_use]
    pub fn new(identity: IdentityHandle) -> Self {
        Self { identity }
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &IdentityHandle {
        &self.identity
    }

    /// The rustls configuration of the generation in force, for those with a connector of their own. It offers
    /// `istio` before the protocol: see [`connect`](Self::connect) on what to make of the server's choice.
    #[must_use]
    pub fn client_config(&self, expected: &ExpectedPeer, protocol: Alpn) -> Arc<ClientConfig> {
        self.identity.current().client_config(expected, protocol)
    }

    /// Shake hands over `io`. The caller bounds the time (Envoy's connect timeout covers both transport and TLS).
    ///
    /// `sni` is what Istio's gateways route by (`outbound_.9080_._.reviews.default.svc.cluster.local`) and no part of
    /// the authentication. A name that cannot stand in a ClientHello is not sent (a wildcard host, for instance).
    ///
    /// TLS 1.3 completes on our side before the server has seen our certificate. Its refusal arrives as an error of
    /// the first read.
    ///
    /// # Errors
    /// When the server is not one of `expected`, or the handshake fails in another way.
    pub async fn connect<IO>(
        &self,
        io: IO,
        sni: &str,
        expected: &ExpectedPeer,
        protocol: Alpn,
    ) -> Result<TlsClientStream<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        if expected.is_nobody() {
            return Err(TlsError::NobodyExpected);
        }
        let credentials = self.identity.current();
        if credentials.identity().expired(mesh_core::clock::wall()) {
            return Err(TlsError::OwnIdentityExpired);
        }
        let connector = TlsConnector::from(credentials.client_config(expected, protocol));
        let stream = connector
            .connect(server_name(sni), io)
            .await
            .map_err(|error| rejection(&error).map_or(TlsError::Handshake(error), TlsError::Peer))?;
        accept_outcome(stream, protocol, &credentials)
    }
}

fn accept_outcome<IO>(
    stream: TlsStream<IO>,
    protocol: Alpn,
    credentials: &Credentials,
) -> Result<TlsClientStream<IO>, TlsError> {
    let (_, connection) = stream.get_ref();
    if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        return Err(TlsError::Resumed);
    }
    // `istio` says "mesh" and leaves the protocol to configuration, as between sidecars.
    let chosen = connection.alpn_protocol().unwrap_or_default();
    if chosen != ISTIO && Alpn::from_wire(chosen) != Some(protocol) {
        let chosen = String::from_utf8_lossy(chosen).into_owned();
        return Err(TlsError::Protocol { chosen, expected: protocol });
    }
    let peer = identify(connection.peer_certificates().unwrap_or_default())?;
    Ok(TlsClientStream { peer, generation: credentials.generation(), stream })
}

/// rustls wants a name even where none is sent. Underscores, as in Istio's SNI, are fine; for what is not, an IP
/// address stands in, which has no SNI (RFC 6066 section 3). The verifier never looks at it.
fn server_name(sni: &str) -> ServerName<'static> {
    let name = ServerName::try_from(sni).map(|name| name.to_owned());
    name.unwrap_or_else(|_| ServerName::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_server_names_can_be_sent() {
        for (sni, sent) in [
            ("outbound_.9080_._.reviews.default.svc.cluster.local", true),
            ("outbound_.9080_.v1_.reviews.default.svc.cluster.local", true),
            ("outbound_.80_._.*.example.com", false),
            ("", false),
        ] {
            assert_eq!(matches!(server_name(sni), ServerName::DnsName(_)), sent, "{sni}");
        }
    }
}
