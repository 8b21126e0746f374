//! From models to what the stacks read.

use std::sync::Arc;

use mesh_authz::{PolicySet, TrustDomains, jwt::RequestAuthentications};
use mesh_core::{ClusterName, ServiceName, Workload, config::Issues, path::PathNormalization, registry::Registry};
use mesh_lb::{Cluster, ClusterSet, Clusters, DestinationRules};
use mesh_routing::{CompileInput, RateLimits, RetryPolicy, RouteTable};
use mesh_tls::PeerAuthentications;

use super::{Models, mesh_policy::MeshPolicies};
use crate::connect::SecurityPolicy;

/// Everything that one change of configuration swaps in.
pub(crate) struct Compiled {
    pub(crate) clusters: ClusterSet,
    pub(crate) routes: Arc<RouteTable<Cluster>>,
    pub(crate) security: SecurityPolicy,
    pub(crate) path_normalization: PathNormalization,
    pub(crate) policies: PolicySet,
    pub(crate) authentications: RequestAuthentications,
    pub(crate) rate_limits: RateLimits,
    pub(crate) peer_authentications: Arc<PeerAuthentications>,
    pub(crate) root_namespace: Arc<str>,
    pub(crate) own_services: Vec<ServiceName>,
}

pub(crate) fn compile(models: &Models, workload: &Workload, clusters: &Clusters, issues: &mut Issues) -> Compiled {
    let mesh = &models.mesh;
    let registry = Registry::build(&models.sources, &mesh.trust_domain, &workload.namespace);
    let mesh_policies = models.mesh_policies.iter().map(Arc::as_ref);
    let mut mesh_policies = MeshPolicies::of(mesh_policies, workload, &mesh.root_namespace);
    let mut rules = DestinationRules::new(&models.destination_rules);
    if let Some(chosen) = mesh_policies.load_balancing() {
        for (path, message) in chosen.section.conflicts(&registry, &rules, workload, mesh) {
            issues.push(chosen.warning(path, message));
        }
        rules = rules.with_load_balancing(chosen.section.clone());
    }
    let clusters = clusters.build(&registry, &rules, workload, mesh);
    // A `mesh:` document whose policy is bad is not in force: this finds no error.
    let default_retry = RetryPolicy::from_mesh(mesh, issues).unwrap_or_else(|| Some(RetryPolicy::istio_default()));
    let virtual_services = models.gateway_routes.join(&models.virtual_services, &registry, workload, issues);
    let input =
        CompileInput { workload, mesh, registry: &registry, virtual_services: &virtual_services, default_retry };
    let routes = RouteTable::compile(&input, &mut |name| cluster(&clusters, name), issues);
    let peer_authentications: Vec<_> = models.peer_authentications.iter().map(|policy| (**policy).clone()).collect();
    let peer_authentications = Arc::new(PeerAuthentications::new(peer_authentications));
    issues.extend(peer_authentications.issues(&mesh.root_namespace));
    let policies = PolicySet::new(
        models.authorization_policies.iter().map(Arc::as_ref),
        workload,
        &mesh.root_namespace,
        &TrustDomains::new(mesh.trust_domain.clone()).with_aliases(mesh.trust_domain_aliases.iter().cloned()),
    );
    let authentications = RequestAuthentications::new(
        models.request_authentications.iter().map(Arc::as_ref),
        workload,
        &mesh.root_namespace,
    );
    let rate_limits = mesh_policies.rate_limits();
    mesh_policies.into_warnings().into_iter().for_each(|warning| issues.push(warning));
    let own_services = registry.services().filter(|service| service.selects(workload));
    let own_services = own_services.map(|service| service.name.clone()).collect();
    Compiled {
        own_services,
        security: SecurityPolicy { mesh: Arc::clone(mesh), peer_authentications: Arc::clone(&peer_authentications) },
        path_normalization: mesh.path_normalization,
        root_namespace: Arc::clone(&mesh.root_namespace),
        routes: Arc::new(routes),
        clusters,
        policies,
        authentications,
        rate_limits,
        peer_authentications,
    }
}

fn cluster(clusters: &ClusterSet, name: &ClusterName) -> Option<Cluster> {
    if name.is_passthrough() {
        return Some(clusters.passthrough().clone());
    }
    clusters.get(name).cloned()
}
