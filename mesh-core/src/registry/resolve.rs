//! Name resolution: one seam for every lookup the mesh makes.

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin};

/// Looks up the addresses of a host. The mesh resolves names nowhere else, so that a test or a simulation
/// replaces DNS by replacing this.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `host`, each with `port`.
    ///
    /// # Errors
    /// When the source cannot answer; the mesh keeps what it knew.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;
}

/// The operating system's resolver (getaddrinfo), through tokio.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}
