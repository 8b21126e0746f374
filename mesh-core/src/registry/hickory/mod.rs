//! Names looked up with DNS itself: TTLs, service records, and absence told from failure.
//!
//! hickory-resolver's name server pools do the talking (UDP, TCP after truncation, sent again when lost). Not its caching
//! resolver: that one takes the last of several search domains' errors for all of them, one family's failure for
//! absence, and follows a service record as if it were an alias; here the difference between an answer and a failure is
//! the point. Nothing is cached: who asks knows how long an answer holds.

mod local;
mod query;
mod reply;
mod search;
mod system;

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};

use hickory_resolver::{
    Hosts,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts},
};

use self::{query::Servers, search::Search, system::System};
use super::{Answer, Resolve};

/// A resolver that speaks DNS (feature `dns`).
///
/// It looks into the hosts file first, then asks the name servers for A and AAAA at once, or for SRV where the name
/// [is a service's](super::is_service_record). Search domains and `ndots` count as they do for the operating system.
///
/// - NXDOMAIN and NOERROR without records are answers, of no addresses. A referral to other servers is not.
/// - SERVFAIL, REFUSED and the like, a malformed answer, a timeout, no network: a failure, after every server was asked.
/// - With one of A and AAAA failed and the other found, what was found is a [partial](Answer::partial) answer, with no TTL
///   told, so that it is soon asked for again.
/// - Where both families are found, those that this machine has no route to are left out (RFC 6724 rule 1).
#[derive(Clone)]
pub struct HickoryResolver(Arc<System>);

/// What a lookup goes by.
struct Config {
    servers: Servers,
    search: Search,
    hosts: Hosts,
}

impl Config {
    fn new(config: ResolverConfig, options: ResolverOpts, hosts: Hosts) -> io::Result<Self> {
        let search = Search::new(&config, options.ndots);
        Ok(Self { servers: Servers::new(config, options)?, search, hosts })
    }
}

impl HickoryResolver {
    /// As the operating system is configured: `/etc/resolv.conf` and the hosts file on Unix, read anew when they change; the
    /// system's own settings on Windows and macOS, read once.
    ///
    /// # Errors
    /// When there is no such configuration, or no name server in it.
    pub fn from_system() -> io::Result<Self> {
        Ok(Self(Arc::new(System::read()?)))
    }

    /// Ask these servers, in this order, over UDP and TCP. No hosts file, no search domains: every name is a whole one.
    ///
    /// # Errors
    /// When there are none.
    pub fn with_servers(servers: impl IntoIterator<Item = SocketAddr>) -> io::Result<Self> {
        let servers = servers.into_iter().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        let config = Config::new(config, ResolverOpts::default(), Hosts::default())?;
        Ok(Self(Arc::new(System::given(config))))
    }
}

impl Resolve for HickoryResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Answer>> + Send + 'a>> {
        Box::pin(async move {
            match local::answer(host) {
                Some(answer) => Ok(answer),
                None => self.0.config().resolve(host).await,
            }
        })
    }
}

impl fmt::Debug for HickoryResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HickoryResolver").finish_non_exhaustive()
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    };
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(connection);
    NameServerConfig::new(address.ip(), true, connections.into())
}

#[cfg(test)]
mod tests;
