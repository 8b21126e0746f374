//! The mesh against programs that we did not write. Unpublished.
//!
//! A real Envoy is the referee of routing: random VirtualServices are compiled by mesh-routing and, by a translation of
//! this crate's own, to the routes that Envoy runs; the same bytes go over sockets to both, and what each did is
//! compared, down to the bytes that reach the upstream.
//!
//! ```text
//!   seed ─▶ generate ─▶ tables ─┬─ istio ─────▶ VirtualService ─▶ RouteTable ─▶ our layers ─▶ upstreams that record
//!                  └──▶ requests│                                                  ▲
//!                          │    └─ translate ─▶ RouteConfiguration ─▶ Envoy ───────┼────────▶ upstreams that record
//!                          └───────────────────────────────────────────▶ bytes ────┘
//!   compare ◀─ status, route, cluster, flags, attempts, headers, body, and what each attempt looked like
//! ```
//!
//! That it would notice is proved with [`Bug`]s: switched on, our side compiles something else, and a match finds it.
//!
//! `interop/envoy.sh` installs the binary. `cargo run -p mesh-interop -- --cases 100000` plays longer than CI does;
//! `--seed` plays a printed seed again. Accepted differences stand in `accepted.rs`, with a reason each.

mod accepted;
mod bugs;
mod clusters;
mod compare;
mod conditions;
mod coverage;
mod derive;
mod dice;
mod envoy;
mod generate;
mod hosts;
mod istio;
mod merge;
mod model;
mod ours;
mod patterns;
mod policies;
mod referee;
mod report;
mod rules;
mod shrink;
#[cfg(test)]
mod told;
mod translate;
mod upstream;
mod wire;

pub use bugs::Bug;
pub use envoy::find;
pub use referee::run;
pub use report::{Options, Report};
