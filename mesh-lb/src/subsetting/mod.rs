//! Subsetting: a client of a large fleet keeps to some of a service's endpoints.
//!
//! With 1,000 clients of 1,000 endpoints a full mesh has a million connections, health checks and handshakes; with subsets of
//! 20 it has 20,000. Below a few hundred endpoints it only costs: a client sees fewer of them, and balances worse. So it
//! is off unless asked for.
//!
//! Which endpoints those are is a pure function of the set of endpoints and of who the client is: no history, nothing
//! to agree on, the same after a restart. The order in which endpoints are listed, their weights, labels and health do not
//! matter. There are two ways:
//!
//! - **A client with an index** ([`SubsetClient::Index`]), a StatefulSet's ordinal for instance. Endpoints stand on a ring,
//!   ordered by the hash of their addresses, the same for every client. The clients of a lot start at equal distances
//!   from each other, `floor(x * endpoints)` with x = (index in the lot + 1/2) / lot size, and take the next
//!   `size` endpoints. So for a fleet of one lot each endpoint has the mean number of clients, rounded down or up. Where
//!   there are several lots, each is turned against the others by the binary van der Corput sequence (by 0, 1/2, 1/4, 3/4,
//!   1/8 .. of a step): when a fleet grows by a lot, the new one falls into the widest gaps, and nobody else moves.
//!   Sources: Finagle's deterministic aperture (one ring for all); "Reinventing Backend Subsetting at Google" (ACM Queue
//!   20(5), 2022: lots, van der Corput).
//! - **A client without one** ([`SubsetClient::Seed`]): rendezvous hashing, the `size` endpoints with the lowest
//!   `XXH64(seed, address)` (gRFC A68). Clients know nothing of each other, and the loads show it: 100 clients, 100
//!   endpoints, 5 each, and the fullest endpoint has about 2.2 times the mean.
//!
//! # What a change of endpoints costs
//!
//! When one endpoint comes or goes, a client changes at most one of its connections. For rendezvous hashing that
//! is so by definition, and only the endpoint's own clients do. On the ring: with one endpoint more,
//! `floor(x * (n + 1))` is the same place or the next one; either way the window of `size` places, over endpoints of
//! which some moved on by one place, loses one of them or none. About a third of the clients do change one: that is what an even
//! load costs those who remember nothing.
//!
//! There is an exception, at the seam where the ring's end meets its beginning. A window across the seam holds a
//! tail and a head. When the tail grows by one in the very step in which an endpoint joins the head, the head loses two, and
//! the client changes two connections. It takes one of the first `size` places of the ring, and a number of endpoints at
//! which some tail grows: for a lot of n clients none between n (s - 2) / (s - 1.5) and n (s - 2) / (s - 2.5) endpoints, s the
//! size (86 to 120 for 100 and 5); beyond, a client or two at some numbers. A function that only knows the order of the
//! endpoints cannot do better and be even too; the test has the argument.
//!
//! # Where it comes in
//!
//! After a DestinationRule's subset labels (so a subset by labels has `size` endpoints too, or all of its own), before
//! everything else: locality, priorities, zones and outlier detection see only what was chosen. A client with many places
//! to fail over to wants a `size` that has some of each. Consistent hashing takes no part: a key belongs to one endpoint
//! whichever client has it.
//!
//! One change among 10,000 endpoints hashes each address once and selects, in O(n), without sorting: 0.2 ms, and then the cluster's
//! own work is for `size` members.

mod select;
mod spec;

use std::{num::NonZeroU32, sync::Arc};

use mesh_core::Endpoint;

/// How many of its endpoints a client of a service uses, and how clients share them out. Off by default.
///
/// ```
/// use std::{num::NonZeroU32, sync::Arc};
/// use mesh_core::{Endpoint, EndpointAddress};
/// use mesh_lb::{SubsetClient, Subsetting};
///
/// let endpoints: Vec<_> = (0..100).map(|n| EndpointAddress::new(&format!("10.0.0.{n}"), 80)).collect();
/// let endpoints: Vec<_> = endpoints.into_iter().map(|address| Arc::new(Endpoint::new(address))).collect();
/// let subsetting = Subsetting::new(NonZeroU32::new(5).unwrap()).with_lot_size(NonZeroU32::new(100).unwrap());
/// let clients_of_first = (0..100)
///     .map(|client| subsetting.choose(SubsetClient::Index(client), endpoints.clone()))
///     .filter(|subset| subset.contains(&endpoints[0]));
/// assert_eq!(clients_of_first.count(), 5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subsetting {
    size: NonZeroU32,
    lot_size: NonZeroU32,
}

/// Who a client is among those of its fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubsetClient {
    /// The clients are numbered from 0, without gaps.
    Index(u32),
    /// They are not: a random number of its own.
    Seed(u64),
}

/// "Reinventing Backend Subsetting at Google": lots of 10.
const LOT_SIZE: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

impl Subsetting {
    /// Subsets of so many endpoints, in lots of 10.
    #[must_use]
    pub fn new(size: NonZeroU32) -> Self {
        Self { size, lot_size: LOT_SIZE }
    }

    /// With lots of so many clients, for clients with an index. Loads are even when it is the number of clients; a size
    /// that is neither that nor far below it makes the last lot a part of a ring, and its part the fuller one. All
    /// clients move when it changes.
    #[must_use]
    pub fn with_lot_size(mut self, clients: NonZeroU32) -> Self {
        self.lot_size = clients;
        self
    }

    /// Endpoints in a subset.
    #[must_use]
    pub fn size(&self) -> NonZeroU32 {
        self.size
    }

    /// Clients in a lot.
    #[must_use]
    pub fn lot_size(&self) -> NonZeroU32 {
        self.lot_size
    }

    /// The endpoints that a client uses: `size` of them, or all where there are no more. Those chosen are in the ring's
    /// order, whatever order they came in.
    #[must_use]
    pub fn choose(&self, client: SubsetClient, endpoints: Vec<Arc<Endpoint>>) -> Vec<Arc<Endpoint>> {
        let size = usize::try_from(self.size.get()).unwrap_or(usize::MAX);
        if endpoints.len() <= size {
            return endpoints;
        }
        let (seed, start) = match client {
            // Every client's ring is the same.
            SubsetClient::Index(index) => (0, self.start(index, endpoints.len())),
            SubsetClient::Seed(seed) => (seed, 0),
        };
        select::window(&endpoints, seed, start, size)
    }

    /// `floor(x * endpoints)`, exactly.
    fn start(&self, index: u32, endpoints: usize) -> usize {
        let (lot, within) = (index / self.lot_size, index % self.lot_size);
        // Van der Corput: the lot's number, its bits mirrored at the point. From 1/2 on: half a step from the seam.
        let turned = u64::from(lot).reverse_bits().wrapping_add(1 << 63);
        // Parts of 2^64 of a step; 32 bits of steps and 32 bits of endpoints are within 128.
        let x = (u128::from(within) << 64) | u128::from(turned);
        let start = ((x * endpoints as u128) / u128::from(self.lot_size.get())) >> 64;
        // Below `endpoints`, as x is below the lot's size.
        start as usize
    }
}

#[cfg(test)]
mod tests;
