//! Prequal on the wire: how a server's load comes to its clients.
//!
//! What is decided with it is mesh-lb's ([`mesh_lb::Prequal`], [`mesh_lb::LoadEstimator`]). Here are the header and those
//! who write and read it.
//!
//! ```text
//!  client's connector                                      server's inbound stack
//!  request  + x-mesh-load: report ───────────────────────► AnswerLoad: takes the header away, remembers the question
//!                                                            │ … authorization, rate limit …
//!                                                          CountLoad ─► the application, until its response's body ends
//!  Cluster::report ◄──── x-mesh-load: 3 12000 ─────────────┘ requests in flight, microseconds to expect
//!  probe    OPTIONS *, x-mesh-load: probe ───────────────► AnswerLoad answers by itself: nobody else sees it
//! ```
//!
//! **Who may ask.** Whoever proved a mesh identity in the handshake, whatever the port's mode, and nobody else: a stranger's
//! header is taken away and not answered. (Without an identity of its own, `dangerous().without_identity()`, a server cannot
//! tell who asks, and answers all.) What is told, how busy this process is, is told before AuthorizationPolicy has its
//! say: a policy about paths does not know the probe, and would have to.
//!
//! **Who may speak.** The header never reaches the application, in either direction: inbound it is taken from the request,
//! outbound the connector takes it from every request before it adds its own, so that a proxy passes on nobody's
//! question, and from the response to one it asked with. Answers count only over the mutual TLS that proved whose they are.
//!
//! **Who pays.** A client asks where the policy of a cluster is Prequal, a server begins to count with the first question it
//! answers. Where nobody uses Prequal, that is one lookup of a header in a request. A server that does not answer, because
//! it has no inbound stack of ours, is not probed again for a minute, and chosen by requests in flight.

mod answer;
mod client;
mod count;
mod gauge;
mod header;

pub use answer::{AnswerFuture, AnswerLoad, AnswerLoadLayer, AnsweredBody};
pub(crate) use client::{ask, heard, keep_probing, probe_due};
pub use count::{CountFuture, CountLoad, CountLoadLayer, CountedLoadBody};
pub(crate) use gauge::Gauge;
