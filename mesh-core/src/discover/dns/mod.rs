//! Names as a source of endpoints: looked up as long as their answers hold, believed with care.
//!
//! DNS says little and is wrong in known ways, so three questions are kept apart, each a plain struct:
//!
//! | question | where |
//! |---|---|
//! | is this answer in force, or is a second one wanted first? | [`Answers`] |
//! | when is the name asked for again? | [`Answers`], by the rules of `refresh` |
//! | which endpoints do the answers make? | `expand` |
//!
//! [`DnsSource`] is the shell: a task for each name that somebody wants, however many services and ports want it, and a
//! stream of updates for each of them.
//!
//! **What is an answer.** NXDOMAIN and an empty answer say that a name has no endpoints. SERVFAIL, REFUSED, a timeout or no
//! network say nothing: the last answer stays, for as long as it takes. A name that was never answered stands as a name
//! and is looked up when it is dialled.
//!
//! **Service records.** An endpoint whose address is named [like a service](crate::registry::is_service_record),
//! `_http._tcp.web.default.svc.cluster.local`, is looked up by SRV: each target's addresses become endpoints on the
//! record's port, with its weight times the endpoint's own. Of several priorities the lowest that has an endpoint is used
//! (RFC 2782: "the lowest-numbered priority it can reach"); the others are no failover for unhealthy ones, as with
//! gRPC and unlike Envoy's priorities. Envoy has no SRV in STRICT_DNS clusters, and Istio none in ServiceEntry.
//!
//! **Headless services** of Kubernetes need nothing of their own: `web.default.svc.cluster.local` is answered with the
//! addresses of all ready pods, and the service record with their ports as well.

mod answers;
mod expand;
mod listener;
mod names;
mod refresh;
mod source;

pub use answers::{Answers, Judged};
pub use source::DnsSource;

#[cfg(test)]
mod tests;
