//! The route's timeout: wall clock over all attempts and back-off, and over the response's body.
//!
//! istio networking/v1alpha3 HTTPRoute.timeout: "Timeout for HTTP requests, default is disabled." It starts when the
//! request reaches the router, after an injected delay (measured on Envoy 1.40, t4). Before the response's head it
//! is a 504; after it the body ends in an error, which resets the stream. A successful upgrade ends it. A gRPC call
//! brings its own in `grpc-timeout`, which the route's timeout caps.

mod body;
mod grpc;
mod layer;

pub use body::TimeoutBody;
pub(crate) use grpc::{effective, is_grpc, tell};
pub use layer::{Timeout, TimeoutFuture, TimeoutLayer};
