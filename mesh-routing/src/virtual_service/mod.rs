//! VirtualService: Istio's `http` rules as an immutable, compiled model.
//!
//! What the YAML may say is in `spec.rs`, what it means in `model.rs`; `parse.rs` leads from one to the other and
//! gives every mistake its place and Istio's own words, so that a search finds them. `reachability.rs` finds rules
//! that can never be used.

mod model;
mod parse;
mod reachability;
mod spec;

pub use model::VirtualService;
pub(crate) use model::{Destination, Retries, Rule};

#[cfg(test)]
mod tests;
