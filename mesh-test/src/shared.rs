//! Third-party test data, read where it lies: never copied into the project.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::say;

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// A file or folder of the shared data: below `MESH_SHARED`, else below `../shared` beside the workspace.
///
/// `None` where it is absent, which a test treats as a skip: it is printed and counted. With
/// `MESH_REQUIRE_SHARED=1` (CI) absence is a failure.
///
/// # Panics
/// When the data is absent and `MESH_REQUIRE_SHARED` is set.
#[must_use]
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MESH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    assert!(
        std::env::var_os("MESH_REQUIRE_SHARED").is_none(),
        "shared data {path:?} is required (MESH_REQUIRE_SHARED) and not there (MESH_SHARED)"
    );
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    say(&format!("SKIPPED ({count}): shared data {path:?} is not there; set MESH_SHARED"));
    None
}
