//! The network as a parameter: connecting and listening go through one seam each, so that the whole mesh runs
//! unchanged on a simulated network. (Resolving is [`mesh_core::registry::Resolve`].)

mod attentive;

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use self::attentive::Attentive;

/// A boxed future, as the seams return it: once per connection, never per request.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A byte stream of some kind.
pub type BoxIo = Box<dyn Io>;

/// Opens connections.
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Connect to an address.
    ///
    /// # Errors
    /// When no connection can be made.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>>;
}

/// Accepts connections.
pub trait Listen: Send + 'static {
    /// The next connection, with the peer's address.
    ///
    /// # Errors
    /// When accepting failed; the caller may try again.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>>;

    /// The address listened on; PeerAuthentication's ports are about it.
    ///
    /// # Errors
    /// When the listener has none any more.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// TCP, as tokio has it, without Nagle's delay. A connection that ended while it was idle says so before the next
/// request is written to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Connect for Tcp {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(Attentive::new(stream)) as BoxIo)
        })
    }
}

impl Listen for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxIo, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}
