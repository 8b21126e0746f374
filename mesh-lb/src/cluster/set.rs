//! All clusters: rebuilt as a whole on every change of configuration, without losing what they have learnt.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_core::{
    ClusterName, Endpoint, MeshConfig, Workload, clock,
    discover::{Update, Wanted},
    registry::{Registry, Service, ServicePort},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Cluster, Facts,
    discovered::{Found, Key, Origin, Sources, Want, Wants},
};
use crate::{
    Callers, ClusterPolicy, DefaultPolicy, DestinationRules, LocalityPolicy, MergedRule, Subset, SubsetClient,
    Subsetting, TrafficPolicy, member::Loads,
};

/// Where clusters live from one configuration to the next. Clones are the same.
///
/// ```
/// # use std::sync::Arc;
/// # use mesh_core::{ClusterName, MeshConfig, Workload, config::{Document, Issues}, registry::Registry};
/// # use mesh_lb::{Clusters, DestinationRule, DestinationRules};
/// let yaml = "
/// kind: ServiceEntry
/// apiVersion: networking.istio.io/v1
/// metadata: {name: db}
/// spec:
///   hosts: [db.example.com]
///   ports: [{number: 80, name: http, protocol: HTTP}]
///   resolution: STATIC
///   endpoints: [{address: 10.0.0.1, labels: {zone: a}}, {address: 10.0.0.2}]
/// ---
/// kind: DestinationRule
/// metadata: {name: db}
/// spec:
///   host: db.example.com
///   subsets: [{name: a, labels: {zone: a}}]
/// ";
/// let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
/// let documents = Document::parse_all("db.yaml", yaml, &mut issues);
/// let registry = Registry::from_documents(&documents[..1], &mesh.trust_domain, &mut issues);
/// let rule = DestinationRule::from_document(&documents[1], &mut issues).unwrap();
/// let rules = DestinationRules::new(&[Arc::new(rule)]);
///
/// let clusters = Clusters::new();
/// let set = clusters.build(&registry, &rules, &Workload::new("default", "client"), &mesh);
/// let service = registry.service("db.example.com").unwrap().name.clone();
/// let name = ClusterName { service, port: 80, subset: Some("a".into()) };
/// assert_eq!(set.get(&name).unwrap().endpoints().len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Clusters(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    epoch: Instant,
    passthrough: Cluster,
    client: SubsetClient,
    sources: Sources,
    /// `None`: nobody follows sources, and no cluster says that it is wanted.
    wants: Option<mpsc::UnboundedSender<Want>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    subsetting: Option<Subsetting>,
    clusters: HashMap<Arc<ClusterName>, Entry>,
    found: HashMap<Key, Found>,
    loads: HashMap<Arc<str>, Arc<Loads>>,
}

/// A cluster, and which of the port's endpoints are its own.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    cluster: Cluster,
    subset: Option<Arc<Subset>>,
}

/// The clusters of one configuration.
#[derive(Clone, Debug)]
pub struct ClusterSet {
    clusters: Arc<HashMap<Arc<ClusterName>, Entry>>,
    passthrough: Cluster,
}

impl Default for Clusters {
    fn default() -> Self {
        Self::new()
    }
}

impl Clusters {
    /// None yet. Outlier detection counts its sweeps from now.
    #[must_use]
    pub fn new() -> Self {
        Self::of_client(SubsetClient::Seed(rand::random()))
    }

    /// The same for a client that knows which one of its fleet it is: where there is [`Subsetting`], it is by that.
    #[must_use]
    pub fn of_client(client: SubsetClient) -> Self {
        Self::with_sources(client, Sources::default(), None)
    }

    /// None yet, and endpoints come from sources beside the registry too: so many that are given, and with `names` from
    /// who looks up names. The one who follows them hears from [`Wants`] which services requests want, and
    /// [`tell`](Self::tell)s what the sources say.
    #[must_use]
    pub fn discovering(client: SubsetClient, given: usize, names: bool) -> (Self, Wants) {
        let (sources, wants, sender) = Sources::new(given, names);
        (Self::with_sources(client, sources, Some(sender)), wants)
    }

    fn with_sources(client: SubsetClient, sources: Sources, wants: Option<mpsc::UnboundedSender<Want>>) -> Self {
        let epoch = clock::now();
        let (passthrough, state) = (Cluster::passthrough(epoch), Mutex::default());
        Self(Arc::new(Shared { epoch, passthrough, client, sources, wants, state }))
    }

    /// From the next configuration that is [built](Self::build) on, clusters have some of their endpoints only, where
    /// their [policy](ClusterPolicy::subsetting) says nothing of it; `None`, as it is in the beginning: all. Clusters with consistent hashing always have all.
    pub fn set_subsetting(&self, subsetting: Option<Subsetting>) {
        self.state().subsetting = subsetting;
    }

    /// One cluster for each service and port, and one for each subset of the rule in force.
    ///
    /// A cluster that did not change is the same one as before; of one that did, in-flight counts, ejections
    /// and members go on. Services that are gone are forgotten.
    #[must_use]
    pub fn build(
        &self,
        registry: &Registry,
        rules: &DestinationRules,
        workload: &Workload,
        mesh: &MeshConfig,
    ) -> ClusterSet {
        let client = Arc::new(workload.clone());
        let callers = Arc::new(Callers::of(workload, registry));
        let defaults = DefaultPolicy::from_mesh(mesh);
        let mut state = self.state();
        let some = Subsetted { by: state.subsetting, client: self.0.client };
        let mut clusters = HashMap::with_capacity(state.clusters.len());
        let mut all_found = HashMap::with_capacity(state.found.len());
        for service in registry.services() {
            let host = &service.name.host;
            let rule = rules.for_service(host, &service.name.namespace, workload, &mesh.root_namespace);
            let loads = Arc::clone(state.loads.entry(Arc::clone(host)).or_default());
            for port in &service.ports {
                let named = service.endpoints(port.number);
                let key = (Arc::clone(host), port.number);
                let before = state.found.remove(&key).filter(|found| found.resolution() == service.resolution);
                let mut found = match before {
                    Some(mut found) => {
                        found.rename(named);
                        found
                    }
                    None => Found::new(&key, named, service.resolution, self.0.sources, self.0.wants.as_ref()),
                };
                found.entries.clear();
                let endpoints = found.endpoints();
                let subsets = rule.into_iter().flat_map(MergedRule::subsets).map(Some);
                for subset in std::iter::once(None).chain(subsets) {
                    let facts = facts(service, port, subset);
                    let before = state.clusters.get(&facts.name).map(|entry| &entry.cluster);
                    let (of_rule, of_subset) =
                        (rule.and_then(MergedRule::traffic_policy), subset.and_then(|s| s.traffic_policy.as_ref()));
                    let mut policy = TrafficPolicy::layer_over(&defaults, of_rule, of_subset, port.number);
                    rules.load_balancing().apply(host, &mut policy);
                    policy.locality = LocalityPolicy::in_force(
                        &client,
                        (policy.locality_setting.as_ref(), policy.zone_setting.as_ref()),
                        service.traffic_distribution,
                        (&mesh.locality, mesh.zone_aware.as_ref()),
                        &callers,
                        policy.outlier_detection.is_some() || policy.health_check.is_some(),
                    );
                    let name = Arc::clone(&facts.name);
                    let chosen = some.choose(select(&endpoints, subset), &policy);
                    let cluster =
                        Cluster::succeeding(before, facts, policy, chosen, &loads, found.door(), self.0.epoch);
                    let entry = Entry { cluster, subset: subset.cloned() };
                    found.entries.push(entry.clone());
                    clusters.insert(name, entry);
                }
                all_found.insert(key, found);
            }
        }
        state.found = all_found;
        state.clusters.clone_from(&clusters);
        state.loads.retain(|host, loads| {
            loads.forget_unused();
            registry.service(host).is_some()
        });
        ClusterSet { clusters: Arc::new(clusters), passthrough: self.0.passthrough.clone() }
    }

    /// What the names among the endpoints of a service's port were resolved to: in force at once for the cluster and
    /// its subsets, and in the sets built later, until the registry names other endpoints.
    ///
    /// `named` are the registry's endpoints that were looked up. When it names others by now, the answer is to a
    /// question that nobody asks any more, and nothing happens. Each of `endpoints` should carry on the labels, weight,
    /// locality and identity of the one that it came from.
    pub fn set_endpoints(&self, host: &str, port: u16, named: &[Arc<Endpoint>], endpoints: Vec<Arc<Endpoint>>) {
        let mut state = self.state();
        let some = Subsetted { by: state.subsetting, client: self.0.client };
        let Some(found) = state.found.get_mut(&(host.into(), port)) else { return };
        if found.named() == named
            && let Some(change) = found.take(Origin::Names, Update::Reset(endpoints))
        {
            put_in_force(found, &change, some);
        }
    }

    /// What to ask sources about a service that is wanted; `None` when it is gone, and its sources are followed no more.
    #[must_use]
    pub fn wanted(&self, want: &Want) -> Option<Wanted> {
        let state = self.state();
        state.found.get(&want.key).filter(|found| found.is(want)).map(Found::wanted)
    }

    /// What a source says of a service: in force at once for the cluster and its subsets, merged with what others say,
    /// and in the sets built later.
    pub fn tell(&self, want: &Want, origin: Origin, update: Update) {
        let mut state = self.state();
        let some = Subsetted { by: state.subsetting, client: self.0.client };
        let Some(found) = state.found.get_mut(&want.key).filter(|found| found.is(want)) else { return };
        if let Some(change) = found.take(origin, update) {
            put_in_force(found, &change, some);
            drop(state);
            want.interest.told();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one place where endpoints change between two configurations.
///
/// One step is one step for every cluster that takes steps: where neither the order of all matters, nor which of them a
/// client has.
fn put_in_force(found: &Found, change: &Update, some: Subsetted) {
    let mut all = None;
    for Entry { cluster, subset } in &found.entries {
        let steps = match change {
            Update::Reset(_) => None,
            _ if some.by(cluster.policy()).is_some() => None,
            _ => within(change, subset.as_ref()),
        };
        match steps.filter(|_| !cluster.policy().load_balancer.is_ordered()) {
            Some(step) => cluster.apply([step]),
            None => {
                let endpoints = all.get_or_insert_with(|| found.endpoints());
                cluster.set_endpoints(some.choose(select(endpoints, subset.as_ref()), cluster.policy()));
            }
        }
    }
}

/// What a step is to a subset: an endpoint whose labels are not its own leaves.
fn within(step: &Update, subset: Option<&Arc<Subset>>) -> Option<Update> {
    match step {
        Update::Add(endpoint) if is_within(endpoint, subset) => Some(step.clone()),
        Update::Add(endpoint) => Some(Update::Remove(endpoint.address.clone())),
        Update::Remove(_) => Some(step.clone()),
        _ => None,
    }
}

fn facts(service: &Service, port: &ServicePort, subset: Option<&Arc<Subset>>) -> Facts {
    let subset = subset.map(|subset| Arc::clone(&subset.name));
    Facts {
        name: Arc::new(ClusterName { service: service.name.clone(), port: port.number, subset }),
        location: service.location,
        protocol: port.protocol,
        resolution: service.resolution,
        subject_alt_names: service.subject_alt_names.clone(),
    }
}

/// istio getSubSetLabels: the endpoints whose labels include the subset's; a subset without labels has all.
fn select(endpoints: &[Arc<Endpoint>], subset: Option<&Arc<Subset>>) -> Vec<Arc<Endpoint>> {
    endpoints.iter().filter(|endpoint| is_within(endpoint, subset)).cloned().collect()
}

fn is_within(endpoint: &Endpoint, subset: Option<&Arc<Subset>>) -> bool {
    subset.is_none_or(|subset| endpoint.labels.contains_all(&subset.labels))
}

/// Subsetting, where it is asked for.
#[derive(Clone, Copy)]
struct Subsetted {
    by: Option<Subsetting>,
    client: SubsetClient,
}

impl Subsetted {
    /// What a cluster goes by: its own policy's, else that of all. A key of consistent hashing belongs to one of all
    /// endpoints.
    fn by(self, policy: &ClusterPolicy) -> Option<Subsetting> {
        policy.subsetting.or(self.by).filter(|_| policy.load_balancer.consistent_hash().is_none())
    }

    /// Of the endpoints that labels leave.
    fn choose(self, endpoints: Vec<Arc<Endpoint>>, policy: &ClusterPolicy) -> Vec<Arc<Endpoint>> {
        match self.by(policy) {
            Some(subsetting) => subsetting.choose(self.client, endpoints),
            None => endpoints,
        }
    }
}

impl ClusterSet {
    /// The cluster of this name; `None` when no rule defines it (503 `NC`).
    #[must_use]
    pub fn get(&self, name: &ClusterName) -> Option<&Cluster> {
        self.clusters.get(name).map(|entry| &entry.cluster)
    }

    /// The cluster of hosts outside the registry.
    #[must_use]
    pub fn passthrough(&self) -> &Cluster {
        &self.passthrough
    }

    /// All clusters but passthrough, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values().map(|entry| &entry.cluster)
    }
}
