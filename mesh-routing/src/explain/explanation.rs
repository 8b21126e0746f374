//! What is told.

use std::sync::Arc;

use serde::Serialize;

/// What becomes of a request, and why. Displays for people; serializes as the [module](super) says.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// What becomes of it.
    pub outcome: Outcome,
    /// `namespace/name` of the VirtualService, or of the Gateway API route, whose rule took it.
    pub virtual_service: Option<Arc<str>>,
    /// `VirtualService`, `HTTPRoute` or `GRPCRoute`.
    pub kind: Option<Arc<str>>,
    /// `namespace/name` of the delegate that the rule is from.
    pub delegate: Option<String>,
    /// The route's name: the rule's, with the match entry's after a dot; `default` for a service that no
    /// VirtualService names, `allow_any` for a host outside the registry, `block_all` for one that is blocked.
    pub route: Option<Arc<str>>,
    /// The rule's index in `http` (`rules`) of its file.
    pub rule_index: Option<u32>,
    /// The index of the entry within the rule's `match`; `None` for a rule without one.
    pub match_index: Option<u32>,
    /// `file:line` of that entry, or of the rule without one.
    pub source: Option<String>,
    /// The cluster; `None` where there are several to draw from, and where there is none.
    pub cluster: Option<String>,
    /// All clusters of the route, with their weights.
    pub destinations: Vec<Destination>,
    /// What goes upstream; `None` where nothing does.
    pub request: Option<Upstream>,
    /// Status of what is answered here; `None` where upstream answers.
    pub status: Option<u16>,
    /// Where a redirect sends the caller.
    pub location: Option<String>,
    /// Body of what is answered here.
    pub body: Option<String>,
    /// Headers of what is answered here.
    pub response_headers: Option<Vec<(String, String)>>,
    /// What becomes of the headers that upstream answers with.
    pub response_operations: Vec<Operation>,
    /// Envoy's response flags, where there are any.
    pub response_flags: Option<String>,
    /// Time for the whole request.
    pub timeout_ms: Option<u64>,
    /// When it is tried again; `None` where never.
    pub retries: Option<Retries>,
    /// Faults that are injected, or may be.
    pub fault: Option<Fault>,
    /// Who gets a copy, or may.
    pub mirrors: Vec<Mirror>,
    /// Why it was none of the rules before, and no other VirtualService that names the host.
    pub rejected: Vec<Rejection>,
    /// Rules that no request of this host reaches.
    pub unreachable: Vec<Rejection>,
    /// What is likely to be wrong: a port that the service does not have, a short name of another namespace, a backend
    /// that no ReferenceGrant lets the route use.
    pub note: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is sent.
    Forward,
    /// The caller is told to ask elsewhere.
    Redirect,
    /// The rule answers, or its CORS policy does.
    DirectResponse,
    /// An injected fault ends it.
    Abort,
    /// Its host is outside the registry: it is sent as it is (ALLOW_ANY).
    Passthrough,
    /// No rule of its host matches: 404.
    NoRoute,
    /// Its cluster is not defined: 503, for a Gateway API route 500.
    Unavailable,
    /// Its host is outside the registry (REGISTRY_ONLY): 502. Or its path cannot be: 400.
    Blocked,
}

/// A cluster of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Destination {
    /// `outbound|port|subset|host`.
    pub cluster: String,
    /// Its share of the sum of all. One alone takes everything.
    pub weight: u64,
    /// Is there such a cluster? Without one a request is answered with 503 (500 by a Gateway API route).
    pub defined: bool,
}

/// A request as the route shapes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Upstream {
    /// Method.
    pub method: String,
    /// Host; `None` where it depends on the draw.
    pub authority: Option<String>,
    /// Path and query.
    pub path: String,
    /// Headers but `host`, in no order that matters between names; `None` where they depend on the draw.
    pub headers: Option<Vec<(String, String)>>,
}

/// A header operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Operation {
    /// `set`, `add` or `remove`.
    pub op: &'static str,
    /// The header.
    pub name: String,
    /// `None` of a removal.
    pub value: Option<String>,
}

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Retries {
    /// Retries after the first attempt.
    pub attempts: u32,
    /// Conditions, joined with `,` as `retryOn` writes them.
    pub retry_on: String,
    /// Time for each attempt.
    pub per_try_timeout_ms: Option<u64>,
    /// The first wait is shorter than this.
    pub backoff_ms: u64,
    /// Are endpoints avoided that were tried?
    pub ignore_previous_hosts: bool,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// The wait.
    pub delay_ms: Option<u64>,
    /// Its share of requests.
    pub delay_percent: Option<f64>,
    /// The status that the caller gets: 200 where the fault is a gRPC status.
    pub abort_status: Option<u16>,
    /// The gRPC status that the caller gets, where the rule says so.
    pub abort_grpc_status: Option<u8>,
    /// Its share of requests.
    pub abort_percent: Option<f64>,
}

/// A cluster that gets copies.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Mirror {
    /// `outbound|port|subset|host`.
    pub cluster: String,
    /// Its share of requests.
    pub percent: f64,
}

/// Something that did not take the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rejection {
    /// `namespace/name` of the VirtualService, or of the Gateway API route.
    pub virtual_service: Option<Arc<str>>,
    /// `VirtualService`, `HTTPRoute` or `GRPCRoute`.
    pub kind: Option<Arc<str>>,
    /// `namespace/name` of the delegate that the rule is from.
    pub delegate: Option<String>,
    /// The route's name.
    pub route: Option<Arc<str>>,
    /// The rule's index in `http` (`rules`) of its file; `None` where it is the whole VirtualService.
    pub rule_index: Option<u32>,
    /// The index of the entry within the rule's `match`.
    pub match_index: Option<u32>,
    /// `file:line`.
    pub source: Option<String>,
    /// The first condition that does not hold, with what was found.
    pub because: String,
}
