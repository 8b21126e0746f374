//! Atomics and locks by which threads agree. In the models of the feature `loom` they are loom's, which tries every order that
//! threads and memory may have: `cargo test -p mesh-lb --features loom --lib model`. Everywhere else they are the standard
//! library's.
//!
//! What only counts for the sake of statistics, or is not ours (arc-swap, tokio's Notify), stays as it is.

#[cfg(all(test, feature = "loom"))]
pub(crate) use loom::sync::{Mutex, atomic};
#[cfg(not(all(test, feature = "loom")))]
pub(crate) use std::sync::{Mutex, atomic};
