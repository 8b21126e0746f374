//! The innermost service: a picked endpoint and a request in, a response out.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::{Request, Response, uri};
use http_body::Body as HttpBody;
use mesh_core::{BoxError, Error, Exchange, Progress, Reason, Resent, Workload};
use mesh_lb::{Cluster, ConnectionLimits, Member, Picked};
use mesh_telemetry::PeerMetadata;
use mesh_tls::{Alpn, IdentityHandle};
use tower_service::Service;

use super::{
    ConnectionBody, Dialer, Pools, SecurityPolicy,
    body::Lease,
    failure::{On, failure},
    limited,
    pool::{Checkout, HostPool, Limits, PoolKey},
    request,
    security::{Question, Security},
};
use crate::Body;

/// Sends requests over pooled connections. Clones share everything.
#[derive(Clone, Debug)]
pub struct Connector(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pools: Pools,
    dialer: Arc<Dialer>,
    policy: ArcSwap<SecurityPolicy>,
    identity: Option<IdentityHandle>,
    metadata: PeerMetadata,
}

/// The pool that an endpoint's requests went to last, so that the usual request takes no lock to find it.
#[derive(Debug, Default)]
struct PoolSlot(ArcSwapOption<Chosen>);

#[derive(Debug)]
struct Chosen {
    generation: u64,
    pool: Arc<HostPool>,
}

/// How often a request that came back unsent is put on another connection before the endpoint is given up; the last
/// is a new one, for as many as there are in the pool may have ended at once.
const MAX_UNSENT: usize = 4;

impl Connector {
    pub(crate) fn new(dialer: Dialer, identity: Option<IdentityHandle>, workload: &Workload) -> Self {
        let metadata = PeerMetadata::of(workload);
        let dialer = Arc::new(dialer);
        let shared = Shared { pools: Pools::default(), dialer, policy: ArcSwap::default(), identity, metadata };
        Self(Arc::new(shared))
    }

    /// New config: connections that it no longer allows take no further request.
    pub(crate) fn set_policy(&self, policy: SecurityPolicy) {
        self.0.policy.store(Arc::new(policy));
        self.0.pools.advance();
    }

    /// Send a health check: as a request is sent, but beside the limits of its cluster's connections, as Envoy's checks
    /// have connections of their own. An endpoint that is busy is not unwell.
    pub(crate) async fn ask(&self, picked: Picked<Request<Body>>) -> Result<Response<ConnectionBody>, Error> {
        let pool = self.0.pool_beside_limits(&picked)?;
        self.0.send_over(pool, picked).await
    }

    /// Connect to a member as a request would be, TLS included, and close again.
    pub(crate) async fn reach(&self, cluster: &Cluster, member: &Arc<Member>) -> Result<(), Error> {
        let request = Request::new(Body::empty());
        let picked = Picked::new(request, Arc::clone(member), cluster.clone());
        let protocol = request::protocol(&picked.request, cluster.protocol(), cluster.policy().transport.http_version);
        let pool = self.0.pool_beside_limits(&picked)?;
        let reached = self.0.dialer.reach(&pool.key, protocol).await;
        reached.map_err(|error| Error::new(Reason::ConnectFailure).with_source(error))
    }

    /// A new identity: later requests use connections made with it.
    pub(crate) fn identity_changed(&self) {
        self.0.pools.advance();
    }

    /// Close what has been idle for too long.
    pub(crate) fn sweep(&self) {
        self.0.pools.sweep(self.0.identity.as_ref().map(IdentityHandle::generation));
    }

    /// The process is leaving: keep no idle connection.
    pub(crate) fn close_idle(&self) {
        self.0.pools.close_idle();
    }
}

impl<B> Service<Picked<Request<B>>> for Connector
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ConnectionBody>;
    type Error = Error;
    // hyper's own futures have no name: boxed once, here.
    type Future = Pin<Box<dyn Future<Output = Result<Response<ConnectionBody>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, picked: Picked<Request<B>>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        let picked = picked.map_request(|request| request.map(Body::new));
        Box::pin(async move { shared.send(picked).await })
    }
}

impl Shared {
    async fn send(&self, picked: Picked<Request<Body>>) -> Result<Response<ConnectionBody>, Error> {
        let pool = self.pool(&picked)?;
        self.send_over(pool, picked).await
    }

    async fn send_over(
        &self,
        pool: Arc<HostPool>,
        picked: Picked<Request<Body>>,
    ) -> Result<Response<ConnectionBody>, Error> {
        let version = picked.cluster.policy().transport.http_version;
        let protocol = request::protocol(&picked.request, picked.cluster.protocol(), version);
        let secure = !matches!(pool.key.security, Security::Plaintext);
        let timeout = picked.cluster.connect_timeout();
        let mut message = picked.request;
        let mut last = None;
        match protocol {
            Alpn::H1 => request::to_h1(&mut message),
            Alpn::H2 => request::to_h2(&mut message, secure),
        }
        let mutual_tls = matches!(pool.key.security, Security::Mesh { .. });
        if mutual_tls {
            // Who is calling, for the callee's metrics: told to mesh peers only.
            self.metadata.inject(message.headers_mut());
        }
        // What is sent again must not meet another connection that ended meanwhile: it is sent once more, not twice.
        let resent = message.extensions().get::<Resent>().is_some();
        let method = message.method().clone();
        // A request that hyper hands back was not written: it may go out again, whatever its method.
        for sent in 1..=MAX_UNSENT {
            let fresh = resent || sent == MAX_UNSENT;
            let connection = if pool.key.limits.is_some() {
                let cluster = (&picked.cluster, picked.queued.as_ref());
                limited::connection(&self.dialer, cluster, &pool, protocol, fresh, timeout).await?
            } else {
                let connection = self.connection(&pool, protocol, fresh, timeout).await;
                connection.map_err(|error| Error::new(Reason::ConnectFailure).with_source(error))?
            };
            Progress::note(message.extensions(), |known| known.mutual_tls = mutual_tls);
            match send_on(&pool, connection, message).await {
                Ok(mut response) => {
                    Exchange::of(&mut response).mutual_tls = mutual_tls;
                    return Ok(response);
                }
                Err(Failed::Unsent(error, unsent)) => (message, last) = (*unsent, Some(error)),
                Err(Failed::Lost(error, on)) => {
                    let error = failure(error, &method, on);
                    let resend = error.resend().filter(|_| !resent);
                    return Err(error.with_resend(resend));
                }
            }
        }
        let error = Error::new(Reason::Reset { request_sent: false });
        Err(match last {
            Some(cause) => error.with_source(cause),
            None => error,
        })
    }

    /// A connection that is there, else a new one; `fresh`: no HTTP/1.1 connection that was used before. (An HTTP/2
    /// connection that goes away takes no request any more.) A burst of HTTP/2 requests waits for one connection.
    async fn connection(
        &self,
        pool: &Arc<HostPool>,
        protocol: Alpn,
        fresh: bool,
        timeout: std::time::Duration,
    ) -> Result<Checkout, BoxError> {
        if (!fresh || protocol == Alpn::H2)
            && let Some(checkout) = pool.checkout(protocol)
        {
            return Ok(checkout);
        }
        if protocol == Alpn::H1 {
            return self.dialer.dial(pool, protocol, timeout, None, None).await;
        }
        let shared = async {
            let connecting = Arc::clone(&pool.h2_connecting).lock_owned().await;
            match pool.checkout(protocol) {
                Some(checkout) => Ok(checkout),
                None => self.dialer.dial(pool, protocol, timeout, None, Some(connecting)).await,
            }
        };
        // Waiting for somebody else's connection is part of the wait for one.
        match tokio::time::timeout(timeout, shared).await {
            Ok(connected) => connected,
            Err(_) => Err(Dialer::too_late(timeout)),
        }
    }

    fn pool(&self, picked: &Picked<Request<Body>>) -> Result<Arc<HostPool>, Error> {
        let generation = self.pools.generation();
        let transport = &picked.cluster.policy().transport;
        let https = picked.request.uri().scheme() == Some(&uri::Scheme::HTTPS);
        let slot = picked.member.attachment(|| Arc::new(PoolSlot::default()));
        // A dialled member is one host over one scheme; any other may be called in several ways.
        let dialled = picked.cluster.is_passthrough();
        if (dialled || !https)
            && let Some(chosen) = &*slot.0.load()
            && chosen.generation == generation
            // One of the configuration before may have left its choice here since: a retry, a request that was delayed.
            && chosen.pool.is_limited_by(picked.cluster.connection_limits())
            && chosen.pool.key.transport == *transport
        {
            return Ok(Arc::clone(&chosen.pool));
        }
        let security = self.security(picked, https, dialled)?;
        let per_request = !dialled && (https || matches!(security, Security::Egress { .. }));
        let limits = picked.cluster.connection_limits();
        let limits = (*limits != ConnectionLimits::default()).then(|| {
            let cluster = Arc::clone(picked.cluster.name());
            Arc::new(Limits { cluster, limits: limits.clone() })
        });
        let address = picked.member.endpoint().address.clone();
        let key = PoolKey { address, security, limits, transport: transport.clone() };
        let pool = self.pools.get(key, per_request);
        if !per_request {
            slot.0.store(Some(Arc::new(Chosen { generation, pool: Arc::clone(&pool) })));
        }
        Ok(pool)
    }

    fn pool_beside_limits(&self, picked: &Picked<Request<Body>>) -> Result<Arc<HostPool>, Error> {
        let security = self.security(picked, false, false)?;
        let address = picked.member.endpoint().address.clone();
        let transport = picked.cluster.policy().transport.clone();
        let key = PoolKey { address, security, limits: None, transport };
        Ok(self.pools.get(key, false))
    }

    /// How a connection for a request is secured.
    fn security(&self, picked: &Picked<Request<Body>>, https: bool, dialled: bool) -> Result<Security, Error> {
        let endpoint = picked.member.endpoint();
        let header = request::host(&picked.request);
        let authority = header.as_ref().and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
        let address = endpoint.address.host();
        let question = Question {
            cluster: &picked.cluster,
            endpoint,
            https,
            // Who was dialled has to prove the name that was dialled, whatever the Host header says.
            host: if dialled { Some(&*address) } else { authority.as_ref().map(uri::Authority::host) },
            generation: self.identity.as_ref().map(IdentityHandle::generation),
        };
        self.policy.load().decide(&question).map_err(|refused| {
            tracing::warn!(target: "mesh::tls", error = %refused, "connection refused");
            Error::new(Reason::ConnectFailure).with_source(refused)
        })
    }
}

/// Why a request got no answer, and the request itself where hyper handed it back.
enum Failed {
    Unsent(hyper::Error, Box<Request<Body>>),
    Lost(hyper::Error, On),
}

async fn send_on(
    pool: &Arc<HostPool>,
    connection: Checkout,
    message: Request<Body>,
) -> Result<Response<ConnectionBody>, Failed> {
    let (mut error, on) = match connection {
        Checkout::H1(mut connection) => {
            let before = connection.heard();
            match connection.sender.try_send_request(message).await {
                Ok(mut response) => {
                    // After a switch of protocols the connection is no longer HTTP's.
                    let reusable = response.status() != http::StatusCode::SWITCHING_PROTOCOLS;
                    if !reusable {
                        response.extensions_mut().insert(connection.upgraded());
                    }
                    let lease = reusable.then(|| Lease::H1(Arc::clone(pool), connection));
                    return Ok(response.map(|incoming| ConnectionBody::new(incoming, lease)));
                }
                Err(error) => (error, On::H1 { used: connection.used, silent: connection.heard() == before }),
            }
        }
        Checkout::H2 { mut sender, permit, used } => match sender.try_send_request(message).await {
            Ok(response) => {
                return Ok(response.map(|incoming| ConnectionBody::new(incoming, Some(Lease::H2(permit)))));
            }
            Err(error) => (error, On::H2 { used }),
        },
    };
    let unsent = error.take_message();
    let error = error.into_error();
    Err(match unsent {
        Some(message) => Failed::Unsent(error, Box::new(message)),
        None => Failed::Lost(error, on),
    })
}

#[cfg(test)]
mod tests {
    use mesh_core::registry::SystemResolver;

    use super::*;
    use crate::{connect::limited::tests::clusters, network::Tcp};

    /// A request of the configuration before, a retry for instance, goes to the endpoint once more when the next one is in
    /// force already: what it finds does not hold for the others.
    #[test]
    fn limits_are_those_of_the_requests_own_configuration() {
        let dialer = Dialer {
            connect: Arc::new(Tcp),
            resolve: Arc::new(SystemResolver),
            mesh_tls: None,
            egress_tls: Default::default(),
        };
        let connector = Connector::new(dialer, None, &Workload::new("default", "client"));
        let [before, after] = clusters(["{tcp: {connectTimeout: 9s}}", "{tcp: {maxConnections: 1}}"]);
        assert!(Arc::ptr_eq(&before.members()[0], &after.members()[0]), "the endpoint did not change");
        connector.set_policy(SecurityPolicy::default());
        let limited = |cluster: &mesh_lb::Cluster| {
            let request = Request::get("http://db.example.com/").body(Body::new(String::new())).unwrap();
            let picked = Picked::new(request, Arc::clone(&cluster.members()[0]), cluster.clone());
            connector.0.pool(&picked).unwrap().key.limits.is_some()
        };
        assert!(!limited(&before));
        assert!(limited(&after));
        assert!(!limited(&before));
    }
}
