//! Local rate limits: how many requests this process lets through, decided by itself alone.
//!
//! A limit is a token bucket: [`TokenBucket::max_tokens`](TokenBucket::new) requests at once, and as many after that
//! as the fill rate gives. It is Envoy's, answered as Envoy's `local_ratelimit` answers: 429 `local_rate_limited`,
//! flag `RL`, and 14 (UNAVAILABLE) to gRPC callers (measured on Envoy 1.40). With a [key](KeyBy) there is one bucket
//! for each value of it: each user, each calling identity, each path. Buckets are governor's, and with keys they are
//! bounded: see [`KeyBy`].
//!
//! One process knows only its own requests: ten replicas with a limit of 100 let 1,000 through. What a local limit is
//! good for is that nothing else has to be asked, so that it costs next to nothing and cannot fail.
//!
//! [`RateLimits`] is what is in force, inbound and outbound: a list of [`RateLimit`]s for each. All that match a
//! request have their say, in order, and the first whose bucket is empty refuses it. They come from the
//! `localRateLimit` section of a `MeshPolicy`, or from code.

mod bucket;
mod buckets;
mod key;
mod layer;
mod limit;
mod limiter;
mod limits;
mod spec;

pub use bucket::{InvalidTokenBucket, TokenBucket};
pub use key::KeyBy;
pub use layer::{Limitable, RateLimitFuture, RateLimitLayer, RateLimited};
pub use limit::{LimitCounts, RateLimit};
pub use limiter::Limiter;
pub use limits::{RateLimits, Side};

#[cfg(test)]
mod tests;
