//! Connections where `connectionPool` limits them: a request that finds none waits for its turn, or is refused.
//!
//! Clusters without limits never come here.

use std::{pin::pin, sync::Arc, time::Duration};

use mesh_core::{Error, Reason};
use mesh_lb::{Cluster, Queued};
use mesh_tls::Alpn;

use super::{
    Dialer,
    counted::Counted,
    pool::{Checkout, HostPool},
};

/// A connection that is there, or that comes free, or a new one while there may be one more; `fresh` as for other pools.
///
/// envoy ConnPoolImplBase::newStreamImpl: every request without a connection is pending, also while one is made for it, and
/// refused when too many are.
pub(super) async fn connection(
    dialer: &Arc<Dialer>,
    (cluster, queued): (&Cluster, Option<&Queued>),
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
    let counted = pool.counted(protocol);
    let failed = counted.failed();
    loop {
        // Listened for before looking: nothing that comes free meanwhile is missed.
        let (mut freed, closed) = (pin!(counted.freed.notified()), pin!(cluster.connection_closed()));
        freed.as_mut().enable();
        // Looked at without waiting for anything: who was woken and gave up since would have taken the news with it.
        if usable && let Some(checkout) = pool.checkout(protocol) {
            return Ok(passed_on(checkout, counted));
        }
        {
            // One HTTP/2 connection at a time: the others of a burst share it.
            let connecting = match protocol {
                // A stream may come free before that connection is made.
                Alpn::H2 => tokio::select! {
                    connecting = Arc::clone(&pool.h2_connecting).lock_owned() => Some(connecting),
                    () = freed.as_mut() => continue,
                },
                Alpn::H1 => None,
            };
            if usable && let Some(checkout) = pool.checkout(protocol) {
                return Ok(passed_on(checkout, counted));
            }
            // envoy ConnPoolImplBase::onConnectionEvent: "If we see a connect failure, we purge all pending streams so that
            // calling code can determine what to do with the stream." One after the other they would wait for as many
            // timeouts.
            if counted.failed() != failed {
                return Err(Error::new(Reason::ConnectFailure).with_source(FailedMeanwhile));
            }
            if let Some(held) = counted.hold(cluster) {
                // Not listened any more: what comes free meanwhile is for those who wait.
                freed.set(counted.freed.notified());
                let dialled = dialer.dial(pool, protocol, timeout, Some(held), connecting).await;
                return dialled
                    .map(|checkout| passed_on(checkout, counted))
                    .map_err(|error| Error::new(Reason::ConnectFailure).with_source(error));
            }
            if !usable {
                // The connection that is not wanted makes room for one that is.
                drop(pool.checkout(protocol));
            }
        }
        queued.inspect(|queued| queued.set(true));
        tokio::select! {
            () = freed => {}
            () = closed => {}
        }
        queued.inspect(|queued| queued.set(false));
    }
}

/// An HTTP/2 connection may have room for more than one who waits: the next one looks too.
fn passed_on(checkout: Checkout, counted: &Counted) -> Checkout {
    if let Checkout::H2 { .. } = checkout {
        counted.freed.notify_one();
    }
    checkout
}

#[derive(Debug, thiserror::Error)]
#[error("a connection that this request waited for could not be made")]
struct FailedMeanwhile;

#[cfg(test)]
pub(super) mod tests;
