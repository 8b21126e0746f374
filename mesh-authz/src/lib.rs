//! Who may call: canonical requests and Istio's AuthorizationPolicy, as tower layers in front of any HTTP server.
//!
//! ```text
//!  hyper ──> LocalReply ──> Canonicalize ──────> Authorize ───────────> your service
//!            (mesh-core)    one reading or 400   DENY, then ALLOW       reads PeerIdentity
//!                           no identity headers  403 RBAC: access denied
//! ```
//!
//! What it is: a canonicaliser ([`canonical`]), a model of AuthorizationPolicy that refuses whatever it cannot enforce
//! ([`AuthorizationPolicy`]), and a decision over the policies of one workload ([`PolicySet::decide`]) that is pure
//! and allocates nothing. The layers are thin shells around these; both read their state anew for every request, so a
//! policy change holds for open connections too.
//!
//! What it is not: authentication of peers. The identity it trusts is the
//! [`PeerIdentity`](mesh_core::identity::PeerIdentity) in a request's extensions, which mesh-tls puts there after a
//! handshake. No header ever stands in for it. It does not see L4 traffic.
//!
//! ```
//! use std::{convert::Infallible, sync::Arc};
//!
//! use arc_swap::ArcSwap;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use mesh_authz::{AuthorizationPolicy, AuthorizeLayer, PolicySet, TrustDomains, canonical::CanonicalizeLayer};
//! use mesh_core::{LocalReplyLayer, Workload, config::{Document, Issues}};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let text = r#"
//! apiVersion: security.istio.io/v1
//! kind: AuthorizationPolicy
//! metadata: {name: no-admin, namespace: shop}
//! spec: {action: DENY, rules: [{to: [{operation: {paths: ["/admin*"]}}]}]}
//! "#;
//! let mut issues = Issues::default();
//! let documents = Document::parse_all("policy.yaml", text, &mut issues);
//! let policy = AuthorizationPolicy::from_document(&documents[0], &mut issues).expect("a good policy");
//!
//! let me = Workload::new("shop", "reviews");
//! let set = PolicySet::new([&policy], &me, "istio-system", &TrustDomains::default());
//! // Store another set later, and the next request is decided by it.
//! let live = Arc::new(ArcSwap::from_pointee(set));
//!
//! let service = ServiceBuilder::new()
//!     .layer(LocalReplyLayer)
//!     .layer(CanonicalizeLayer::default())
//!     .layer(AuthorizeLayer::new(live))
//!     .service(service_fn(|_: Request<Empty<&[u8]>>| async {
//!         Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
//!     }));
//!
//! for (path, status) in [("/reviews/1", 200), ("/%61dmin", 403), ("/reviews/../admin", 403), ("/a%2Fadmin", 400)] {
//!     let request = Request::get(path).header("host", "reviews").body(Empty::new()).unwrap();
//!     let response = service.clone().oneshot(request).await.unwrap();
//!     assert_eq!(response.status(), status, "{path}");
//! }
//! # }
//! ```

pub mod canonical;
pub mod jwt;

mod authorize;
mod future;
mod policy;
mod selector;
mod set;
mod trust;
mod view;

pub use authorize::{AccessDenied, Authorize, AuthorizeLayer};
pub use future::ResponseFuture;
pub use policy::{Action, AuthorizationPolicy};
pub use set::{Decision, MatchedRule, PolicySet};
pub use trust::TrustDomains;
pub use view::RequestView;
