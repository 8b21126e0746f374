//! An endpoint as a member of a cluster: with what is known about it from the requests it was sent.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use mesh_core::{Endpoint, EndpointAddress};

use crate::{
    OutlierDetector,
    counts::Count,
    latency::{Latency, Outcomes},
};

/// An endpoint of a cluster. The same member serves as long as the endpoint stays, through every change of
/// configuration that is not its own.
pub struct Member {
    endpoint: Arc<Endpoint>,
    load: Arc<Load>,
    detector: Arc<OutlierDetector>,
    /// When it became known: nanoseconds since its cluster's epoch.
    since: u64,
    /// Made when somebody keeps something there.
    slot: OnceLock<Arc<Slot>>,
}

/// Requests in flight to an address, whichever of the service's clusters they came through.
#[derive(Debug, Default)]
pub(crate) struct Load {
    in_flight: Count,
    /// Made where a policy learns from latencies.
    latency: OnceLock<Box<Latency>>,
}

impl Member {
    pub(crate) fn new(endpoint: Arc<Endpoint>, load: Arc<Load>) -> Arc<Self> {
        Self::known_since(0, endpoint, load)
    }

    pub(crate) fn known_since(since: u64, endpoint: Arc<Endpoint>, load: Arc<Load>) -> Arc<Self> {
        Arc::new(Self { endpoint, load, detector: Arc::default(), since, slot: OnceLock::new() })
    }

    /// The member for a newer description of the same address: health stays, and the connections stay where
    /// they would be made in the same way again (`same_peers`: nothing of the cluster says otherwise).
    pub(crate) fn succeed(self: &Arc<Self>, endpoint: Arc<Endpoint>, same_peers: bool) -> Arc<Self> {
        if same_peers && *self.endpoint == *endpoint {
            return Arc::clone(self);
        }
        let same_endpoint = self.endpoint.identity == endpoint.identity && self.endpoint.tls == endpoint.tls;
        // Made now if it was not, so that both have the same.
        let slot = (same_peers && same_endpoint).then(|| OnceLock::from(Arc::clone(self.slot())));
        Arc::new(Self {
            endpoint,
            load: Arc::clone(&self.load),
            detector: Arc::clone(&self.detector),
            since: self.since,
            slot: slot.unwrap_or_default(),
        })
    }

    /// Is it the same member as that one, before or after a change of what is said of its endpoint?
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.detector, &other.detector)
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Requests in flight to its address: those whose response body has not ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }

    pub(crate) fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// What is known from how long its answers take; made when it is looked at for the first time.
    pub(crate) fn latency(&self) -> &Latency {
        self.load.latency.get_or_init(Box::default)
    }

    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    pub(crate) fn detector(&self) -> &OutlierDetector {
        &self.detector
    }

    /// Something that a later stage keeps per member, a connection pool for instance: made on first use, found
    /// again without a lock, dropped with the last member that has it. One value per type.
    ///
    /// It lives as long as connections to the member would be made in the same way: a changed identity, TLS
    /// mode, protocol, subjectAltNames or `tls` block starts with an empty slot, changed labels or weights keep it.
    ///
    /// ```
    /// # use std::sync::{Arc, atomic::AtomicU32};
    /// # use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName};
    /// # let name = ClusterName { service: ServiceName::of_host("a", "b"), port: 80, subset: None };
    /// # let endpoint = Arc::new(Endpoint::new(EndpointAddress::new("10.0.0.1", 80)));
    /// # let cluster = mesh_lb::Cluster::new(name, Default::default(), vec![endpoint]);
    /// #[derive(Default)]
    /// struct Pool(AtomicU32);
    ///
    /// let member = &cluster.members()[0];
    /// let first = member.attachment::<Pool>(Arc::default);
    /// assert!(Arc::ptr_eq(&first, &member.attachment::<Pool>(|| unreachable!())));
    /// ```
    pub fn attachment<T: Any + Send + Sync>(&self, init: impl FnOnce() -> Arc<T>) -> Arc<T> {
        self.slot().find(init)
    }

    fn slot(&self) -> &Arc<Slot> {
        self.slot.get_or_init(Arc::default)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("address", &self.endpoint.address)
            .field("weight", &self.endpoint.weight)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl Load {
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    pub(crate) fn add(&self) {
        self.in_flight.add();
    }

    pub(crate) fn sub(&self) {
        self.in_flight.sub();
    }
}

/// A list of values by type, almost always one long.
#[derive(Default)]
struct Slot {
    value: OnceLock<Arc<dyn Any + Send + Sync>>,
    next: OnceLock<Box<Slot>>,
}

impl Slot {
    fn find<T: Any + Send + Sync>(&self, init: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let (mut slot, mut init) = (self, Some(init));
        loop {
            let value = slot.value.get_or_init(|| init.take().expect("a slot that init filled has its type")());
            if let Ok(found) = Arc::clone(value).downcast::<T>() {
                return found;
            }
            slot = slot.next.get_or_init(Box::default);
        }
    }
}

/// The loads of one service's addresses. Kept weakly: an address that no cluster has any more, and that no
/// request is on, is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    known: Mutex<Known>,
    /// What the service's requests came to, where a policy asks.
    outcomes: Outcomes,
}

#[derive(Debug, Default)]
struct Known {
    /// By hashes of their addresses, which take half of the memory. Two of ten thousand addresses have the same one once
    /// in 10^11 sets; they would count as one.
    loads: HashMap<u64, Weak<Load>>,
    hasher: RandomState,
    /// So many are kept without a look at who is used.
    enough: usize,
}

impl Loads {
    pub(crate) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    pub(crate) fn of(&self, address: &EndpointAddress) -> Arc<Load> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = known.hasher.hash_one(address);
        if let Some(load) = known.loads.get(&key).and_then(Weak::upgrade) {
            return load;
        }
        if known.loads.len() >= known.enough {
            known.forget_unused();
        }
        let load = Arc::default();
        known.loads.insert(key, Arc::downgrade(&load));
        load
    }

    pub(crate) fn forget_unused(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).forget_unused();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).loads.len()
    }
}

impl Known {
    /// Endpoints come and go between configurations too: with every doubling somebody looks.
    fn forget_unused(&mut self) {
        self.loads.retain(|_, load| load.strong_count() > 0);
        self.loads.shrink_to(2 * self.loads.len());
        self.enough = (2 * self.loads.len()).max(64);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    use super::*;

    /// Of threads that ask at once one makes the value, and of each type there is one.
    #[test]
    fn a_slot_is_filled_once_for_each_type() {
        for _ in 0..200 {
            let endpoint = Arc::new(Endpoint::new(EndpointAddress::new("10.0.0.1", 80)));
            let (member, made) = (Member::new(endpoint, Arc::default()), AtomicUsize::new(0));
            let barrier = Barrier::new(4);
            let made_once = |value: u64| {
                made.fetch_add(1, Ordering::Relaxed);
                value
            };
            thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let (member, barrier, made_once) = (&member, &barrier, &made_once);
                    scope.spawn(move || {
                        barrier.wait();
                        let first = member.attachment(|| Arc::new(made_once(thread)));
                        let other = member.attachment(|| Arc::new(made_once(thread).to_string()));
                        assert!(Arc::ptr_eq(&first, &member.attachment::<u64>(|| unreachable!())));
                        assert!(Arc::ptr_eq(&other, &member.attachment::<String>(|| unreachable!())));
                    });
                }
            });
            assert_eq!(made.load(Ordering::Relaxed), 2);
        }
    }
}
