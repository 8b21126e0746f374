//! Clusters: endpoints of a service, with the policy for reaching them and what is known of their state.

mod aware;
mod change;
mod checks;
mod dialled;
mod discovered;
mod index;
mod levels;
mod set;
mod snapshot;

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{
    ClientTlsSettings, ClusterHandle, ClusterName, Endpoint, Reason, RetryPermit, clock,
    registry::{Location, Protocol, Resolution},
};
use rand::Rng;
use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use self::{
    dialled::Dialled,
    discovered::Door,
    index::Index,
    levels::Ejections,
    snapshot::{Snapshot, join, unchanged},
};
pub use self::{
    discovered::{Origin, Want, Wants},
    set::{ClusterSet, Clusters},
};
#[cfg(doc)]
use crate::PriorityLoad;
use crate::{
    ClusterPolicy, ConnectionLimits, ConnectionPlace, LoadBalancer, Member, Outcome, OutlierDetection, PendingPlace,
    connections::Connections,
    counts::{CELLS, WideCount, cell_of_thread},
    member::Loads,
    outlier::nanos,
    pick::{By, Filter},
    prequal::Pools,
    sync::{
        self,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

/// A cluster: a service, one of its ports and perhaps a subset, as a route points at it.
///
/// Cheap to clone; clones are the same cluster. Policy is fixed, endpoints and their state are not.
#[derive(Clone)]
pub struct Cluster(Arc<Handle>);

/// What holders of a cluster count as holders of. All requests take one and give it back, so each thread has one of its own.
#[repr(align(64))]
struct Handle {
    inner: Arc<Inner>,
    of_threads: Option<OnceLock<Box<[Cluster]>>>,
}

impl Deref for Handle {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

struct Inner {
    facts: Facts,
    policy: ClusterPolicy,
    endpoints: ArcSwap<Snapshot>,
    /// Where each endpoint is in the list, once somebody asked. Who changes the endpoints has it: none overwrites what it
    /// has not seen. Not the lock that an ejection takes, which is part of a request.
    index: Mutex<Option<Index>>,
    /// For clusters whose endpoint is the address that a request names.
    dialled: Option<Arc<Dialled>>,
    loads: Arc<Loads>,
    /// Where sources beside the registry have a say.
    door: Option<Arc<Door>>,
    shared: Arc<Shared>,
}

/// What the registry says about the cluster.
#[derive(Clone, Debug, PartialEq)]
struct Facts {
    name: Arc<ClusterName>,
    location: Location,
    protocol: Protocol,
    resolution: Resolution,
    subject_alt_names: Vec<Arc<str>>,
}

/// State that a cluster hands to the next one of its name.
struct Shared {
    epoch: Instant,
    /// Requests in flight, where there is no limit to them.
    active: WideCount,
    /// Where there is: none is admitted past it.
    limited: AtomicU32,
    retries: Arc<std::sync::atomic::AtomicU32>,
    /// Requests between two attempts.
    waiting: Arc<std::sync::atomic::AtomicU32>,
    connections: Arc<Connections>,
    /// Past this time nobody is ejected: most picks look no further.
    ejected_until: AtomicU64,
    /// When the interval began that requests are counted in, where rates are asked for: in nanoseconds, as the next
    /// configuration may have intervals of another length.
    counting: AtomicU64,
    /// One ejection at a time, so that the cap holds. Never held in a pick.
    ejecting: sync::Mutex<()>,
    /// The endpoints that ejections are counted among: requests of an earlier configuration have an older set.
    in_force: ArcSwapOption<Snapshot>,
    /// Ejections so far: what was worked out of them, levels' health and tables of hashes, is old when there were more.
    ejections: AtomicU64,
    /// Told of new endpoints: whoever checks them.
    changed: Notify,
    /// What endpoints answered to probes.
    pools: Pools,
}

impl Inner {
    /// Would connections be made, and peers be checked, in the same way? If not, none may be kept.
    fn connects_like(&self, facts: &Facts, policy: &ClusterPolicy) -> bool {
        let (mine, theirs) = (&self.facts, facts);
        self.policy.tls == policy.tls
            && (mine.location, mine.protocol) == (theirs.location, theirs.protocol)
            && mine.subject_alt_names == theirs.subject_alt_names
    }
}

impl Shared {
    fn new(epoch: Instant) -> Arc<Self> {
        Arc::new(Self {
            epoch,
            active: WideCount::default(),
            limited: AtomicU32::new(0),
            retries: Arc::default(),
            waiting: Arc::default(),
            connections: Arc::default(),
            ejected_until: AtomicU64::new(0),
            counting: AtomicU64::new(0),
            ejecting: sync::Mutex::new(()),
            in_force: ArcSwapOption::empty(),
            ejections: AtomicU64::new(0),
            changed: Notify::new(),
            pools: Pools::default(),
        })
    }

    fn since_epoch(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }
}

impl Cluster {
    /// A cluster that stands alone, with endpoints from code.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName};
    /// use mesh_lb::{Cluster, ClusterPolicy, LoadBalancer};
    ///
    /// let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
    /// let endpoints = ["10.0.0.1", "10.0.0.2"].map(|ip| Arc::new(Endpoint::new(EndpointAddress::new(ip, 9080))));
    /// let policy = ClusterPolicy::default().with_load_balancer(LoadBalancer::RoundRobin);
    /// let cluster = Cluster::new(ClusterName { service, port: 9080, subset: None }, policy, endpoints.into());
    ///
    /// let mut rng = rand::rng();
    /// let first = cluster.pick(mesh_core::clock::now(), &mut rng, &[]).unwrap();
    /// let second = cluster.pick(mesh_core::clock::now(), &mut rng, &[]).unwrap();
    /// assert_ne!(first.endpoint().address, second.endpoint().address);
    /// ```
    #[must_use]
    pub fn new(name: ClusterName, policy: ClusterPolicy, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let facts = Facts {
            name: Arc::new(name),
            location: Location::MeshInternal,
            protocol: Protocol::Unspecified,
            resolution: Resolution::Static,
            subject_alt_names: Vec::new(),
        };
        Self::succeeding(None, facts, policy, endpoints, &Arc::default(), None, clock::now())
    }

    /// The cluster that takes over from `before`, with its state and as many of its members as go on. When
    /// nothing changed it is the same one.
    fn succeeding(
        before: Option<&Self>,
        facts: Facts,
        policy: ClusterPolicy,
        endpoints: Vec<Arc<Endpoint>>,
        loads: &Arc<Loads>,
        door: Option<&Arc<Door>>,
        epoch: Instant,
    ) -> Self {
        let same_peers = before.is_some_and(|cluster| cluster.0.connects_like(&facts, &policy));
        let known = before.map(|cluster| cluster.0.endpoints.load().members.clone()).unwrap_or_default();
        let epoch = before.map_or(epoch, |cluster| cluster.0.shared.epoch);
        let now = nanos(clock::now().saturating_duration_since(epoch));
        let members = join(&known, same_peers, endpoints, loads, now);
        if let Some(cluster) = before
            && cluster.0.facts == facts
            && cluster.0.policy == policy
            && unchanged(&known, &members)
        {
            return cluster.clone();
        }
        let before = before.map(|cluster| &cluster.0);
        let dials = policy.load_balancer == LoadBalancer::Passthrough || facts.resolution == Resolution::None;
        let kept = before.filter(|_| same_peers).and_then(|inner| inner.dialled.clone());
        let shared = before.map_or_else(|| Shared::new(epoch), |inner| Arc::clone(&inner.shared));
        let checked = policy.health_check.is_some() || before.is_some_and(|inner| inner.policy.health_check.is_some());
        let marks = checked.then_some(policy.health_check.is_some());
        let snapshot = shared.mark_and_publish(marks, &members, &policy, || Snapshot::new(members.clone(), &policy));
        let inner = Inner {
            endpoints: ArcSwap::new(snapshot),
            index: Mutex::default(),
            dialled: dials.then(|| kept.unwrap_or_default()),
            loads: Arc::clone(loads),
            door: door.cloned(),
            shared,
            facts,
            policy,
        };
        Self(Arc::new(Handle { inner: Arc::new(inner), of_threads: Some(OnceLock::new()) }))
    }

    /// The same cluster, for a thread to hold while a request is in flight.
    pub(crate) fn of_thread(&self) -> Self {
        let Some(of_threads) = &self.0.of_threads else { return self.clone() };
        let handle = |_| Self(Arc::new(Handle { inner: Arc::clone(&self.0.inner), of_threads: None }));
        of_threads.get_or_init(|| (0..CELLS).map(handle).collect())[cell_of_thread()].clone()
    }

    /// The cluster of hosts that the mesh does not know: each request goes where it says.
    fn passthrough(epoch: Instant) -> Self {
        let facts = Facts {
            name: Arc::new(ClusterName::passthrough()),
            location: Location::MeshExternal,
            protocol: Protocol::Unspecified,
            resolution: Resolution::None,
            subject_alt_names: Vec::new(),
        };
        let policy = ClusterPolicy::default().with_load_balancer(LoadBalancer::Passthrough);
        Self::succeeding(None, facts, policy, Vec::new(), &Arc::default(), None, epoch)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<ClusterName> {
        &self.0.facts.name
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &ClusterPolicy {
        &self.0.policy
    }

    /// The `tls` block of its DestinationRule; `None`: automatic mutual TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<ClientTlsSettings>> {
        self.0.policy.tls.as_ref()
    }

    /// Inside or outside of the mesh.
    #[must_use]
    pub fn location(&self) -> Location {
        self.0.facts.location
    }

    /// What its port speaks.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.0.facts.protocol
    }

    /// How its endpoints are found; for the DNS kinds somebody resolves names and calls
    /// [`Clusters::set_endpoints`].
    #[must_use]
    pub fn resolution(&self) -> Resolution {
        self.0.facts.resolution
    }

    /// ServiceEntry.subjectAltNames.
    #[must_use]
    pub fn subject_alt_names(&self) -> &[Arc<str>] {
        &self.0.facts.subject_alt_names
    }

    /// How long a connection may take.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.0.policy.connect_timeout
    }

    /// How many connections it may have, and for how long. Whoever makes them asks below.
    #[must_use]
    pub fn connection_limits(&self) -> &ConnectionLimits {
        &self.0.policy.connections
    }

    /// A place for one more connection; `None` when maxConnections are open. `first`: the endpoint has none, and gets one
    /// all the same, as in Envoy.
    #[must_use]
    pub fn open_connection(&self, first: bool) -> Option<ConnectionPlace> {
        self.0.shared.connections.open(self.connection_limits(), first)
    }

    /// A place among the requests that wait for a connection; `None` when http1MaxPendingRequests do (503 `UO`).
    #[must_use]
    pub fn wait_for_connection(&self) -> Option<PendingPlace> {
        self.0.shared.connections.wait(self.connection_limits())
    }

    /// Connections that are open or being made, and requests that wait for one. Counted where `connectionPool` limits
    /// connections; elsewhere both are 0.
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        self.0.shared.connections.counts()
    }

    /// Ready when one of its connections closes after this call.
    pub fn connection_closed(&self) -> impl Future<Output = ()> + Send {
        self.0.shared.connections.closed()
    }

    /// Does a request go to the address it names, rather than to an endpoint chosen here? PassthroughCluster,
    /// `resolution: NONE` and `simple: PASSTHROUGH`.
    #[must_use]
    pub fn is_passthrough(&self) -> bool {
        self.0.dialled.is_some()
    }

    /// Requests in flight: those whose response body has not ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        let shared = &self.0.shared;
        shared.active.get().saturating_add(shared.limited.load(Ordering::Relaxed))
    }

    /// Its members now: a copy of the list, for people and for tests.
    #[must_use]
    pub fn members(&self) -> Arc<[Arc<Member>]> {
        self.0.endpoints.load().members.iter().cloned().collect()
    }

    /// Its endpoints now.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.0.endpoints.load().members.iter().map(|member| Arc::clone(member.endpoint())).collect()
    }

    /// Somebody wants its endpoints: its sources are followed from now on, until nobody has for a while. Each pick says
    /// so.
    #[inline]
    pub fn want(&self) {
        if let Some(door) = &self.0.door {
            door.want();
        }
    }

    /// Have sources beside the registry a say in its endpoints?
    pub(crate) fn is_discovered(&self) -> bool {
        self.0.door.is_some()
    }

    /// Until when a request that finds no endpoint should wait for a source that has not answered yet.
    pub(crate) fn awaited_until(&self, now: Instant) -> Option<Instant> {
        self.0.door.as_ref()?.interest().awaited_until(self.connect_timeout(), now)
    }

    /// Ready when there may be endpoints that were not there before.
    pub(crate) fn news(&self) -> Option<OwnedNotified> {
        self.0.door.as_ref().map(|door| door.interest().news())
    }

    /// Is this member ejected at `now`?
    #[must_use]
    pub fn is_ejected(&self, member: &Member, now: Instant) -> bool {
        self.0.policy.outlier_detection.is_some() && member.detector().is_ejected(self.0.shared.since_epoch(now))
    }

    /// Choose a member for a request; `None` when there is none to choose (503 `UH`).
    ///
    /// Endpoints nearby come first where the locality setting says so, others as those lose health ([`PriorityLoad`]).
    /// Ejected members are never chosen, unless so many are that minHealthPercent asks for all to be used.
    /// Endpoints in `tried` are avoided while there are others. For a passthrough cluster see
    /// [`member_of`](Self::member_of).
    #[must_use]
    pub fn pick(&self, now: Instant, rng: &mut impl Rng, tried: &[Arc<Endpoint>]) -> Option<Arc<Member>> {
        self.pick_by_hash(None, now, rng, tried)
    }

    /// The same for a request with a hash: where the policy is consistent hashing it decides, and requests without one
    /// go anywhere.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
    /// use mesh_lb::{Cluster, ClusterPolicy, ConsistentHash, HashTable};
    ///
    /// # let name = ClusterName { service: ServiceName::of_host("a", "b"), port: 80, subset: None };
    /// # let endpoints = ["10.0.0.1", "10.0.0.2"].map(|ip| Arc::new(Endpoint::new(EndpointAddress::new(ip, 9080))));
    /// let policy = ClusterPolicy::default().with_load_balancer(ConsistentHash::new(HashTable::DEFAULT_RING).into());
    /// let cluster = Cluster::new(name, policy, endpoints.into());
    ///
    /// let hash = Some(mesh_lb::hash(b"some user"));
    /// let pick = || cluster.pick_by_hash(hash, clock::now(), &mut rand::rng(), &[]).unwrap();
    /// assert!(Arc::ptr_eq(&pick(), &pick()));
    /// ```
    #[must_use]
    pub fn pick_by_hash(
        &self,
        hash: Option<u64>,
        now: Instant,
        rng: &mut impl Rng,
        tried: &[Arc<Endpoint>],
    ) -> Option<Arc<Member>> {
        self.pick_leaving(hash, now, rng, tried, &[])
    }

    /// The same for an attempt that should leave the levels of these endpoints.
    pub(crate) fn pick_leaving(
        &self,
        hash: Option<u64>,
        now: Instant,
        rng: &mut impl Rng,
        tried: &[Arc<Endpoint>],
        leaving: &[Arc<Endpoint>],
    ) -> Option<Arc<Member>> {
        self.want();
        let (endpoints, ejections) = (self.0.endpoints.load(), self.ejections(now));
        let free = ejections.is_none() && tried.is_empty() && leaving.is_empty() && self.0.policy.warmup.is_none();
        if free && let Some(found) = endpoints.levels.pick_freely(hash, rng) {
            return Some(Arc::clone(found));
        }
        let by = match &self.0.policy.load_balancer {
            LoadBalancer::ConsistentHash(policy) => By {
                hash,
                ejections: self.0.shared.ejections.load(Ordering::Acquire),
                // Not looked at where nobody asks: all requests of the cluster change it.
                in_flight: policy.bounded_load().map_or(0, |_| self.in_flight()),
            },
            _ => By::default(),
        };
        let warmup = self.0.policy.warmup_in_force();
        let warmup = warmup.map(|warmup| (warmup, nanos(self.0.shared.since_epoch(now))));
        let filter = Filter { ejected_at: None, tried, leaving, warmup, by, at: self.moment(now) };
        endpoints.levels.pick(ejections, filter, rng)
    }

    /// The member for the address that a request names, on a passthrough cluster. The same address gives the
    /// same member while it is in use.
    ///
    /// For hosts outside the registry that is the URI's authority. A service of the registry was chosen by the Host
    /// header: then so is the address, or a header could make one host's route lead to another.
    #[must_use]
    pub fn member_of(&self, uri: &http::Uri, headers: &http::HeaderMap) -> Option<Arc<Member>> {
        let by_header = !self.name().is_passthrough();
        self.0.dialled.as_ref()?.member(uri, headers, by_header, &self.0.loads)
    }

    /// How many ejections a pick knows of now.
    #[cfg(all(test, feature = "loom"))]
    pub(crate) fn known_ejections(&self, now: Instant) -> Option<u64> {
        self.ejections(now).map(|ejections| ejections.generation)
    }

    /// `None` while nobody is ejected: most picks look no further.
    fn ejections(&self, now: Instant) -> Option<Ejections> {
        let panic_threshold = self.0.policy.panic_threshold()?;
        let until = self.0.shared.ejected_until.load(Ordering::Acquire);
        let now = nanos(self.0.shared.since_epoch(now));
        (now < until).then(|| Ejections {
            now,
            generation: self.0.shared.ejections.load(Ordering::Acquire),
            panic_threshold,
        })
    }

    /// What became of a request to a member. Ejects it when that was one failure too many.
    pub fn record(&self, member: &Member, outcome: Outcome, now: Instant) {
        let Some(policy) = &self.0.policy.outlier_detection else { return };
        let now = self.0.shared.since_epoch(now);
        if policy.counts_rates() {
            self.sweep(policy, policy.start_of(policy.interval_of(now)));
        }
        if !member.detector().record(policy, outcome, now) {
            return;
        }
        let _one = self.0.shared.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.eject(policy, member, now);
    }

    /// With the first request of an interval: eject those whose rate in the last one stood out, as of its end.
    fn sweep(&self, policy: &OutlierDetection, began: u64) {
        let counting = &self.0.shared.counting;
        if counting.load(Ordering::Acquire) >= began {
            return;
        }
        let _one = self.0.shared.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = counting.load(Ordering::Acquire);
        if before >= began {
            return;
        }
        let ended = policy.interval_of(Duration::from_nanos(before));
        let Some(snapshot) = self.0.shared.in_force.load_full() else { return };
        let now = policy.end_of(ended);
        let counted: Vec<_> = snapshot.members.iter().filter(|member| !member.detector().is_ejected(now)).collect();
        for kind in 0..2 {
            let rates: Vec<_> = counted.iter().map(|member| member.detector().rates(ended)[kind]).collect();
            let rare = policy.success_rate.iter().flat_map(|rule| rule.outliers(&rates));
            let many = policy.failure_percentage.iter().flat_map(|rule| rule.outliers(&rates));
            rare.chain(many).for_each(|index| self.eject(policy, counted[index], now));
        }
        counting.store(began, Ordering::Release);
    }

    /// The lock is held.
    fn eject(&self, policy: &OutlierDetection, member: &Member, now: Duration) {
        let snapshot = self.0.shared.in_force.load();
        // Who has left fails to no consequence.
        let Some(snapshot) = snapshot.as_deref().filter(|snapshot| snapshot.has(member)) else { return };
        if member.detector().is_ejected(now) || !policy.may_eject(snapshot.ejected(now), snapshot.levels.len()) {
            return;
        }
        let until = member.detector().eject(policy, now);
        // Before the time that lets picks look at ejections: those that do see a table as old.
        self.0.shared.ejections.fetch_add(1, Ordering::AcqRel);
        self.0.shared.ejected_until.fetch_max(nanos(until), Ordering::AcqRel);
        let seconds = until.saturating_sub(now).as_secs_f64();
        tracing::warn!(cluster = %self.name(), endpoint = %member.endpoint().address, seconds, "endpoint ejected");
    }

    /// A place among the requests in flight; false when http2MaxRequests are (503 `UO`).
    pub(crate) fn admit(&self) -> bool {
        let (shared, max) = (&self.0.shared, self.0.policy.max_requests);
        if max == u32::MAX {
            shared.active.add();
            return true;
        }
        // Those of an earlier configuration, without a limit.
        let others = shared.active.get();
        let admits = |n: u32| (n.saturating_add(others) < max).then_some(n + 1);
        shared.limited.fetch_update(Ordering::AcqRel, Ordering::Acquire, admits).is_ok()
    }

    /// What [`admit`](Self::admit) took, by the same configuration.
    pub(crate) fn leave(&self) {
        let shared = &self.0.shared;
        match self.0.policy.max_requests {
            u32::MAX => shared.active.sub(),
            _ => drop(shared.limited.fetch_sub(1, Ordering::AcqRel)),
        }
    }
}

#[cfg(test)]
impl Cluster {
    /// Wait until picks go by tables over the endpoints of now.
    pub(crate) fn settle(&self) {
        while !self.0.endpoints.load().levels.pickers().all(crate::pick::Picker::is_made) {
            std::thread::yield_now();
        }
    }
}

impl ClusterHandle for Cluster {
    fn name(&self) -> &Arc<ClusterName> {
        &self.0.facts.name
    }

    fn retry_permit(&self, failed: Option<Reason>) -> Option<RetryPermit> {
        let (limit, shared) = (self.0.policy.retries, &self.0.shared);
        // istio TrafficPolicy.RetryBudget.percent: "a percentage of the sum of active requests and active pending
        // requests". Active is who waits for an answer: also those between two attempts, and the one that asks. So at
        // 100 % nobody is refused.
        let active = self.in_flight().saturating_add(shared.waiting.load(Ordering::Acquire));
        let admits = |taken: u32| taken < limit.at(active.max(taken).saturating_add(1));
        let permit = match limit.counts(failed) {
            true => RetryPermit::try_acquire(&shared.retries, admits)?,
            false => RetryPermit::unlimited(),
        };
        Some(permit.waiting(&shared.waiting))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &format_args!("{}", self.name()))
            .field("members", &self.members())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod zone_tests;
