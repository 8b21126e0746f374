//! What routing may cost in memory: nothing for a request, little for a rule.

#[path = "../benches/tables/mod.rs"]
mod tables;

use std::hint::black_box;

use http::Request;
use mesh_routing::RequestHead;
use tables::{Rule, Table, by_header, by_regex, by_shape, get, mixed};

/// Without regexes.
fn plain(n: usize) -> Rule {
    mixed(if n % 20 == 18 { n + 1_000_000 - 18 } else { n })
}

/// Does every request find a route? With what it allocates.
fn route(table: &Table, requests: &[Request<()>]) -> (bool, u64) {
    let heads: Vec<_> = requests.iter().map(head).collect();
    let mut found = true;
    let counted = allocation_counter::measure(|| {
        for head in &heads {
            found &= black_box(table.table.route(head, || 0)).is_ok();
        }
    });
    (found, counted.count_total)
}

fn requests(rule: fn(usize) -> Rule, rules: usize) -> Vec<Request<()>> {
    (0..rules).map(|n| rule(n).1).collect()
}

fn head(request: &Request<()>) -> RequestHead<'_> {
    RequestHead::new(request, mesh_core::path::PathNormalization::Base).expect("a path")
}

#[test]
fn a_match_allocates_nothing() {
    for (name, rule, sizes) in [
        ("mix", mixed as fn(usize) -> Rule, [10, 100, 1_000, 10_000]),
        ("headers", by_header, [10, 100, 1_000, 10_000]),
        ("regexes", by_regex, [10, 100, 500, 1_000]),
        ("shapes", by_shape, [10, 100, 500, 1_000]),
    ] {
        for size in sizes {
            let table = Table::new(rule, size);
            let requests = requests(rule, size);
            assert_eq!(route(&table, &requests), (true, 0), "{name} of {size}");
            // Reading a head of normal form allocates nothing either.
            assert_eq!(allocation_counter::measure(|| drop(black_box(head(&requests[0])))).count_total, 0);
            // No route is an error, and an error is one allocation.
            let miss = get("/nowhere", None);
            let head = head(&miss);
            let missed = allocation_counter::measure(|| drop(black_box(table.table.route(&head, || 0))));
            assert!(missed.count_total <= 1, "{missed:?}");
        }
    }
}

/// Of the compiled rules and the table together, after use.
fn bytes(rule: fn(usize) -> Rule, rules: usize) -> i64 {
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let table = Table::new(rule, rules);
        assert!(route(&table, &requests(rule, rules)).0);
        kept = Some(table);
    });
    drop(kept);
    counted.bytes_current
}

#[test]
fn a_table_is_small() {
    let plain = bytes(plain, 5_000);
    println!("5,000 routes without regexes: {plain} bytes");
    assert!(plain < 10_000_000, "{plain}");
    let regexes = bytes(by_regex, 1_000);
    println!("1,000 regexes: {} bytes each, their routes included", regexes / 1_000);
    assert!(regexes < 10_000 * 1_000, "{regexes}");
    let shapes = bytes(by_shape, 1_000);
    println!("1,000 regexes without text: {} bytes each", shapes / 1_000);
    assert!(shapes < 10_000 * 1_000, "{shapes}");
}
