//! One inbound connection: secured, then HTTP until one side has had enough.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use mesh_core::{BoxError, Connection, ServerName, identity::PeerIdentity};
use mesh_tls::{Accepted, Alpn, PeerAuthMode};
use tokio::{sync::SetOnce, time::timeout};
use tower::ServiceExt as _;
use tower_service::Service;

use super::{Drain, Phase, closing::Closing, counted::Counted, drain::OpenConnection};
use crate::{
    inbound::Inbound,
    mesh::Inner,
    network::{BoxIo, Io},
};

/// Who connects has a request to send. One that was let in as the last waits this long for it.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// A connection that has been accepted, not yet secured.
pub(super) struct Accepting {
    pub(super) mesh: Arc<Inner>,
    pub(super) open: OpenConnection,
    pub(super) mode: PeerAuthMode,
    pub(super) addresses: Connection,
}

impl Accepting {
    pub(super) async fn run<S, RB>(self, io: BoxIo, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<RB>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: HttpBody<Data = Bytes> + Send + 'static,
        RB::Error: Into<BoxError>,
    {
        let Self { mesh, open, mode, addresses } = self;
        let io: BoxIo = Box::new(Counted::new(io, open));
        let context = Context { addresses, drain: mesh.drain.clone(), inbound: mesh.inbound.clone() };
        let Some(acceptor) = &mesh.acceptor else {
            // No identity: nothing that STRICT would take can be offered.
            match mode {
                PeerAuthMode::Strict => mesh.metrics.handshake_refused(),
                PeerAuthMode::Permissive | PeerAuthMode::Disable => context.speak(io, None, None, service).await,
            }
            return;
        };
        let accepted = tokio::select! {
            accepted = acceptor.accept(io, mode) => accepted,
            () = mesh.drain.reached(Phase::Aborted) => return,
        };
        match accepted {
            Ok(Accepted::Mtls { stream, peer, protocol, server_name }) => {
                let peer = (peer, server_name.map(ServerName));
                context.speak(stream, Some(peer), protocol, service).await;
            }
            Ok(Accepted::Plain { stream }) => context.speak(stream, None, None, service).await,
            Err(error) => {
                mesh.metrics.handshake_refused();
                let mode = super::accept::mode_name(mode);
                tracing::info!(target: "mesh::tls", peer = %addresses.peer, mode, %error, "connection refused");
            }
        }
    }
}

struct Context {
    addresses: Connection,
    drain: Drain,
    inbound: Inbound,
}

impl Context {
    async fn speak<S, RB>(
        self,
        io: impl Io,
        peer: Option<(PeerIdentity, Option<ServerName>)>,
        alpn: Option<Alpn>,
        service: S,
    ) where
        S: Service<Request<Incoming>, Response = Response<RB>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: HttpBody<Data = Bytes> + Send + 'static,
        RB::Error: Into<BoxError>,
    {
        let Self { addresses, drain, inbound } = self;
        let plaintext = peer.is_none();
        let draining = drain.clone();
        let asked = Arc::new(SetOnce::new());
        let first_request = Arc::clone(&asked);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            if !first_request.initialized() {
                // Set by another stream at the same time is as good.
                let _ = first_request.set(());
            }
            // Only what the handshake proved: whatever stood there before is not ours.
            request.extensions_mut().remove::<PeerIdentity>();
            request.extensions_mut().remove::<ServerName>();
            if let Some((identity, server_name)) = &peer {
                request.extensions_mut().insert(identity.clone());
                if let Some(name) = server_name {
                    request.extensions_mut().insert(name.clone());
                }
            }
            request.extensions_mut().insert(addresses);
            let (service, draining) = (service.clone(), draining.clone());
            async move {
                let version = request.version();
                let mut response = service.oneshot(request).await?;
                let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if version <= Version::HTTP_11 && !switched && draining.phase() >= Phase::Lingering {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, S::Error>(response)
            }
        });
        let builder = builder(alpn);
        let io = Closing::new(io, alpn == Some(Alpn::H2));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        // An h2 connection says GOAWAY as soon as the linger starts (twice: the first one names no last stream, so
        // that requests on their way are still taken); an h1 connection stays, see the module above.
        let leave = match alpn {
            Some(Alpn::H2) if drain.phase() == Phase::Serving => Phase::Lingering,
            _ => Phase::Closing,
        };
        let leaves = async {
            tokio::select! {
                () = drain.reached(leave) => {
                    // hyper closes a connection at once that has read nothing yet, under a request on its way.
                    let _ = timeout(FIRST_REQUEST, asked.wait()).await;
                }
                // STRICT has come since: the request being served is the last one in plaintext.
                () = inbound.plaintext_refused(addresses.local.port()), if plaintext => {}
            }
        };
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = leaves => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = connection.as_mut() => result,
                    () = drain.reached(Phase::Aborted) => return,
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(target: "mesh::http", peer = %addresses.peer, error, "connection ended");
        }
    }
}

/// ALPN decides the protocol where there was one; plaintext is told apart by its first bytes.
fn builder(alpn: Option<Alpn>) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper's timeout also ends idle connections, under a client that may just be writing a POST.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder.http2().timer(TokioTimer::new());
    match alpn {
        Some(Alpn::H2) => builder.http2_only(),
        Some(Alpn::H1) => builder.http1_only(),
        None => builder,
    }
}
