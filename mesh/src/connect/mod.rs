//! Connections of our own: from a picked endpoint to bytes on a socket.
//!
//! ```text
//! Picked ──► Security (plaintext, mesh identity, egress TLS) ──► HostPool ──► hyper SendRequest
//! ```
//!
//! A pool is keyed by the endpoint's address and everything that decides whom the connection trusts: the expected
//! identity and the generation of our own. Two destinations that differ in policy therefore never share a
//! connection, and after a rotation or a policy change no request rides on an old one. hyper-util's legacy
//! client is not used: its key is (scheme, authority).
//!
//! The request body's type is erased here, once, so that one pool serves every body type.

mod body;
mod counted;
mod dial;
mod failure;
mod h1;
mod limited;
mod pool;
mod proxy_protocol;
mod request;
mod security;
mod service;

pub use body::ConnectionBody;
pub(crate) use dial::Dialer;
pub(crate) use pool::{Pools, SWEEP};
pub(crate) use security::SecurityPolicy;
pub use service::Connector;
