//! Who a workload is: SPIFFE IDs, trust domains, the identity of a verified peer, and for whom it asks.
//!
//! The grammar is strict on purpose. One identity has one spelling, so comparing bytes compares identities,
//! and a name that two parsers could read differently is refused (SPIFFE-ID sections 2.1 to 2.4).

mod peer;
mod request;
mod spiffe_id;
mod trust_domain;

pub use peer::PeerIdentity;
pub use request::RequestPrincipal;
pub use spiffe_id::{InvalidSpiffeId, SpiffeId};
pub use trust_domain::TrustDomain;
