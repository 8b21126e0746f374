//! Consistent hashing: requests with the same key go to the same endpoint.
//!
//! For caches and sessions that live in an endpoint's memory. What is chosen is bit for bit what a sidecar would
//! choose, so that a service can leave its sidecars behind one client at a time and no key moves.
//!
//! ```text
//!  request ── key ──► hash ──► table ──► endpoint
//!             │                ├ Ring       few keys move when an endpoint comes or goes
//!             │                └ Maglev     evener, faster, a few more keys move
//!             └ header, cookie (made where there is none), query parameter, source IP; no key: any endpoint
//! ```
//!
//! Tables are over the endpoints in service: an ejected one leaves, and comes back. Building one takes milliseconds, so
//! it happens beside the requests, which meanwhile go by the old table and past whoever may not be chosen.

mod bound;
mod cookie;
mod key;
mod line;
mod maglev;
mod policy;
mod ring;
mod shares;
mod source;
mod table;
mod tables;

use twox_hash::XxHash64;

pub use self::{
    bound::BoundedLoad,
    cookie::HashCookie,
    key::{HashKey, InvalidHashKey},
    maglev::Maglev,
    policy::{ConsistentHash, HashTable},
    ring::Ring,
    source::SourceIp,
};
pub(crate) use self::{
    key::Keyed,
    table::Places,
    tables::{Ejections, Lookup, Tables},
};

/// The hash of a key, as Envoy computes it: xxHash64 with seed 0.
///
/// ```
/// assert_eq!(mesh_lb::hash(b"a"), 0xd24e_c4f1_a98c_6e5b);
/// ```
#[must_use]
pub fn hash(key: &[u8]) -> u64 {
    hash_seeded(key, 0)
}

fn hash_seeded(key: &[u8], seed: u64) -> u64 {
    XxHash64::oneshot(seed, key)
}

#[cfg(test)]
mod tests;
