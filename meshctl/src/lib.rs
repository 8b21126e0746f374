//! `meshctl`: ask a mesh's configuration, without a mesh running.
//!
//! ```console
//! $ meshctl explain --config mesh/ --as default/productpage GET http://reviews:9080/reviews/0 -H 'end-user: jason'
//! $ meshctl lint mesh/
//! ```
//!
//! Both read what a mesh reads, with the code that a mesh reads it with ([`mesh::Config`]), so that an answer here is
//! the answer of a running process. The commands are thin: deciding is in the crates below, printing is here.

pub mod explain;
pub mod lint;
