//! Fixtures of the workspace's tests. Unpublished.

mod scratch;
mod shared;
mod tool;

pub use scratch::Scratch;
pub use shared::shared;
pub use tool::tool;
