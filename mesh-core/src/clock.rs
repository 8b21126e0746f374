//! The one place that reads the clock.
//!
//! Decisions take `now` as an argument; shells call these at the edge of a request and pass the answer down.
//! [`now`] follows tokio's clock, so that a paused runtime moves the whole mesh in virtual time.

use std::time::SystemTime;

/// Monotonic time, tokio's: it stands still and jumps under `start_paused`.
#[must_use]
pub fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Wall-clock time, for certificates and log lines only.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the edge: everything else is handed the time")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
