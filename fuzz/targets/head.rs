//! Requests: host, port, path and its normal forms, and what becomes of them. `METHOD URI`, then lines of `name: value`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mesh_routing::hostile::Table;

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

fuzz_target!(|bytes: &[u8]| TABLE.head(bytes));
