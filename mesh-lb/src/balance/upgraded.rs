//! A request that became a stream of bytes: a WebSocket, for instance.

use std::sync::{Arc, OnceLock};

use super::in_flight::InFlight;

/// Keeps a request in flight after a switch of protocols, for as long as its stream is open.
///
/// Whoever makes connections puts one into the extensions of a 101 response, and keeps a clone beside the stream of bytes:
/// the request counts until that is dropped. Without one it counts until the response's body ends, which for a 101 is at
/// once.
///
/// envoy: an upgraded request is an active one, of its host and of the circuit breaker, until its stream ends.
#[derive(Clone, Debug, Default)]
pub struct Upgraded(Arc<OnceLock<InFlight>>);

impl Upgraded {
    /// A connection is upgraded once.
    pub(super) fn keep(self, in_flight: InFlight) {
        drop(self.0.set(in_flight));
    }
}
