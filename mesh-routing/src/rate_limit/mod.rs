//! Local rate limits: how many requests this process lets through, decided by itself alone.
//!
//! A limit is a token bucket: [`TokenBucket::max_tokens`](TokenBucket::new) requests at once, and as many after that as
//! the fill rate gives. It is Envoy's, answered as Envoy's `local_ratelimit` answers: 429 `local_rate_limited`, flag `RL`, and
//! 14 (UNAVAILABLE) to gRPC callers (measured on Envoy 1.40). With a [key](KeyBy) there is one bucket for each value of it: each
//! user, each calling identity, each path. Buckets are governor's, and with keys they are bounded: see [`KeyBy`].
//!
//! One process knows only its own requests: ten replicas with a limit of 100 let 1,000 through. What a local limit is good
//! for is that nothing else has to be asked, so that it costs next to nothing and cannot fail.
//!
//! [`RateLimits`] is what is in force, inbound and outbound: a list of [`RateLimit`]s for each. All that match a request have
//! their say, in order, and the first whose bucket is empty refuses it. They come from the `localRateLimit` section of a
//! `MeshPolicy`, or from code:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use arc_swap::ArcSwap;
//! use http::{Request, Response};
//! use mesh_core::LocalReplyLayer;
//! use mesh_routing::{KeyBy, RateLimit, RateLimitLayer, RateLimits, TokenBucket};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let all = TokenBucket::new(1000, 1000, Duration::from_secs(1)).unwrap();
//! let each = TokenBucket::new(1, 1, Duration::from_secs(60)).unwrap();
//! let limits = RateLimits::default()
//!     .with_inbound(RateLimit::new(all))
//!     .with_inbound(RateLimit::keyed(each, KeyBy::header(http::HeaderName::from_static("x-user"))));
//!
//! let service = ServiceBuilder::new()
//!     .layer(LocalReplyLayer)
//!     .layer(RateLimitLayer::inbound(Arc::new(ArcSwap::from_pointee(limits))))
//!     .service(service_fn(async |_: Request<String>| Ok::<_, mesh_core::Error>(Response::new(String::new()))));
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let request = |user| Request::get("/").header("x-user", user).body(String::new()).unwrap();
//! assert_eq!(service.clone().oneshot(request("jason")).await.unwrap().status(), 200);
//! assert_eq!(service.clone().oneshot(request("jason")).await.unwrap().status(), 429);
//! assert_eq!(service.oneshot(request("jane")).await.unwrap().status(), 200);
//! # });
//! ```

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
