//! Fixtures of the workspace's tests. Unpublished.

mod scratch;
mod shared;
mod tool;

use std::io::Write as _;

pub use scratch::Scratch;
pub use shared::shared;
pub use tool::tool;

/// Say something past the test runner, which keeps to itself what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
