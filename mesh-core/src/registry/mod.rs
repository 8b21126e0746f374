//! The service registry: which services exist, on which ports, and which endpoints answer for them.
//!
//! A Kubernetes `Service` has the addresses of its `EndpointSlice`s, which `Pod`s say more of, and selects the
//! `WorkloadEntry`s of its namespace by label; a `ServiceEntry` names hosts that Kubernetes does not know, with endpoints of
//! its own, a selector, or DNS. [`Registry::build`] joins them; the result is immutable and is built anew on every change.
//!
//! ```
//! use mesh_core::{config::{Document, Issues}, identity::TrustDomain, registry::Registry};
//! let yaml = "
//! apiVersion: v1
//! kind: Service
//! metadata: {name: reviews}
//! spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
//! ---
//! apiVersion: networking.istio.io/v1
//! kind: WorkloadEntry
//! metadata: {name: reviews-v1}
//! spec: {address: 127.0.0.1, ports: {http: 1234}, labels: {app: reviews}, serviceAccount: bookinfo-reviews}
//! ";
//! let mut issues = Issues::default();
//! let documents = Document::parse_all("a.yaml", yaml, &mut issues);
//! let registry = Registry::from_documents(&documents, &TrustDomain::cluster_local(), &mut issues);
//! let service = registry.service("reviews.default.svc.cluster.local").unwrap();
//! assert_eq!(service.endpoints(9080)[0].address.to_string(), "127.0.0.1:1234");
//! ```

mod endpoint_slice;
#[cfg(feature = "dns")]
mod hickory;
mod kubernetes;
mod pod;
mod resolve;
mod service;
mod service_entry;
mod slices;
mod workload_entry;
mod workloads;

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

pub use endpoint_slice::EndpointSlice;
#[cfg(feature = "dns")]
pub use hickory::HickoryResolver;
pub use kubernetes::KubernetesService;
pub use pod::Pod;
pub use resolve::{Answer, Found, Place, Resolve, SystemResolver, addresses_to_dial, is_service_record};
pub use service::{Location, Protocol, Resolution, Service, ServicePort, TrafficDistribution, Visibility};
pub use service_entry::ServiceEntry;
pub use workload_entry::WorkloadEntry;

use crate::{
    ServiceName,
    config::{Document, Issues},
    identity::TrustDomain,
};
use slices::Slices;
use workloads::Workloads;

/// Every service the mesh knows, by host.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    services: BTreeMap<Arc<str>, Arc<Service>>,
    /// Those with a wildcard host, the most specific first.
    wildcards: Vec<Arc<Service>>,
    /// Other names, with the host of the service that they stand for.
    aliases: BTreeMap<Arc<str>, Arc<str>>,
}

/// What a registry is built from: models, each kind in Istio's order.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Sources {
    /// Kubernetes services.
    pub services: Vec<Arc<KubernetesService>>,
    /// Service entries.
    pub service_entries: Vec<Arc<ServiceEntry>>,
    /// Workload entries.
    pub workload_entries: Vec<Arc<WorkloadEntry>>,
    /// Endpoint slices.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// Pods.
    pub pods: Vec<Arc<Pod>>,
}

impl Registry {
    /// Join services with the workloads they select, as a client in `namespace` sees them (`exportTo`).
    ///
    /// A host that two objects define belongs to the one in the client's namespace, else to the Kubernetes service,
    /// else to the first in order (istio sidecar.go selectServices). A ServiceEntry for a Kubernetes host adds its
    /// subjectAltNames only, "the service entry serves as a decorator for the existing Kubernetes service"
    /// (ServiceEntry.hosts), and only from the service's own namespace: who may answer for a service is not for others
    /// to say.
    #[must_use]
    pub fn build(sources: &Sources, trust_domain: &TrustDomain, namespace: &str) -> Self {
        let mut services: BTreeMap<Arc<str>, Service> = BTreeMap::new();
        let workloads = Workloads::new(&sources.workload_entries);
        let slices = Slices::new(&sources.endpoint_slices, &sources.pods, &sources.workload_entries);
        let visible = |built: &Service, own: &str| built.export_to.includes(own, namespace);
        let mut aliases: BTreeMap<Arc<str>, (&ServiceName, &Arc<str>)> = BTreeMap::new();
        for service in &sources.services {
            if !service.is_visible(namespace) {
                continue;
            }
            if let Some(alias) = service.alias() {
                aliases.entry(Arc::clone(&alias.0.host)).or_insert(alias);
            } else {
                let built = service.build(&workloads, &slices, trust_domain);
                services.entry(Arc::clone(&built.name.host)).or_insert(built);
            }
        }
        let kubernetes: BTreeMap<Arc<str>, Arc<str>> =
            services.iter().map(|(host, service)| (Arc::clone(host), Arc::clone(&service.name.namespace))).collect();
        let (own, others): (Vec<_>, Vec<_>) =
            sources.service_entries.iter().partition(|entry| **entry.namespace() == *namespace);
        for entry in own.into_iter().chain(others) {
            for built in entry.build(&workloads, trust_domain) {
                if !visible(&built, entry.namespace()) {
                    continue;
                }
                match kubernetes.get(&built.name.host) {
                    Some(owner) if owner == entry.namespace() => {
                        if let Some(service) = services.get_mut(&built.name.host) {
                            service.subject_alt_names.extend(built.subject_alt_names);
                        }
                    }
                    Some(_) => {}
                    None => {
                        services.entry(Arc::clone(&built.name.host)).or_insert(built);
                    }
                }
            }
        }
        let aliases = aliases.values().filter_map(|(name, of)| {
            let service = services.get_mut(concrete(of, &aliases, &|host| services.contains_key(host))?)?;
            service.aliases.push((*name).clone());
            Some((Arc::clone(&name.host), Arc::clone(&service.name.host)))
        });
        let aliases = aliases.collect();
        let services: BTreeMap<_, _> = services.into_iter().map(|(host, service)| (host, Arc::new(service))).collect();
        let with_wildcard = services.values().filter(|service| service.pattern.exact().is_none());
        let mut wildcards: Vec<_> = with_wildcard.cloned().collect();
        wildcards.sort_by_key(|service| Reverse(service.pattern.specificity()));
        Self { services, wildcards, aliases }
    }

    /// Read and build from documents in one go, as a client in the namespace `default` sees them; kinds that are not
    /// the registry's are passed over.
    pub fn from_documents(documents: &[Document], trust_domain: &TrustDomain, issues: &mut Issues) -> Self {
        let mut sources = Sources::default();
        for document in documents {
            match document.kind() {
                "Service" => sources.services.extend(KubernetesService::from_document(document, issues).map(Arc::new)),
                "ServiceEntry" => {
                    sources.service_entries.extend(ServiceEntry::from_document(document, issues).map(Arc::new));
                }
                "WorkloadEntry" => {
                    sources.workload_entries.extend(WorkloadEntry::from_document(document, issues).map(Arc::new));
                }
                EndpointSlice::KIND => {
                    sources.endpoint_slices.extend(EndpointSlice::from_document(document, issues).map(Arc::new));
                }
                "Pod" => sources.pods.extend(Pod::from_document(document, issues).map(Arc::new)),
                _ => {}
            }
        }
        Self::build(&sources, trust_domain, "default")
    }

    /// The service of an exact host; a wildcard ServiceEntry is found under `*.suffix`.
    #[must_use]
    pub fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.services.get(host)
    }

    /// The service that answers for a concrete host: the exact one, the one that it is another name of, else the longest
    /// wildcard.
    #[must_use]
    pub fn service_for(&self, host: &str) -> Option<&Arc<Service>> {
        let named = self.services.get(host).or_else(|| self.services.get(self.aliases.get(host)?));
        named.or_else(|| self.wildcards.iter().find(|service| service.pattern.matches(host)))
    }

    /// All services, sorted by host.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }
}

/// The host at the end of a chain of aliases, where there is a service; a circle has no end.
///
/// istio resolveServiceAliases: an ExternalName is another name of a service that the mesh knows; of a host that it does not
/// know, it is nothing, and the host's own name is looked up like any other outside the mesh.
fn concrete<'a>(
    mut host: &'a Arc<str>,
    aliases: &BTreeMap<Arc<str>, (&ServiceName, &'a Arc<str>)>,
    is_service: &dyn Fn(&str) -> bool,
) -> Option<&'a Arc<str>> {
    for _ in 0..=aliases.len() {
        if is_service(host) {
            return Some(host);
        }
        host = aliases.get(host)?.1;
    }
    None
}

#[cfg(test)]
mod tests;
