//! What the mesh tells of bookinfo without bookinfo's help: Istio's metrics, read by a real Prometheus, and one trace
//! from the browser to the last service.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod browser;
mod istio;
mod listening;
mod metrics;
mod prometheus;
mod spans;
mod traces;
mod world;
