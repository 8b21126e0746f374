//! Bookinfo: a product page put together from what three other services say.
//!
//! The applications hold no addresses, retries, balancing, certificates or trace headers. They call
//! `http://reviews:9080` and copy one header, `end-user`, because only an application knows who its user is.
//! Everything else that happens between them is the mesh's doing, which is the point of the example.

mod app;
mod call;
mod deployment;
mod details;
mod options;
mod origin;
mod page;
mod productpage;
mod ratings;
mod reviews;
mod running;
mod session;
mod state;
mod store;
mod upstream;

pub use app::{AppClient, router};
pub use deployment::{Deployment, ServiceKind, UnknownDeployment};
pub use options::Options;
pub use running::{Running, RunningService, StartError, start};
