//! PeerAuthentication: what a workload lets connect.
//!
//! Istio puts three scopes over one another (mesh, namespace, workload) and one more inside the last (port). A scope
//! that says nothing inherits. It is the one policy whose absence is not "no": Istio's default is PERMISSIVE, so that a
//! workload can join a mesh before its clients do.

mod policies;
mod spec;
#[cfg(test)]
mod tests;

pub use policies::{PeerAuthentication, PeerAuthentications};

/// What a port accepts (istio security/v1beta1 PeerAuthentication.MutualTLS.Mode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PeerAuthMode {
    /// "Connection must be mTLS (TLS with client cert must be presented)."
    Strict,
    /// "Connection can be either plaintext or mTLS." The default.
    #[default]
    Permissive,
    /// "Connection is not tunneled": plaintext only.
    Disable,
}
