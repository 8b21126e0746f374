//! Why a request went where it went.
//!
//! [`RouteTable::explain`](crate::RouteTable::explain) tells what the layers would do with a request, without doing it. The decision is
//! the table's own ([`RouteTable::route`](crate::RouteTable::route)), and the request is shaped by the router's own
//! code, so that what is told is what happens. The reasons come from the same conditions that the table asks, and for
//! rules that are not in the table from the VirtualServices behind it.
//!
//! ```
//! # use std::sync::Arc;
//! # use mesh_core::{ClusterName, MeshConfig, Workload, config::{Document, Issues}, registry::Registry};
//! # use mesh_routing::{CompileInput, RouteTable, VirtualService};
//! use mesh_routing::explain::Outcome;
//! # let yaml = "
//! # {apiVersion: v1, kind: Service, metadata: {name: reviews}, spec: {ports: [{port: 9080, name: http}]}}
//! # ---
//! # apiVersion: networking.istio.io/v1
//! # kind: VirtualService
//! # metadata: {name: reviews}
//! # spec:
//! #   hosts: [reviews]
//! #   http:
//! #   - match: [{headers: {end-user: {exact: jason}}}]
//! #     route: [{destination: {host: reviews, subset: v2}}]
//! #   - route: [{destination: {host: reviews, subset: v1}}]
//! # ";
//! # let mut issues = Issues::default();
//! # let documents = Document::parse_all("reviews.yaml", yaml, &mut issues);
//! # let mesh = MeshConfig::default();
//! # let table: RouteTable<Arc<ClusterName>> = RouteTable::compile(
//! #     &CompileInput {
//! #         workload: &Workload::new("default", "productpage"),
//! #         mesh: &mesh,
//! #         registry: &Registry::from_documents(&documents, &mesh.trust_domain, &mut issues),
//! #         virtual_services: &[Arc::new(VirtualService::from_document(&documents[1], &mut issues).unwrap())],
//! #         default_retry: None,
//! #     },
//! #     &mut |name| Some(Arc::new(name.clone())),
//! #     &mut issues,
//! # );
//! let request = http::Request::get("http://reviews:9080/reviews/0").header("end-user", "kate").body(()).unwrap();
//! let explanation = table.explain(&request, None);
//! assert_eq!(explanation.outcome, Outcome::Forward);
//! assert_eq!(explanation.cluster.as_deref(), Some("outbound|9080|v1|reviews.default.svc.cluster.local"));
//! assert_eq!(explanation.rejected[0].because, r#"header end-user: exact "jason", found "kate""#);
//! ```
//!
//! # As JSON
//!
//! An [`Explanation`] serializes to one object. Every key is always there, in this order, `null` where there is nothing.
//!
//! | key | value |
//! |---|---|
//! | `outcome` | `forward`, `redirect`, `direct_response` (also a CORS preflight, answered with 200), `abort`, `passthrough`, `no_route`, `unavailable` (the cluster is not defined, 503; a Gateway API route's backend, 500), `blocked` (REGISTRY_ONLY, 502; a path that cannot be sent, 400) |
//! | `virtual_service` | `"namespace/name"`, of a Gateway API route where it is one's; `null` where no rule took the request |
//! | `kind` | `VirtualService`, `HTTPRoute`, `GRPCRoute` |
//! | `delegate` | `"namespace/name"` of the delegate whose rule it is |
//! | `route` | the rule's name, with the match entry's after a dot; `default`, `allow_any`, `block_all` where Istio calls it so |
//! | `rule_index` | index in `http` (`rules`) of the file; of the delegate's for a delegate |
//! | `match_index` | index within the rule's `match`; `null` for a rule without one |
//! | `source` | `"file:line"` of that match entry, or of the rule without one |
//! | `cluster` | `"outbound\|port\|subset\|host"`, `PassthroughCluster`, `BlackHoleCluster`; `null` where there are several and no `roll` |
//! | `destinations` | `[{"cluster", "weight", "defined"}]`, all of the route; one alone without a weight has 100 |
//! | `request` | what goes upstream: `{"method", "authority", "path", "headers": [[name, value]]}`, `host` being the authority. Without `roll`, `authority` and `headers` are `null` where they depend on the draw. What later stages add (trace context, `x-envoy-expected-rq-timeout-ms`) is not in it. `null` where nothing is sent |
//! | `status`, `location`, `body`, `response_headers` | what is answered here, in the gRPC form for a gRPC caller; `null` where upstream answers |
//! | `response_operations` | `[{"op": "set"\|"add"\|"remove", "name", "value"}]`, done to what upstream answers |
//! | `response_flags` | Envoy's, as its access log has them |
//! | `timeout_ms` | the route's, or a gRPC caller's own where that is shorter |
//! | `retries` | `{"attempts", "retry_on", "per_try_timeout_ms", "backoff_ms", "ignore_previous_hosts"}` |
//! | `fault` | `{"delay_ms", "delay_percent", "abort_status", "abort_grpc_status", "abort_percent"}`: with `roll` what is injected, without it what may be; `null` where nothing is. An `abort_grpc_status` comes with status 200 |
//! | `mirrors` | `[{"cluster", "percent"}]`: with `roll` those that get a copy, without it those that may |
//! | `rejected` | `[{"virtual_service", "kind", "delegate", "route", "rule_index", "match_index", "source", "because"}]`: each match entry before the one that took the request (all where none did), with the first condition that does not hold; then VirtualServices that name the host and are not in force for this client (`rule_index` is `null`) |
//! | `unreachable` | the same of match entries behind a rule that takes every request |
//! | `note` | a sentence, where something is likely to be wrong beside the rules: a host that is in the registry without the port asked for, a short name that only other namespaces have, a backend that may not be used (which ReferenceGrant is missing) |
//!
//! # One draw
//!
//! `roll`, from 0 up to 1, stands for every draw that a request makes: the destination is the one whose interval of
//! cumulative weights holds `floor(roll * sum)`, and a percentage `p` applies where `roll * 100 < p` (100 always does).
//! 1 itself counts as the largest number below it. Without `roll` all destinations are listed, and only a
//! fault of 100 % is acted on.
//!
//! What depends on other requests is not told: rate limits, breakers, budgets, health. Bytes that are not UTF-8 are told as U+FFFD.

mod because;
mod decide;
mod display;
mod draw;
mod explanation;
mod note;
mod rejected;

pub use explanation::{Destination, Explanation, Fault, Mirror, Operation, Outcome, Rejection, Retries, Upstream};

use http::Request;
use mesh_core::ClusterHandle;

use crate::RouteTable;

impl<C: ClusterHandle> RouteTable<C> {
    /// What becomes of a request, and why. Nothing is drawn: `roll` stands for every draw, see [the
    /// module](crate::explain).
    #[must_use]
    pub fn explain<B>(&self, request: &Request<B>, roll: Option<f64>) -> Explanation {
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = request.headers().clone();
        decide::explain(self, &head, draw::Draw::new(roll))
    }
}

#[cfg(test)]
mod tests;
