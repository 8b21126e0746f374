//! The network as a parameter: connecting and listening go through one seam each, so that the whole mesh runs
//! unchanged on a simulated network. (Resolving is [`mesh_core::registry::Resolve`].)

mod attentive;

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin};

use mesh_lb::TcpKeepalive;
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

    /// The same, with TCP keep-alive where a DestinationRule asks for it, and with the address it is made from where that
    /// is known. By default a network has neither.
    ///
    /// # Errors
    /// When no connection can be made.
    fn open<'a>(
        &'a self,
        address: SocketAddr,
        _keepalive: Option<&'a TcpKeepalive>,
    ) -> BoxFuture<'a, io::Result<Opened>> {
        Box::pin(async move { Ok(Opened { io: self.connect(address).await?, local: None }) })
    }
}

/// A connection that was made.
#[allow(clippy::exhaustive_structs, reason = "whoever brings a network makes it")]
pub struct Opened {
    /// Its bytes.
    pub io: BoxIo,
    /// This end of it, where that is known: the PROXY protocol tells it.
    pub local: Option<SocketAddr>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("local", &self.local).finish_non_exhaustive()
    }
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
        Box::pin(async move { Ok(self.open(address, None).await?.io) })
    }

    fn open<'a>(
        &'a self,
        address: SocketAddr,
        keepalive: Option<&'a TcpKeepalive>,
    ) -> BoxFuture<'a, io::Result<Opened>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            if let Some(keepalive) = keepalive {
                keep_alive(&stream, keepalive)?;
            }
            let local = stream.local_addr().ok();
            Ok(Opened { io: Box::new(Attentive::new(stream)), local })
        })
    }
}

fn keep_alive(stream: &TcpStream, asked: &TcpKeepalive) -> io::Result<()> {
    let mut options = socket2::TcpKeepalive::new();
    if let Some(time) = asked.time {
        options = options.with_time(time);
    }
    if let Some(interval) = asked.interval {
        options = options.with_interval(interval);
    }
    if let Some(probes) = asked.probes {
        options = options.with_retries(probes);
    }
    let socket = socket2::SockRef::from(stream);
    // On its own, so that it holds where no detail is given.
    socket.set_keepalive(true)?;
    socket.set_tcp_keepalive(&options)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// istio TCPSettings.TcpKeepalive: "Default is to use the OS level configuration".
    #[tokio::test]
    async fn keep_alive_is_what_is_asked_and_the_systems_for_the_rest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = socket2::SockRef::from(&stream);
        let (interval, probes) = (socket.tcp_keepalive_interval().unwrap(), socket.tcp_keepalive_retries().unwrap());
        assert!(!socket.keepalive().unwrap());
        let mut asked = TcpKeepalive::default();
        asked.time = Some(Duration::from_secs(77));
        keep_alive(&stream, &asked).unwrap();
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
        assert_eq!(
            (socket.tcp_keepalive_interval().unwrap(), socket.tcp_keepalive_retries().unwrap()),
            (interval, probes)
        );
        (asked.interval, asked.probes) = (Some(Duration::from_secs(5)), Some(3));
        keep_alive(&stream, &asked).unwrap();
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }
}
