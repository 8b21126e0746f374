//! Trace context: which trace a request belongs to, carried from the request that came in to those that go out.
//!
//! A sidecar cannot connect the two, so Istio asks applications to copy headers. In one process the context can
//! travel with the task: the server layer puts it into the request's extensions and runs the handler, and the
//! polls of its response body, inside a task local; the client layer finds it there. Neither needs a `tracing`
//! span to be enabled, so a log filter never cuts a trace in two.
//!
//! What a task local does not follow is a task that the handler spawns: use [`spawn`], or [`scope`] with
//! [`current`]'s answer.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use mesh_telemetry::trace::{self, Sampler, TraceContext};
//! let context = TraceContext::root(Sampler::ratio(1.0), &mut rand::rng());
//! let id = context.trace_id();
//! let seen = trace::scope(context, async {
//!     trace::spawn(async { trace::current().map(|context| context.trace_id()) }).await
//! });
//! assert_eq!(seen.await.unwrap(), Some(id));
//! assert!(trace::current().is_none());
//! # }
//! ```
//!
//! The codec is our own, strict where W3C Trace Context Level 2 is strict: [`Traceparent`] and the rules on
//! `tracestate`. B3 headers are not read; a request that brings only them keeps them on its way out.

mod context;
mod headers;
mod ids;
mod local;
mod traceparent;
mod tracestate;

pub use context::{Sampler, TraceContext};
pub(crate) use headers::{REQUEST_ID, from_headers, inject};
pub use ids::{SpanId, TraceId};
pub(crate) use local::{Scoped, enter, scoped};
pub use local::{current, scope, spawn};
pub use traceparent::{InvalidTraceparent, Traceparent};

#[cfg(test)]
mod tests;
