//! Endpoints over real sockets: that they appear, leave, multiplex, and that nothing which is counted on them is forgotten.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod appear;
mod cancelled;
#[path = "../common/mod.rs"]
mod common;
mod connecting;
mod leave;
mod streams;
mod transport;
mod upgraded;
mod upstream;
