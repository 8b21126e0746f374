//! Fixtures of the workspace's tests. Unpublished.

mod istio_table;
mod name_server;
mod scratch;
mod seed;
mod shared;
mod tool;

use std::io::Write as _;

pub use istio_table::{IstioTable, istio_tables};
pub use name_server::{NameServer, Says, kind};
pub use scratch::Scratch;
pub use seed::seed;
pub use serde_json::Value;
pub use shared::shared;
pub use tool::tool;

/// Say something past the test runner, which keeps to itself what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
