//! VirtualService: Istio's `http` rules as an immutable, compiled model.
//!
//! What the YAML may say is in `spec.rs`, what it means in `model.rs`; `parse.rs` leads from one to the other and
//! gives every mistake its place and Istio's own words, so that a search finds them; `action.rs` is its half about
//! what rules do. `reachability.rs` finds rules that can never be used. `delegate.rs` puts the rules of one
//! VirtualService in the place where another delegates to it.

mod action;
mod delegate;
mod model;
mod parse;
mod reachability;
mod spec;

pub(crate) use delegate::merge;
pub use model::VirtualService;
pub(crate) use model::{Action, Backend, Destination, Foreign, Host, LeftOut, Lender, Place, Retries, Rule, Semantics};
pub(crate) use parse::Parser;
pub(crate) use spec::{DestinationSpec, HttpMatch};

#[cfg(test)]
mod tests;
