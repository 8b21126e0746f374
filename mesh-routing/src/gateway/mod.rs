//! Gateway API: HTTPRoute and GRPCRoute whose parent is a Service (GAMMA), as Istio enforces them.
//!
//! A route says whose requests it is for (`parentRefs`), which of them (`matches`), and what becomes of them (`filters`,
//! `backendRefs`). Several routes may speak for one service, and neither their order nor that of their rules decides:
//! the more specific match comes first. [`GatewayRoutes::join`] makes VirtualServices of them for a client, so that the
//! [`RouteTable`](crate::RouteTable) is compiled from one kind of rule.
//!
//! ```
//! use std::sync::Arc;
//! use http::Request;
//! use mesh_core::{ClusterName, MeshConfig, Workload, config::{Document, Issues}, registry::Registry};
//! use mesh_routing::{CompileInput, Decision, GatewayRoutes, HttpRoute, RequestHead, RetryPolicy, RouteTable};
//!
//! let yaml = "
//! {apiVersion: v1, kind: Service, metadata: {name: reviews}, spec: {ports: [{port: 9080, name: http}]}}
//! ---
//! {apiVersion: v1, kind: Service, metadata: {name: reviews-v2}, spec: {ports: [{port: 9080, name: http}]}}
//! ---
//! apiVersion: gateway.networking.k8s.io/v1
//! kind: HTTPRoute
//! metadata: {name: reviews}
//! spec:
//!   parentRefs: [{group: '', kind: Service, name: reviews, port: 9080}]
//!   rules:
//!   - backendRefs: [{name: reviews, port: 9080}]
//!   - matches: [{path: {value: /v2}}]
//!     backendRefs: [{name: reviews-v2, port: 9080}]
//! ";
//! let mut issues = Issues::default();
//! let documents = Document::parse_all("reviews.yaml", yaml, &mut issues);
//! let (mesh, workload) = (MeshConfig::default(), Workload::new("default", "productpage"));
//! let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
//! let mut routes = GatewayRoutes::default();
//! routes.http.push(Arc::new(HttpRoute::from_document(&documents[2], &mut issues).unwrap()));
//! let virtual_services = routes.join(&[], &registry, &workload, &mut issues);
//! let input = CompileInput {
//!     workload: &workload,
//!     mesh: &mesh,
//!     registry: &registry,
//!     virtual_services: &virtual_services,
//!     default_retry: Some(RetryPolicy::istio_default()),
//! };
//! let table: RouteTable<Arc<ClusterName>> =
//!     RouteTable::compile(&input, &mut |name| Some(Arc::new(name.clone())), &mut issues);
//! assert!(issues.is_empty(), "{issues}");
//!
//! let request = Request::get("http://reviews:9080/v2/x").body(()).unwrap();
//! let head = RequestHead::new(&request, table.path_normalization()).unwrap();
//! let Ok(Decision::Forward(destination)) = table.route(&head, || 0) else { panic!() };
//! assert_eq!(destination.name().service.host.as_ref(), "reviews-v2.default.svc.cluster.local");
//! ```
//!
//! What the YAML may say is in `spec.rs`; `route.rs`, `matches.rs`, `filters.rs` and `backends.rs` check it with the
//! rules of the API's definition; `translate.rs` is what needs the other objects.

mod backends;
mod filters;
mod grant;
mod matches;
mod parser;
mod route;
mod spec;
mod translate;

use std::sync::Arc;

use mesh_core::{Workload, config::Issues, registry::Registry};

pub use grant::ReferenceGrant;
pub use route::{GrpcRoute, HttpRoute};

use crate::VirtualService;

/// The API group.
const GROUP: &str = "gateway.networking.k8s.io";

/// All routes of the Gateway API, and the grants that they need. The order is no matter.
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "lists with names")]
pub struct GatewayRoutes {
    /// HTTPRoutes.
    pub http: Vec<Arc<HttpRoute>>,
    /// GRPCRoutes.
    pub grpc: Vec<Arc<GrpcRoute>>,
    /// ReferenceGrants.
    pub grants: Vec<Arc<ReferenceGrant>>,
}

impl GatewayRoutes {
    /// Make VirtualServices of the routes for a client, and put them among others, in Istio's order. Warnings go to
    /// `issues`.
    #[must_use]
    pub fn join(
        &self,
        virtual_services: &[Arc<VirtualService>],
        registry: &Registry,
        workload: &Workload,
        issues: &mut Issues,
    ) -> Vec<Arc<VirtualService>> {
        translate::join(self, virtual_services, registry, workload, issues)
    }
}

#[cfg(test)]
mod tests;
