//! Connections where `connectionPool` limits them: a request that finds none waits for its turn, or is refused.
//!
//! Clusters without limits never come here.

use std::{pin::pin, sync::Arc, time::Duration};

use mesh_core::{Error, Reason};
use mesh_lb::Cluster;
use mesh_tls::Alpn;

use super::{
    Dialer,
    pool::{Checkout, HostPool},
};

/// A connection that is there, or that comes free, or a new one while there may be one more; `fresh` as for other pools.
///
/// envoy ConnPoolImplBase::newStreamImpl: every request without a connection is pending, also while one is made for it, and
/// refused when too many are.
pub(super) async fn connection(
    dialer: &Dialer,
    cluster: &Cluster,
    pool: &Arc<HostPool>,
    protocol: Alpn,
    fresh: bool,
    timeout: Duration,
) -> Result<Checkout, Error> {
    let usable = !fresh || protocol == Alpn::H2;
    if usable && let Some(checkout) = pool.checkout(protocol) {
        return Ok(checkout);
    }
    let Some(_pending) = cluster.wait_for_connection() else { return Err(Error::new(Reason::Overflow)) };
    loop {
        // Listened for before looking: nothing that comes free meanwhile is missed.
        let (mut freed, closed) = (pin!(pool.freed.notified()), pin!(cluster.connection_closed()));
        freed.as_mut().enable();
        {
            // One HTTP/2 connection at a time: the others of a burst share it.
            let _connecting = match protocol {
                Alpn::H2 => Some(pool.h2_connecting.lock().await),
                Alpn::H1 => None,
            };
            if usable && let Some(checkout) = pool.checkout(protocol) {
                return Ok(checkout);
            }
            if let Some(place) = cluster.open_connection(pool.open() == 0) {
                let dialled = dialer.dial(pool, protocol, timeout, Some(pool.hold(place))).await;
                return dialled.map_err(|error| Error::new(Reason::ConnectFailure).with_source(error));
            }
            if !usable {
                // The connection that is not wanted makes room for one that is.
                drop(pool.checkout(protocol));
            }
        }
        tokio::select! {
            () = freed => {}
            () = closed => {}
        }
    }
}
