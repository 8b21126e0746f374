//! EndpointSlices by their service, joined with what else is known of their addresses.
//!
//! Which addresses a Kubernetes Service has, and whether they are ready, is what its slices say. Who is behind one is what
//! a Pod says, found by targetRef or else by address; where no Pod document is there, a WorkloadEntry with that address.
//! WorkloadEntries that the Service selects join its endpoints, as in Istio; an address and port that both name is one
//! endpoint, the slice's.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    EndpointSlice, Pod, WorkloadEntry, endpoint_slice::Address, service::ServicePort, workload_entry::identity,
};
use crate::{Endpoint, EndpointAddress, EndpointTls, Labels, identity::TrustDomain};

/// istio labelutil.AugmentLabels.
const ZONE: &str = "topology.kubernetes.io/zone";
const NODE: &str = "kubernetes.io/hostname";

/// An address with the names of its ports, and who is behind it.
#[derive(Clone, Debug)]
pub(super) struct Sliced {
    slice: Arc<EndpointSlice>,
    address: Arc<str>,
    labels: Arc<Labels>,
    namespace: Arc<str>,
    workload: Option<Arc<str>>,
    service_account: Option<Arc<str>>,
    locality: Arc<str>,
    weight: u32,
}

/// All slices, and those who may be behind their addresses.
#[derive(Debug)]
pub(super) struct Slices<'a> {
    by_service: HashMap<(&'a str, &'a str), Vec<&'a Arc<EndpointSlice>>>,
    by_name: HashMap<(&'a str, &'a str), &'a Arc<Pod>>,
    by_address: HashMap<IpAddr, &'a Arc<Pod>>,
    entries: HashMap<(&'a str, &'a str), &'a Arc<WorkloadEntry>>,
}

impl<'a> Slices<'a> {
    pub(super) fn new(
        slices: &'a [Arc<EndpointSlice>],
        pods: &'a [Arc<Pod>],
        entries: &'a [Arc<WorkloadEntry>],
    ) -> Self {
        let mut known = Self {
            by_service: HashMap::new(),
            by_name: HashMap::new(),
            by_address: HashMap::new(),
            entries: HashMap::new(),
        };
        if slices.is_empty() {
            return known;
        }
        for slice in slices {
            if let Some(service) = &slice.service {
                known.by_service.entry((&slice.namespace, service)).or_default().push(slice);
            }
        }
        for pod in pods {
            known.by_name.entry((&pod.namespace, &pod.name)).or_insert(pod);
            for address in &pod.addresses {
                known.by_address.entry(*address).or_insert(pod);
            }
        }
        for entry in entries {
            known.entries.entry((&entry.namespace, &entry.address)).or_insert(entry);
        }
        known
    }

    /// The addresses of a service; `all`: those that are not ready too.
    pub(super) fn of(&self, namespace: &str, service: &str, all: bool) -> Vec<Arc<Sliced>> {
        let slices = self.by_service.get(&(namespace, service)).map_or(&[][..], Vec::as_slice);
        let addresses = slices.iter().flat_map(|slice| slice.addresses.iter().map(move |address| (*slice, address)));
        // discovery/v1 EndpointConditions.ready: "consumers should … only send traffic to ready endpoints";
        // core/v1 ServiceSpec.publishNotReadyAddresses: "disregard any indications of ready/not-ready".
        let used = addresses.filter(|(_, address)| all || address.ready);
        used.map(|(slice, address)| Arc::new(self.sliced(slice, address))).collect()
    }

    fn sliced(&self, slice: &Arc<EndpointSlice>, address: &Address) -> Sliced {
        let referred = address.pod.as_ref().and_then(|(namespace, name)| self.by_name.get(&(&**namespace, &**name)));
        let found = || address.address.parse().ok().and_then(|ip: IpAddr| self.by_address.get(&ip));
        let pod = referred.or_else(found);
        let entry = self.entries.get(&(&*slice.namespace, &*address.address));
        let labels = pod.map(|pod| &pod.labels).or_else(|| entry.map(|entry| &entry.labels));
        let name =
            pod.map(|pod| Arc::clone(&pod.name)).or_else(|| address.pod.as_ref().map(|(_, name)| Arc::clone(name)));
        let labelled = labels.and_then(|labels| labels.get("service.istio.io/workload-name"));
        let workload = labelled.map(Arc::from).or(name).or_else(|| entry.and_then(|entry| entry.workload_name()));
        let labels = augmented(labels, address);
        let written = entry.map(|entry| &entry.locality).filter(|locality| !locality.is_empty());
        Sliced {
            slice: Arc::clone(slice),
            address: Arc::clone(&address.address),
            namespace: pod.map_or(&slice.namespace, |pod| &pod.namespace).clone(),
            workload,
            service_account: match (pod, entry) {
                (Some(pod), _) => Some(Arc::clone(&pod.service_account)),
                (None, Some(entry)) => entry.service_account.clone(),
                (None, None) => None,
            },
            locality: written.cloned().unwrap_or_else(|| locality(&labels)),
            labels,
            weight: entry.map_or(1, |entry| entry.weight),
        }
    }
}

/// The labels of the workload, with those that Istio adds for where it runs.
fn augmented(labels: Option<&Arc<Labels>>, address: &Address) -> Arc<Labels> {
    let lacks = |key: &str| labels.is_none_or(|labels| labels.get(key).is_none());
    let zone = address.zone.as_ref().filter(|_| lacks(ZONE)).map(|zone| (ZONE, zone));
    let node = address.node.as_ref().filter(|_| lacks(NODE)).map(|node| (NODE, node));
    if zone.is_none() && node.is_none() {
        return labels.cloned().unwrap_or_default();
    }
    let mut labels = labels.map(|labels| Labels::clone(labels)).unwrap_or_default();
    for (key, value) in zone.into_iter().chain(node) {
        labels.insert(key, &**value);
    }
    Arc::new(labels)
}

/// istio GetLocalityLabel: the pod's `istio-locality`, with dots for slashes; else its topology labels. A zone alone is no
/// place: it stands among the labels.
fn locality(labels: &Labels) -> Arc<str> {
    let text = match (labels.get("istio-locality"), labels.get("topology.kubernetes.io/region")) {
        (Some(text), _) if text.contains('/') => text.to_owned(),
        (Some(text), _) => text.replace('.', "/"),
        (None, Some(region)) => {
            let zone = labels.get(ZONE);
            let subzone = zone.and_then(|_| labels.get("topology.istio.io/subzone"));
            [Some(region), zone, subzone].into_iter().flatten().collect::<Vec<_>>().join("/")
        }
        (None, None) => String::new(),
    };
    // What others wrote on a pod refuses nobody's configuration.
    if text.parse::<crate::Locality>().is_ok() { text.into() } else { Arc::default() }
}

impl Sliced {
    /// The endpoint on a service's port; `None` where the slice does not have it.
    pub(super) fn endpoint(&self, port: &ServicePort, trust_domain: &TrustDomain) -> Option<Endpoint> {
        // discovery/v1 EndpointPort.name: "The name must match the corresponding ServicePort".
        let number = self.slice.ports.iter().find(|known| known.name == port.name)?.number;
        let mut endpoint = Endpoint::new(EndpointAddress::new(&self.address, number));
        endpoint.labels = Arc::clone(&self.labels);
        endpoint.weight = self.weight;
        endpoint.locality = Arc::clone(&self.locality);
        endpoint.workload = self.workload.clone();
        endpoint.namespace = Some(Arc::clone(&self.namespace));
        endpoint.identity = identity(self.service_account.as_deref(), &self.namespace, trust_domain);
        endpoint.tls = match self.labels.get("security.istio.io/tlsMode") {
            Some("disabled") => EndpointTls::Disabled,
            _ => EndpointTls::Istio,
        };
        Some(endpoint)
    }
}

/// The first of each address: slices overlap while an endpoint moves from one to another, and a WorkloadEntry may stand
/// beside them.
///
/// istio endpointSliceCache.get: "This a duplicate."
pub(super) fn once(mut endpoints: Vec<Arc<Endpoint>>) -> Vec<Arc<Endpoint>> {
    let mut seen = HashSet::with_capacity(endpoints.len());
    endpoints.retain(|endpoint| seen.insert(endpoint.address.clone()));
    endpoints
}

#[cfg(test)]
mod tests;
