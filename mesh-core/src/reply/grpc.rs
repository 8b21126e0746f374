//! The gRPC form of a local reply.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::LocalReply;
use crate::{Error, Reason};

/// Does the caller speak gRPC? gRPC over HTTP/2: content-type "application/grpc" [("+proto" / "+json" / …)].
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A trailers-only response: HTTP 200, the status in the headers.
pub(super) fn reply(error: &Error, mut headers: HeaderMap) -> LocalReply {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), status(error.reason()).into());
    if let Ok(message) = HeaderValue::from_str(&encode(&error.body()))
        && !message.is_empty()
    {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    LocalReply { status: StatusCode::OK, headers, body: Bytes::new() }
}

/// Envoy's mapping (`Grpc::Utility::httpToGrpcStatus`), which is gRPC's own for HTTP statuses. Measured on
/// Envoy 1.40 (t3, t4): a timeout is 14, a fault with status 555 is 2, no route is 12.
fn status(reason: Reason) -> u16 {
    if let Reason::FaultAbortGrpc(status) = reason {
        return status.into();
    }
    match reason.status().as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// gRPC over HTTP/2, Percent-Encoded: printable ASCII but `%` stands for itself.
fn encode(message: &[u8]) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.iter().copied() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
