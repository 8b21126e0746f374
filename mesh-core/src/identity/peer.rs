use std::{sync::Arc, time::SystemTime};

use super::SpiffeId;

/// The verified identity of the other end of a connection.
///
/// Put into the extensions of an inbound request by the mesh, and only after the peer's certificate was
/// verified; absent on plaintext. Applications read it, nothing else may write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    id: SpiffeId,
    not_after: SystemTime,
    chain: Arc<[Vec<u8>]>,
}

impl PeerIdentity {
    /// An identity that a verifier has accepted: its SPIFFE ID, the end of its certificate's validity and the
    /// chain it presented (DER, leaf first).
    #[must_use]
    pub fn new(id: SpiffeId, not_after: SystemTime, chain: Arc<[Vec<u8>]>) -> Self {
        Self { id, not_after, chain }
    }

    /// The SPIFFE ID in the certificate's only URI SAN.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When the peer's certificate ends to be valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The chain as presented: DER, leaf first.
    #[must_use]
    pub fn chain(&self) -> &Arc<[Vec<u8>]> {
        &self.chain
    }
}
