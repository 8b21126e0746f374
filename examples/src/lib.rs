//! Istio's bookinfo as a library, so that the example and the tests start the same services.
//!
//! What it is: four small applications in eight versions ([`bookinfo::Deployment`]), each an axum router that knows
//! nothing of the mesh but the client it is given, and [`bookinfo::start`], which gives each a socket, an identity and
//! a [`mesh::Mesh`]. What it is not: a place for mesh features; rules are in `bookinfo/mesh/*.yaml`.
//!
//! ```text
//!                     +--> details v1, v2
//! browser --> productpage                      +--> ratings v1, v2
//!                     +--> reviews v1          |
//!                          reviews v2 (black) -+
//!                          reviews v3 (red)  --+
//! ```
//!
//! The small examples beside it (`examples/*.rs`) each show one way to use the mesh in under a hundred lines.

pub mod bookinfo;
