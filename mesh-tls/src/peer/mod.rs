//! The peer's identity, where the application and the layers above can see it.
//!
//! The extensions of a request are the only way it travels. Whatever stood there before is removed, so that nothing
//! but a verified certificate can put an identity there.

mod identity;
mod require;

pub use identity::{PeerIdentityLayer, WithPeerIdentity};
pub use require::{RequirePeer, RequirePeerLayer, ResponseFuture};
