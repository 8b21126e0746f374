//! One reading of a request, before anything decides about it.
//!
//! hyper hands over what the peer sent: two `Host` headers, a URI whose authority is not the `Host`, `/%61dmin`,
//! `/x/../admin`, method `get`. A policy, a router and a handler that each read such a request in their own way can
//! be played against each other, so it is read once, here, outermost: what has one meaning is rewritten into its
//! canonical spelling ([`mesh_core::path`]), what has two is refused with 400, and headers by which a caller could
//! claim an identity are removed. Everything inside sees the result.
//!
//! ```
//! use http::Request;
//! use mesh_authz::canonical::{NotCanonical, canonicalize};
//! use mesh_core::path::PathNormalization::Base;
//!
//! let mut request = Request::get("/x/../%61dmin?q=%2F").header("host", "reviews").body(()).unwrap();
//! canonicalize(&mut request, Base).unwrap();
//! assert_eq!(request.uri(), "/admin?q=%2F");
//!
//! let mut request = Request::get("/a%2Fadmin").header("host", "reviews").body(()).unwrap();
//! assert_eq!(canonicalize(&mut request, Base), Err(NotCanonical::EncodedSlash));
//! ```
//!
//! Stricter than Istio, which passes such requests on (README, "Differences from Istio").

mod error;
mod headers;
mod host;
mod layer;
mod path;

use http::Request;
use mesh_core::path::PathNormalization;

pub use error::NotCanonical;
pub use headers::strip_identity_headers;
pub use layer::{Canonicalize, CanonicalizeLayer};
pub(crate) use path::canonical_path;

/// Bring a request into its canonical form: path rewritten, identity headers removed.
///
/// The query, the body and every other header stay. A second call changes nothing.
///
/// # Errors
/// When the request can be read in two ways; it is then half rewritten and must not be used.
pub fn canonicalize<B>(request: &mut Request<B>, mode: PathNormalization) -> Result<(), NotCanonical> {
    // measured on Envoy 1.40 (t1): lower-case method `put` is 400.
    if request.method().as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(NotCanonical::Method);
    }
    host::check(request.version(), request.uri(), request.headers())?;
    if let Some(uri) = path::canonical_uri(request.uri(), mode)? {
        *request.uri_mut() = uri;
    }
    strip_identity_headers(request.headers_mut());
    Ok(())
}

#[cfg(test)]
mod tests;
