use std::path::PathBuf;

use crate::say;

/// A program that we did not write, to test against: found in `PATH`.
///
/// `None` where it is absent, which a test treats as a skip: it is printed. With `MESH_REQUIRE_TOOLS=1` (CI) absence is
/// a failure.
///
/// # Panics
/// When it is absent and `MESH_REQUIRE_TOOLS` is set.
#[must_use]
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("MESH_REQUIRE_TOOLS").is_none(),
            "{name} is required (MESH_REQUIRE_TOOLS) and not in PATH"
        );
        say(&format!("SKIPPED: {name} is not in PATH"));
    }
    found
}
