//! Headers by which a caller could say who it is.

use http::{HeaderMap, HeaderName};

/// Whole names: Envoy's XFCC and RFC 9440's.
const NAMES: [&str; 3] = ["x-forwarded-client-cert", "client-cert", "client-cert-chain"];
/// Families: linkerd's, ours, and the workload metadata that Istio's telemetry exchanges.
const PREFIXES: [&str; 3] = ["l5d-", "x-mesh-", "x-envoy-peer-metadata"];

/// Remove every header that claims an identity. Identity comes from the connection
/// ([`mesh_core::identity::PeerIdentity`]) and from nowhere else.
///
/// Names are compared with `_` as `-`: many a framework makes one of them (CGI turns both into `_`).
///
/// ```
/// let mut headers = http::HeaderMap::new();
/// headers.insert("x_forwarded-Client_cert", "URI=spiffe://td/ns/a/sa/admin".parse().unwrap());
/// headers.insert("x-request-id", "1".parse().unwrap());
/// mesh_authz::canonical::strip_identity_headers(&mut headers);
/// assert_eq!(headers.len(), 1);
/// ```
pub fn strip_identity_headers(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| claims_identity(name)).cloned() {
        headers.remove(name);
    }
}

fn claims_identity(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    // Most headers start with another letter.
    matches!(name.first(), Some(b'x' | b'c' | b'l'))
        && (NAMES.iter().any(|known| known.len() == name.len() && starts_with(name, known))
            || PREFIXES.iter().any(|prefix| starts_with(name, prefix)))
}

fn starts_with(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len()
        && name
            .iter()
            .zip(prefix.bytes())
            .all(|(byte, expected)| *byte == expected || (*byte == b'_' && expected == b'-'))
}
