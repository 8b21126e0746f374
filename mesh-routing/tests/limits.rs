//! What a limit may cost a request: no allocation.

use std::{
    future::{Ready, ready},
    hint::black_box,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderName, Request};
use mesh_core::Error;
use mesh_routing::{KeyBy, RateLimit, RateLimitLayer, RateLimits, TokenBucket};
use tower::{Layer as _, Service as _, service_fn};

#[tokio::test(flavor = "current_thread")]
async fn a_limit_allocates_nothing() {
    let bucket = TokenBucket::new(100, 100, Duration::from_secs(1)).unwrap();
    let key = KeyBy::header(HeaderName::from_static("x-user")).and_path();
    for limits in [
        RateLimits::default(),
        RateLimits::default().with_inbound(RateLimit::new(bucket)),
        // With a key too, once it is known.
        RateLimits::default().with_inbound(RateLimit::keyed(bucket, key)),
    ] {
        let layer = RateLimitLayer::inbound(Arc::new(ArcSwap::from_pointee(limits)));
        let mut service =
            layer.layer(service_fn(|_: Request<()>| -> Ready<Result<(), Error>> { black_box(ready(Ok(()))) }));
        let mut call = |request: Request<()>| {
            let mut future = std::pin::pin!(service.call(request));
            future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        let request = || Request::get("/reviews/0").header("x-user", "jason").body(()).unwrap();
        assert!(matches!(call(request()), Poll::Ready(Ok(()))));
        let requests: Vec<_> = (0..50).map(|_| request()).collect();
        let counted = allocation_counter::measure(|| {
            for request in requests {
                assert!(matches!(call(request), Poll::Ready(Ok(()))));
            }
        });
        assert_eq!(counted.count_total, 0);
    }
}
