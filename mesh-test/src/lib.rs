//! Fixtures of the workspace's tests. Unpublished.

mod shared;

pub use shared::shared;
