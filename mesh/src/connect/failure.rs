//! What a request's end on a connection means: whose fault, and may it be sent again.

use std::{error::Error as StdError, io};

use http::Method;
use mesh_core::{Error, Reason, Resend};

/// What is known of the connection that a request failed on.
#[derive(Clone, Copy, Debug)]
pub(super) enum On {
    /// HTTP/1.1.
    H1 {
        /// It had carried a request before.
        used: bool,
        /// Nothing of an answer has come.
        silent: bool,
    },
    /// HTTP/2.
    H2 {
        /// It was not made for this request.
        used: bool,
    },
}

/// The error of a request that hyper did not hand back.
pub(super) fn failure(error: hyper::Error, method: &Method, on: On) -> Error {
    if error.is_user() {
        // The caller's body failed: no fault of the endpoint's.
        return Error::new(Reason::RequestAborted).with_source(error);
    }
    let (reason, resend) = match on {
        On::H1 { used, silent } => (reset(), ended(method, used && silent)),
        On::H2 { used } => match error.source().and_then(|source| source.downcast_ref::<h2::Error>()) {
            // RFC 9113 8.7: "closed prior to any processing having occurred".
            Some(h2) if h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM) => {
                (Reason::RefusedStream, Some(Resend::Refused))
            }
            // RFC 9113 8.7: "The GOAWAY mechanism indicates the highest stream number that might have been processed.
            // Requests on streams with higher numbers are therefore guaranteed to be safe to retry." h2 ends those,
            // and those that were to be opened, with the peer's GOAWAY; the others end with the connection.
            Some(h2) if h2.is_go_away() && h2.is_remote() => (Reason::RefusedStream, Some(Resend::ConnectionEnded)),
            Some(_) => (reset(), None),
            // hyper takes an end of the connection out of h2's error.
            None => (reset(), ended(method, used && error.source().is_some_and(<dyn StdError>::is::<io::Error>))),
        },
    };
    Error::new(reason).with_resend(resend).with_source(error)
}

fn reset() -> Reason {
    Reason::Reset { request_sent: true }
}

/// RFC 9112 9.3.1: "When an inbound connection is closed prematurely, a client MAY open a new connection and
/// automatically retransmit an aborted sequence of requests if all of those requests have idempotent methods (Section
/// 9.2.2 of [HTTP])." Of a new connection that ended the same can be expected again.
fn ended(method: &Method, before_an_answer: bool) -> Option<Resend> {
    (before_an_answer && method.is_idempotent()).then_some(Resend::ConnectionEnded)
}
