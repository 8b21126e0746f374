//! Prequal: probing to reduce queuing and latency (Wydrowski, Kleinberg, Rumble, Archer; NSDI'24).
//!
//! A client asks a few servers, now and then and never on the way of a request, for the number of their requests in flight
//! (RIF) and for the latency that they have at that number ([`LoadReport`]). It keeps the latest answers in a pool, and
//! sends a request to the one of the pool that is best by the hot-cold lexicographic rule: of those that are cold, whose
//! RIF is not above a quantile of what servers have told lately, the one with the least latency; when all are hot, the
//! one with the least RIF.
//!
//! ```text
//!  client                                                        server
//!  Cluster::pick ── hot-cold rule ─► member ── request ────────► LoadEstimator::begin … ended
//!      │                ▲ pool, 16                                  │ RIF, 25 nearest of the last 256
//!      ▼ due            │                                           ▼
//!  Cluster::probes_due ─┴─ Cluster::report ◄── probe's answer ── LoadEstimator::report
//!                                          ◄── or a header of a response
//! ```
//!
//! The structs here decide. Whoever carries probes calls [`Cluster::probes_due`](crate::Cluster::probes_due) after picks
//! and a few times a second, and [`Cluster::report`](crate::Cluster::report) with what it hears.
//!
//! Where the paper leaves something open, or simulation showed otherwise (load-balancing.md 2.1), this is what is done:
//!
//! - The threshold between cold and hot comes from the last 128 reports, not from the pool: that is biased, because the worst
//!   is removed from it.
//! - With fewer than two usable answers the lesser loaded of two drawn at random is taken, by this client's own
//!   requests in flight, rather than any.
//! - An endpoint has one answer in the pool, the last one.
//! - A request that the client sends adds one to the RIF that was told while it is in flight, not beyond.
//! - The client's own knowledge corrects an answer: a latency is no less than the time for which the endpoint has been
//!   asked in vain, and who fails is avoided (see [`Ended`](crate::Ended)).
//! - A report that rides on a response stands for a probe: a busy client probes no more than an eighth of what it would,
//!   and not never, because from its own requests alone it would not hear of endpoints that it does not use.
//! - While the pool has fewer than 4 answers, some are asked for, until a minute after the last request.

mod estimator;
mod pool;
mod report;
mod settings;
mod spec;
mod window;

pub(crate) use self::pool::{Candidate, Pool, Pools};
pub use self::{
    estimator::{InHand, LoadEstimator},
    pool::ProbeTargets,
    report::LoadReport,
    settings::{InvalidPrequal, Prequal},
    spec::{PeakEwmaSpec, PrequalSpec},
};
