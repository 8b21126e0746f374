//! What a route lookup costs: `cargo bench -p mesh-routing`.
//!
//! Per table and size: the first route, all routes in turn, the last one, and a request that none takes.

mod tables;

use std::cell::Cell;

use divan::{Bencher, black_box};
use http::Request;
use mesh_routing::RequestHead;
use tables::{Table, by_header, by_regex, by_shape, get, mixed};

const MIX: [usize; 4] = [10, 100, 1_000, 10_000];
const HEADERS: [usize; 2] = [1_000, 10_000];
const REGEXES: [usize; 2] = [100, 1_000];

/// A prime that divides no size of a table: steps of it come by every route, in an order that is no order.
const STRIDE: usize = 7_919;

fn main() {
    divan::main();
}

/// Route requests: one for each rule, in turn. Each is made just before, as one that came in is, so that what
/// is cold is the table. Reading the request's head is part of the figure.
fn look_up(bencher: Bencher<'_, '_>, table: &Table, requests: usize, request: impl Fn(usize) -> Request<()>) {
    let at = Cell::new(0);
    let next = || {
        at.set((at.get() + STRIDE) % requests);
        request(at.get())
    };
    bencher.with_inputs(next).bench_local_refs(|request| {
        let head = RequestHead::new(request, table.table.path_normalization()).expect("a path");
        table.table.route(black_box(&head), || 0).is_ok()
    });
}

macro_rules! tables {
    ($($name:ident: $rule:path, $sizes:path;)*) => {$(
        mod $name {
            use super::*;

            #[divan::bench(args = $sizes, sample_size = 64, sample_count = 1_000)]
            fn first(bencher: Bencher<'_, '_>, rules: usize) {
                let table = Table::new($rule, rules);
                look_up(bencher, &table, 1, |_| $rule(0).1);
            }

            #[divan::bench(args = $sizes, sample_size = 64, sample_count = 1_000)]
            fn average(bencher: Bencher<'_, '_>, rules: usize) {
                let table = Table::new($rule, rules);
                look_up(bencher, &table, rules, |n| $rule(n).1);
            }

            #[divan::bench(args = $sizes, sample_size = 64, sample_count = 1_000)]
            fn last(bencher: Bencher<'_, '_>, rules: usize) {
                let table = Table::new($rule, rules);
                look_up(bencher, &table, 1, |_| $rule(rules - 1).1);
            }

            #[divan::bench(args = $sizes, sample_size = 64, sample_count = 1_000)]
            fn miss(bencher: Bencher<'_, '_>, rules: usize) {
                let table = Table::new($rule, rules);
                look_up(bencher, &table, 1, |_| get("/api/v1/svc00000/other", None));
            }
        }
    )*};
}

tables! {
    mix: mixed, MIX;
    headers: by_header, HEADERS;
    regexes: by_regex, REGEXES;
    shapes: by_shape, REGEXES;
}
