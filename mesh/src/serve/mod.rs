//! Serving: accept, secure, speak HTTP, drain.
//!
//! A connection lives in one task. The [`Drain`] tells it when to leave:
//!
//! ```text
//! Serving ──shutdown()──► Lingering ──linger over, or nobody comes──► Closing ──grace over──► Aborted
//!                         h1: next response says connection: close    h1: idle closes        tasks end
//!                         h2: GOAWAY, GOAWAY                          listener closes
//! ```
//!
//! The linger is what makes a rolling restart lossless: a client that has not yet heard that this endpoint is
//! gone may still write a request on an idle connection, and closing under it would lose a POST that nobody
//! may send twice (RFC 9110 9.2.2).

mod accept;
mod closing;
mod connection;
mod counted;
mod drain;

pub(crate) use accept::serve;
pub(crate) use drain::{Drain, Phase};
