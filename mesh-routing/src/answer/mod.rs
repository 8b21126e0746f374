//! Rules that answer by themselves: `redirect` and `directResponse`.
//!
//! Nothing is sent: the router ends the request with [`Error::answer`](mesh_core::Error::answer), which becomes a
//! response where all local replies do. Envoy's details say `direct_response` for both.

mod direct;
mod redirect;

pub use direct::DirectResponse;
pub(crate) use direct::DirectResponseSpec;
pub use redirect::Redirect;
pub(crate) use redirect::{RedirectRule, RedirectSpec};
