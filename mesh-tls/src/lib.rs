//! Mesh identity in rustls: who connects, whom we connect to, and proof of both.
//!
//! What it is: the X509-SVID rules as one verifier for both ends, trust bundles kept per trust domain, identities that
//! rotate under running connections, Istio's PeerAuthentication, and TLS to the world outside the mesh.
//!
//! What it is not: a certificate authority for production (the one behind the feature `dev-ca` is for development),
//! authorization (who may do what is mesh-authz), or a connection pool.
//!
//! ```text
//!  FileSource, DevCa ──> spawn_rotation ──> IdentityHandle ── generation n, n+1, ...
//!                                             │        │
//!                 MeshTls::connect <──────────┘        └──────────> Acceptor::accept
//!                   │  ExpectedPeer                      │  PeerAuthMode, first two bytes
//!                   └──────────────> verify_peer <───────┘
//!                        one URI name, leaf profile, path in its own trust domain
//!                                          │
//!                                    PeerIdentity ──> PeerIdentityLayer ──> the application
//!
//!  EgressTls::connect ──> public roots, DNS names: another type, for another world
//! ```
//!
//! Alone, without the rest of the mesh: a server that takes identities from its connections.
//!
//! ```
//! use http::{Request, Response};
//! use mesh_core::identity::{PeerIdentity, SpiffeId};
//! use mesh_tls::{ExpectedPeer, PeerIdentityLayer, RequirePeerLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let productpage: SpiffeId = "spiffe://cluster.local/ns/default/sa/productpage".parse().unwrap();
//!
//! // `acceptor.accept(socket, mode)` hands out the peer of each connection; here it is plaintext, so there is none.
//! let peer: Option<PeerIdentity> = None;
//! let service = ServiceBuilder::new()
//!     // The connection says who the peer is; whatever else claims to know is removed.
//!     .layer(PeerIdentityLayer::new(peer))
//!     // Nobody else gets through.
//!     .layer(RequirePeerLayer::only(ExpectedPeer::exactly(productpage)))
//!     .service(service_fn(|request: Request<()>| async move {
//!         let peer = request.extensions().get::<PeerIdentity>();
//!         Ok::<_, std::convert::Infallible>(Response::new(format!("hello {peer:?}")))
//!     }));
//!
//! let request = Request::get("http://reviews:9080/reviews/0").body(()).unwrap();
//! let refused = service.oneshot(request).await.unwrap_err();
//! assert_eq!(refused.reason(), mesh_core::Reason::Denied);
//! # }
//! ```
//!
//! # Defaults that are not rustls'
//!
//! TLS 1.3 only for mesh identity; X25519MLKEM768 first; no session resumption in either direction, because a resumed
//! handshake does not ask the verifier; no early data; a client certificate is always required on TLS; an expired
//! identity of our own refuses handshakes. A limit that we take over from webpki: an authority with URI name
//! constraints is not accepted.

mod accept;
mod alpn;
mod bundle;
mod client;
mod config;
mod egress;
mod expected;
#[cfg(test)]
mod forge;
mod handle;
#[cfg(test)]
mod handshakes;
mod identity;
mod peer;
mod peer_authentication;
mod source;
mod verify;

pub use accept::{AcceptError, Accepted, Acceptor, Prefixed};
pub use alpn::Alpn;
pub use bundle::{InvalidBundle, TrustBundle, TrustBundles};
pub use client::{MeshTls, TlsClientStream, TlsError};
pub use egress::{EgressError, EgressStream, EgressTls};
pub use expected::{ExpectedPeer, danger};
pub use handle::{Credentials, Generations, IdentityHandle};
pub use identity::{Identity, InvalidIdentity};
pub use peer::{PeerIdentityLayer, RequirePeer, RequirePeerLayer, ResponseFuture, WithPeerIdentity};
pub use peer_authentication::{PeerAuthMode, PeerAuthentication, PeerAuthentications};
#[cfg(any(feature = "dev-ca", test))]
pub use source::{DevCa, DevCaError, DevCaSource, IssuedPem};
pub use source::{FileSource, IdentitySource, Rotation, Schedule, SourceError, renew_at, retry_after, spawn_rotation};
pub use verify::{PeerRole, Rejected, verify_peer};
