//! Sending a request again outside of every policy, because it certainly or harmlessly was not acted on.
//!
//! A connection can end just when a request is put on it; whoever chose that connection knows, and says so with
//! [`Error::with_resend`](crate::Error::with_resend). Whoever holds the request's body (mesh-routing's retry) then
//! sends it once more: the same attempt, counted nowhere.

use http::HeaderName;

/// Why a request may be sent again whatever the route's policy says of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resend {
    /// The endpoint refused this request and did nothing with it.
    ///
    /// RFC 9113 8.7: "The REFUSED_STREAM error code can be included in a RST_STREAM frame to indicate that the stream
    /// is being closed prior to any processing having occurred. Any request that was sent on the reset stream can be
    /// safely retried."
    Refused,
    /// The connection was on its way out: a GOAWAY left the request out (any method), or a connection that was used
    /// before ended before a byte of the answer came (idempotent methods).
    ///
    /// RFC 9113 8.7: "The GOAWAY mechanism indicates the highest stream number that might have been processed.
    /// Requests on streams with higher numbers are therefore guaranteed to be safe to retry." RFC 9110 9.2.2: "A
    /// proxy MUST NOT automatically retry non-idempotent requests."
    ConnectionEnded,
}

impl Resend {
    /// Does it count against the endpoint's health? A refusal does; that a connection ends between two requests is a
    /// matter of course.
    #[must_use]
    pub fn is_fault(self) -> bool {
        self == Self::Refused
    }
}

/// In the extensions of a request that is being resent: it goes on a connection that nobody used before, and is not
/// resent again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resent;

/// The header of a reply that is what it is after all retries: whoever gets it through another mesh client above does
/// not retry it, so that retries do not multiply from tier to tier.
///
/// Its value says what ended the retries: `limit` (the policy's attempts, Envoy's `URX`) or `budget` (the cluster's,
/// `UO`). It binds only retries of the very reply that carries it, so that an upstream can spare itself retries and
/// nobody else.
pub const RETRIES_EXHAUSTED: HeaderName = HeaderName::from_static("x-mesh-retries-exhausted");
