//! What a local rate limit costs a request.

use std::{hint::black_box, time::Duration};

use divan::Bencher;
use http::{HeaderName, Request};
use mesh_routing::{KeyBy, RateLimit, RateLimits, Side, TokenBucket};

fn main() {
    divan::main();
}

fn ask(bencher: Bencher<'_, '_>, limits: RateLimits) {
    let request = Request::get("http://reviews:9080/reviews/0").header("x-user", "jason").body(()).expect("a request");
    bencher.bench(|| limits.admit(Side::Inbound, black_box(&request), mesh_core::clock::now).is_ok());
}

fn bucket() -> TokenBucket {
    TokenBucket::new(u32::MAX, u32::MAX, Duration::from_secs(1)).expect("a bucket")
}

#[divan::bench]
fn none(bencher: Bencher<'_, '_>) {
    ask(bencher, RateLimits::default());
}

#[divan::bench(threads = [1, 2])]
fn one(bencher: Bencher<'_, '_>) {
    ask(bencher, RateLimits::default().with_inbound(RateLimit::new(bucket())));
}

#[divan::bench(threads = [1, 2])]
fn keyed(bencher: Bencher<'_, '_>) {
    let key = KeyBy::header(HeaderName::from_static("x-user"));
    ask(bencher, RateLimits::default().with_inbound(RateLimit::keyed(bucket(), key)));
}
