//! Dialling: resolve, connect, secure, and start speaking HTTP.

use std::{
    future::{self, Future},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_core::{
    BoxError, EndpointAddress,
    registry::{Resolve, addresses_to_dial},
};
use mesh_lb::Transport;
use mesh_tls::{Alpn, EgressTls, MeshTls};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{OwnedMutexGuard, oneshot},
};

use super::{
    counted::Held,
    h1::{H1, Listened},
    pool::{Checkout, HostPool, PoolKey},
    proxy_protocol,
    security::Security,
};
use crate::network::{BoxIo, Connect, Opened};

/// Opens connections through the mesh's seams.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) resolve: Arc<dyn Resolve>,
    pub(crate) mesh_tls: Option<MeshTls>,
    pub(crate) egress_tls: EgressTls,
}

impl Dialer {
    /// A new connection of a pool, ready for its first request, within `timeout` (DestinationRule
    /// connectionPool.tcp.connectTimeout; TLS included).
    ///
    /// It is made in the background: of a request that is given up meanwhile, by a timeout of its attempt for instance, the
    /// connection remains, for the next one. `connecting` is let go when it is made, or has failed.
    ///
    /// envoy ConnPoolImplBase::onPendingStreamCancel: a connection that is being made stays in the pool when its stream goes
    /// (CancelPolicy::Default).
    pub(super) async fn dial(
        self: &Arc<Self>,
        pool: &Arc<HostPool>,
        protocol: Alpn,
        timeout: Duration,
        held: Option<Held>,
        connecting: Option<OwnedMutexGuard<()>>,
    ) -> Result<Checkout, BoxError> {
        let (dialer, for_pool) = (Arc::clone(self), Arc::clone(pool));
        let limited = held.is_some();
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let dialled = tokio::time::timeout(timeout, dialer.dial_within(&for_pool, protocol, held)).await;
            let dialled = dialled.unwrap_or_else(|_| Err(Self::too_late(timeout)));
            if limited && dialled.is_err() {
                for_pool.counted(protocol).fail();
            }
            drop(connecting);
            if let Err(Ok(Checkout::H1(connection))) = tell.send(dialled) {
                for_pool.welcome(connection);
            }
        });
        let mut asking = Asking { told, pool };
        let dialled = (&mut asking.told).await;
        dialled.unwrap_or_else(|_| Err("the runtime ended while a connection was made".into()))
    }

    pub(super) fn too_late(timeout: Duration) -> BoxError {
        io::Error::new(io::ErrorKind::TimedOut, format!("not connected within {timeout:?}")).into()
    }

    async fn dial_within(
        &self,
        pool: &Arc<HostPool>,
        protocol: Alpn,
        held: Option<Held>,
    ) -> Result<Checkout, BoxError> {
        let transport = &pool.key.transport;
        let io = self.connect(&pool.key.address, transport).await?;
        let io = self.secure(io, &pool.key.security, protocol).await?;
        match protocol {
            Alpn::H1 => {
                let (io, heard) = Listened::new(io, held);
                let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
                spawn_connection(connection.with_upgrades(), None);
                Ok(Checkout::H1(H1::new(sender, pool.born(), heard)))
            }
            Alpn::H2 => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.timer(TokioTimer::new()).adaptive_window(true);
                if let Some(pings) = transport.http2_keep_alive {
                    // istio HTTPSettings.http2KeepAlive is Envoy's connection_keepalive, whose PINGs need no stream.
                    builder.keep_alive_interval(pings.interval).keep_alive_timeout(pings.timeout);
                    builder.keep_alive_while_idle(true);
                }
                // envoy Http2ProtocolOptions.max_concurrent_streams: "For upstream connections, this also limits the maximum
                // number of concurrent streams that Envoy will initiate on a single connection."
                let most = transport.max_concurrent_streams.map_or(usize::MAX, |most| most.get() as usize);
                // envoy calculateInitialStreamsLimit: until its SETTINGS come, what the connections before were told.
                builder.initial_max_send_streams(pool.streams_allowed());
                let (sender, mut connection) = builder.handshake(TokioIo::new(io)).await?;
                let limit = Arc::new(AtomicUsize::new(connection.current_max_send_streams().min(most)));
                let (seen, allowed) = (Arc::clone(&limit), pool.allowed());
                spawn_connection(
                    future::poll_fn(move |cx| {
                        let polled = Pin::new(&mut connection).poll(cx);
                        let now = connection.current_max_send_streams().min(most);
                        if seen.swap(now, Ordering::Relaxed) != now {
                            allowed.store(now, Ordering::Relaxed);
                        }
                        polled
                    }),
                    held,
                );
                Ok(pool.share(sender, limit))
            }
        }
    }

    /// Connect and secure, for nothing but to know that it can be done.
    pub(super) async fn reach(&self, key: &PoolKey, protocol: Alpn) -> Result<(), BoxError> {
        let io = self.connect(&key.address, &key.transport).await?;
        self.secure(io, &key.security, protocol).await.map(drop)
    }

    async fn connect(&self, address: &EndpointAddress, transport: &Transport) -> io::Result<BoxIo> {
        match address {
            EndpointAddress::Socket(address) => self.connect_to(*address, transport).await,
            EndpointAddress::Name(host, port) => {
                let addresses = addresses_to_dial(&*self.resolve, host, *port).await?;
                self.connect_any(addresses, host, transport).await
            }
        }
    }

    async fn connect_to(&self, address: SocketAddr, transport: &Transport) -> io::Result<BoxIo> {
        let Opened { mut io, local } = self.connect.open(address, transport.tcp_keepalive.as_ref()).await?;
        if let Some(version) = transport.proxy_protocol {
            io.write_all(&proxy_protocol::header(version, local, address)).await?;
            io.flush().await?;
        }
        Ok(io)
    }

    async fn connect_any(&self, addresses: Vec<SocketAddr>, host: &str, transport: &Transport) -> io::Result<BoxIo> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no addresses"));
        for address in addresses {
            match self.connect_to(address, transport).await {
                Ok(io) => return Ok(io),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn secure(&self, io: BoxIo, security: &Security, protocol: Alpn) -> Result<BoxIo, BoxError> {
        match security {
            Security::Plaintext => Ok(io),
            Security::Mesh { expected, sni, .. } => {
                let tls = self.mesh_tls.as_ref().ok_or("this mesh has no identity")?;
                let connected = tls.connect(io, sni, expected, protocol).await?;
                Ok(Box::new(connected.stream))
            }
            Security::Egress { settings, host } => {
                Ok(Box::new(self.egress_tls.connect(io, settings, host, protocol).await?.stream))
            }
        }
    }
}

/// A request that waits for its new connection.
struct Asking<'a> {
    told: oneshot::Receiver<Result<Checkout, BoxError>>,
    pool: &'a Arc<HostPool>,
}

impl Drop for Asking<'_> {
    /// Given up in the moment between the connection's coming and its being taken.
    fn drop(&mut self) {
        self.told.close();
        if let Ok(Ok(Checkout::H1(connection))) = self.told.try_recv() {
            self.pool.welcome(connection);
        }
    }
}

/// A connection's task ends with the connection; its error reaches the request that was on it.
fn spawn_connection(connection: impl Future<Output = hyper::Result<()>> + Send + 'static, held: Option<Held>) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(target: "mesh::http", %error, "upstream connection ended");
        }
        drop(held);
    });
}
