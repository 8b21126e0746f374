//! The accept loop.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use mesh_core::{BoxError, Connection};
use mesh_tls::PeerAuthMode;
use tower_service::Service;

use super::{Phase, connection::Accepting};
use crate::{mesh::Inner, network::Listen};

/// Serve until drained. `service` is the whole inbound stack.
pub(crate) async fn serve<L, S, RB>(mesh: Arc<Inner>, mut listener: L, service: S) -> io::Result<()>
where
    L: Listen,
    S: Service<Request<Incoming>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    RB: HttpBody<Data = Bytes> + Send + 'static,
    RB::Error: Into<BoxError>,
{
    let local = listener.local_addr()?;
    let port = local.port();
    let drain = mesh.drain.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.reached(Phase::Aborted) => break,
            // Those that the kernel has connected already come first: closing the listener would reset them.
            accepted = listener.accept() => accepted,
            () = drain.reached(Phase::Closing) => break,
        };
        match accepted {
            Ok((io, peer)) => {
                let mode = mesh.inbound.peer_auth_mode(port);
                let addresses = Connection::new(peer, local);
                let connection = Accepting { mesh: Arc::clone(&mesh), open: drain.open(), mode, addresses };
                tokio::spawn(connection.run(io, service.clone()));
            }
            // Out of descriptors, or a peer that went away before it was accepted: not a reason to stop.
            Err(error) => {
                tracing::warn!(%error, port, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    drain.reached(Phase::Aborted).await;
    Ok(())
}

/// The mode a connection is accepted in, for the log.
pub(super) fn mode_name(mode: PeerAuthMode) -> &'static str {
    match mode {
        PeerAuthMode::Strict => "STRICT",
        PeerAuthMode::Permissive => "PERMISSIVE",
        PeerAuthMode::Disable => "DISABLE",
    }
}
