//! Retries: when, how often, after what wait, and how the request's body is sent again.
//!
//! The decision ([`RetryPolicy`], [`RetryOn`], [`BackOff`]) is Envoy's and Istio's. A retry stays in the cluster that
//! the router chose, avoids the endpoints already tried, and asks the cluster's budget for leave. It happens only
//! before a response's head has been handed out.
//!
//! Apart from that, and where retries are off too, a request that certainly or harmlessly was not acted on is sent
//! again once, invisibly: see [`Resend`](mesh_core::Resend). Neither policy nor budget are asked, and it stays the
//! same attempt.
//!
//! A reply that ended the retries carries [`RETRIES_EXHAUSTED`](mesh_core::RETRIES_EXHAUSTED), and one that comes
//! with it is not retried.
//!
//! The body is replayed without copying: what the first attempt reads from it is kept, in the same `Bytes`, up to
//! 1 MiB. Past that the request still goes through once, streaming, and is no longer retried. An empty body costs
//! nothing.

mod backoff;
mod condition;
mod future;
mod layer;
mod policy;
mod replay;
mod spec;

pub use backoff::BackOff;
pub use condition::{InvalidRetryOn, RetryOn};
pub use future::RetryFuture;
pub use layer::{Retry, RetryLayer};
pub use policy::{RetryPolicy, Verdict};
pub use replay::ReplayBody;
pub(crate) use spec::RetrySpec;

#[cfg(test)]
mod tests;
