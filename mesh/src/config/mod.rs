//! Configuration: from files to one atomic snapshot.
//!
//! ```text
//! Source (files, directories, text in code)
//!   └─► Reader: text of every file          changed? (watched and polled)
//!         └─► Store: documents ─► models    last good version of each object; security kinds as one set
//!               └─► compile: registry, clusters, routes, policies ─► swapped in
//! ```
//!
//! A bad routing object never poisons the rest: its last good version stays in force. The security kinds
//! (AuthorizationPolicy, PeerAuthentication) are one set: if any member is bad, or any file cannot be read, the
//! whole previous set stays. At first start there is no previous version, so an error ends the start.

mod compile;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod mesh_policy;
mod model;
mod offline;
mod reader;
mod store;
mod watch;

pub(crate) use compile::{Compiled, compile};
pub(crate) use model::Models;
pub use offline::{ClientView, Config};
pub(crate) use reader::{Reader, Source, Texts};
pub(crate) use store::Store;
pub(crate) use watch::{Watch, watch};
