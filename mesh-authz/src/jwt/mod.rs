//! RequestAuthentication: whose token a request brings, checked before anybody relies on it.
//!
//! A request without a token passes, with no principal: whether that is enough is for an AuthorizationPolicy to say. One
//! with tokens of which none is good gets 401, whatever the policies say. What a token proves is a
//! [`RequestPrincipal`](mesh_core::identity::RequestPrincipal) in the request's extensions.
//!
//! ```text
//!  RequestAuthentication ─► JwtRule: issuer, audiences, where the token is, whose keys
//!  request ─► locate ─► Token (parsed, typed) ─► JwtRule::check: issuer, time, audience, then JwkSet::verify
//!  KeyStore: key sets by source, put there by whoever fetches them; nothing there: nobody's token is good
//! ```
//!
//! All of it is pure but [`KeyStore`], which is one atomic map. Fetching is somebody else's work: no request waits for it.

mod authenticate;
mod jwk;
mod keys;
mod locate;
mod parse;
mod rule;
mod set;
mod strict;
mod token;

pub use authenticate::{Authenticate, AuthenticateLayer};
pub use jwk::{InvalidJwks, JwkSet};
pub use keys::{KeySource, KeyStore};
pub use parse::RequestAuthentication;
pub use rule::InvalidToken;
pub use set::{Authenticated, RequestAuthentications};

#[cfg(test)]
mod tests;
