//! Mesh identity on connections that others make to us.
//!
//! The mode says what a connection may be; its first bytes say what it is. Once TLS is chosen there is no way back to
//! plaintext, and a TLS client always proves an identity, in PERMISSIVE too.

mod prefixed;
mod sniff;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

use mesh_core::identity::PeerIdentity;
use rustls::HandshakeKind;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use prefixed::Prefixed;
use sniff::{Speaks, classify};

use crate::{
    Alpn, IdentityHandle, PeerAuthMode, Rejected,
    verify::{identify, rejection},
};

/// Mutual TLS with mesh identity, for those who connect. Clones share the identity.
#[derive(Clone, Debug)]
pub struct Acceptor {
    identity: IdentityHandle,
    first_byte: Duration,
    handshake: Duration,
}

/// A connection that the mode allows.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one per connection, taken apart at once")]
pub enum Accepted<IO> {
    /// Mutual TLS.
    Mtls {
        /// The encrypted stream.
        stream: TlsStream<Prefixed<IO>>,
        /// Who has connected.
        peer: PeerIdentity,
        /// The protocol agreed on; `None` when the client offered none.
        protocol: Option<Alpn>,
        /// The name that the client asked for (SNI): its choice, never identity.
        server_name: Option<Arc<str>>,
    },
    /// Plaintext: nobody has proved anything.
    Plain {
        /// The stream.
        stream: Prefixed<IO>,
    },
}

/// Why a connection was closed before its first request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// It was closed before it said anything: a port check, most likely.
    #[error("closed before the first byte")]
    Closed,
    /// It said nothing in time.
    #[error("no first byte within {0:?}")]
    Silent(Duration),
    /// Plaintext, and the mode is STRICT.
    #[error("plaintext, and STRICT mutual TLS is required")]
    Plaintext,
    /// Neither TLS nor HTTP.
    #[error("neither TLS nor HTTP")]
    UnknownProtocol,
    /// Our own certificate has expired.
    #[error("our own certificate has expired")]
    OwnIdentityExpired,
    /// The client's certificate was refused.
    #[error("the client's certificate was refused: {0}")]
    Peer(#[from] Rejected),
    /// The handshake took too long.
    #[error("no TLS handshake within {0:?}")]
    HandshakeTimeout(Duration),
    /// The handshake was resumed, which we never offer.
    #[error("the client resumed a session that we did not offer")]
    Resumed,
    /// The handshake failed otherwise: the transport, or an alert of the client's.
    #[error("TLS handshake: {0}")]
    Handshake(#[source] io::Error),
    /// The transport failed before the handshake.
    #[error("reading the first byte: {0}")]
    Io(#[source] io::Error),
}

impl Acceptor {
    /// With the identity of this handle, whichever is in force when a connection comes.
    ///
    /// A connection has 5 s for its first byte and 10 s for the handshake: without limits, connections that say
    /// nothing cost memory for ever.
    #[must_use]
    pub fn new(identity: IdentityHandle) -> Self {
        Self { identity, first_byte: Duration::from_secs(5), handshake: Duration::from_secs(10) }
    }

    /// With other limits on the wait for the first byte and for the handshake.
    #[must_use]
    pub fn with_timeouts(self, first_byte: Duration, handshake: Duration) -> Self {
        Self { first_byte, handshake, ..self }
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &IdentityHandle {
        &self.identity
    }

    /// Take a connection in, or refuse it by dropping `io`.
    ///
    /// # Errors
    /// What the mode or the handshake refuses.
    pub async fn accept<IO>(&self, io: IO, mode: PeerAuthMode) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = Prefixed::new(io);
        if mode == PeerAuthMode::Disable {
            return Ok(Accepted::Plain { stream });
        }
        let speaks =
            timeout(self.first_byte, listen(&mut stream)).await.map_err(|_| AcceptError::Silent(self.first_byte))??;
        match (speaks, mode) {
            (Speaks::Tls, _) => self.shake_hands(stream).await,
            (Speaks::Plaintext, PeerAuthMode::Permissive) => Ok(Accepted::Plain { stream }),
            (Speaks::Plaintext, _) => Err(AcceptError::Plaintext),
            (Speaks::Unknown, _) => Err(AcceptError::UnknownProtocol),
        }
    }

    async fn shake_hands<IO>(&self, stream: Prefixed<IO>) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let credentials = self.identity.current();
        if credentials.identity().expired(mesh_core::clock::wall()) {
            return Err(AcceptError::OwnIdentityExpired);
        }
        let acceptor = TlsAcceptor::from(Arc::clone(credentials.server_config()));
        let stream = timeout(self.handshake, acceptor.accept(stream))
            .await
            .map_err(|_| AcceptError::HandshakeTimeout(self.handshake))?
            .map_err(|error| rejection(&error).map_or(AcceptError::Handshake(error), AcceptError::Peer))?;
        let (_, connection) = stream.get_ref();
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            return Err(AcceptError::Resumed);
        }
        let peer = identify(connection.peer_certificates().unwrap_or_default())?;
        let protocol = connection.alpn_protocol().and_then(Alpn::from_wire);
        let server_name = connection.server_name().map(Arc::from);
        Ok(Accepted::Mtls { stream, peer, protocol, server_name })
    }
}

/// Read until it is clear what the connection speaks: one byte, or two.
async fn listen<IO: AsyncRead + Unpin>(stream: &mut Prefixed<IO>) -> Result<Speaks, AcceptError> {
    loop {
        if let Some(speaks) = classify(stream.head()) {
            return Ok(speaks);
        }
        if stream.read_head().await.map_err(AcceptError::Io)? == 0 {
            return Err(AcceptError::Closed);
        }
    }
}
