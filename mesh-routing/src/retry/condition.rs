//! `retryOn`: the conditions under which an attempt may be repeated.

use http::{HeaderMap, StatusCode};
use mesh_core::Reason;

/// A parsed `retryOn` list.
///
/// ```
/// use {mesh_routing::RetryOn, http::{HeaderMap, StatusCode}, mesh_core::Reason};
/// let on = RetryOn::parse("gateway-error, reset, 429").unwrap();
/// assert!(on.response(StatusCode::BAD_GATEWAY, &HeaderMap::new()));
/// assert!(on.response(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new()));
/// assert!(on.error(Reason::Reset { request_sent: true }));
/// assert!(!on.response(StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new()));
/// assert!(RetryOn::parse("sometimes").is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    tokens: u32,
    statuses: Box<[StatusCode]>,
}

/// A word that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid retryOn policy")]
pub struct InvalidRetryOn(String);

const SERVER_ERROR: u32 = 1;
const GATEWAY_ERROR: u32 = 1 << 1;
const RESET: u32 = 1 << 2;
const RESET_BEFORE_REQUEST: u32 = 1 << 3;
const CONNECT_FAILURE: u32 = 1 << 4;
const RETRIABLE_4XX: u32 = 1 << 5;
const REFUSED_STREAM: u32 = 1 << 6;
const RETRIABLE_STATUS_CODES: u32 = 1 << 7;
const RATE_LIMITED: u32 = 1 << 8;
const CANCELLED: u32 = 1 << 9;
const DEADLINE_EXCEEDED: u32 = 1 << 10;
const INTERNAL: u32 = 1 << 11;
const RESOURCE_EXHAUSTED: u32 = 1 << 12;
const UNAVAILABLE: u32 = 1 << 13;
/// Valid words that never apply: no header list can be given in Istio, and there is no HTTP/3 here.
const NEVER: u32 = 0;

/// istio pkg/config/validation supportedRetryOnPolicies.
const WORDS: [(&str, u32); 16] = [
    ("5xx", SERVER_ERROR),
    ("gateway-error", GATEWAY_ERROR),
    ("reset", RESET),
    ("reset-before-request", RESET_BEFORE_REQUEST),
    ("connect-failure", CONNECT_FAILURE),
    ("retriable-4xx", RETRIABLE_4XX),
    ("refused-stream", REFUSED_STREAM),
    ("retriable-status-codes", RETRIABLE_STATUS_CODES),
    ("retriable-headers", NEVER),
    ("envoy-ratelimited", RATE_LIMITED),
    ("http3-post-connect-failure", NEVER),
    ("cancelled", CANCELLED),
    ("deadline-exceeded", DEADLINE_EXCEEDED),
    ("internal", INTERNAL),
    ("resource-exhausted", RESOURCE_EXHAUSTED),
    ("unavailable", UNAVAILABLE),
];

impl RetryOn {
    /// Read a comma-separated list of words and HTTP status codes; empty parts are skipped.
    ///
    /// istio retry.go parseRetryOn: a status code becomes a retriable code and turns `retriable-status-codes` on.
    ///
    /// # Errors
    /// The first part that is neither.
    pub fn parse(list: &str) -> Result<Self, InvalidRetryOn> {
        let mut tokens = 0;
        let mut statuses = Vec::new();
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let status = part.parse::<u16>().ok().and_then(|code| StatusCode::from_u16(code).ok());
            if let Some(status) = status.filter(|status| status.canonical_reason().is_some()) {
                statuses.push(status);
                tokens |= RETRIABLE_STATUS_CODES;
            } else if let Some((_, token)) = WORDS.iter().find(|(word, _)| *word == part) {
                tokens |= token;
            } else {
                return Err(InvalidRetryOn(part.to_owned()));
            }
        }
        Ok(Self { tokens, statuses: statuses.into() })
    }

    /// The words and codes, in Istio's order; those that never hold are left out.
    pub(crate) fn words(&self) -> impl Iterator<Item = String> {
        let coded = !self.statuses.is_empty();
        let tokens = WORDS.iter().filter(|(_, token)| self.has(*token));
        let tokens = tokens.filter(move |(_, token)| !(coded && *token == RETRIABLE_STATUS_CODES));
        tokens.map(|(word, _)| (*word).to_owned()).chain(self.statuses.iter().map(|code| code.as_str().to_owned()))
    }

    fn has(&self, any_of: u32) -> bool {
        self.tokens & any_of != 0
    }

    /// May an attempt that got this response be repeated? Envoy RetryStateImpl::wouldRetryFromHeaders.
    #[must_use]
    pub fn response(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if headers.contains_key("x-envoy-ratelimited") {
            return self.has(RATE_LIMITED);
        }
        let code = status.as_u16();
        (self.has(SERVER_ERROR) && status.is_server_error())
            || (self.has(GATEWAY_ERROR) && matches!(code, 502..=504))
            // envoy retriable-4xx: "Currently, the only response code in this category is 409."
            || (self.has(RETRIABLE_4XX) && code == 409)
            || (self.has(RETRIABLE_STATUS_CODES) && self.statuses.contains(&status))
            || self.grpc(headers)
    }

    /// gRPC conditions look at the response's headers only, that is at trailers-only replies.
    fn grpc(&self, headers: &HeaderMap) -> bool {
        if !self.has(CANCELLED | DEADLINE_EXCEEDED | INTERNAL | RESOURCE_EXHAUSTED | UNAVAILABLE) {
            return false;
        }
        let token = match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
            Some(b"1") => CANCELLED,
            Some(b"4") => DEADLINE_EXCEEDED,
            Some(b"8") => RESOURCE_EXHAUSTED,
            Some(b"13") => INTERNAL,
            Some(b"14") => UNAVAILABLE,
            _ => return false,
        };
        self.has(token)
    }

    /// May an attempt that ended without a response be repeated? Envoy RetryStateImpl::wouldRetryFromReset.
    ///
    /// measured on Envoy 1.40 (t3): `5xx` includes resets, failed connections and per-try timeouts; the default list
    /// includes neither a reset after sending nor a per-try timeout.
    #[must_use]
    pub fn error(&self, reason: Reason) -> bool {
        let any_reset = RESET | SERVER_ERROR | GATEWAY_ERROR;
        self.has(match reason {
            Reason::ConnectFailure => any_reset | CONNECT_FAILURE | RESET_BEFORE_REQUEST,
            Reason::RefusedStream => any_reset | REFUSED_STREAM,
            Reason::Reset { request_sent: true } | Reason::PerTryTimeout => any_reset,
            Reason::Reset { request_sent: false } => any_reset | RESET_BEFORE_REQUEST,
            _ => return false,
        })
    }
}
