//! Endpoints by address, in the order in which they became known.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{Endpoint, EndpointAddress};

/// A set of endpoints, one for each address. One more or less of ten thousand costs one step.
#[derive(Clone, Debug, Default)]
pub(super) struct Ordered {
    places: HashMap<ByAddress, u64>,
    order: BTreeMap<u64, Arc<Endpoint>>,
    next: u64,
}

/// An endpoint that is found by its address: no address is kept twice.
#[derive(Clone, Debug)]
struct ByAddress(Arc<Endpoint>);

impl Borrow<EndpointAddress> for ByAddress {
    fn borrow(&self) -> &EndpointAddress {
        &self.0.address
    }
}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.address.hash(state);
    }
}

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        self.0.address == other.0.address
    }
}

impl Eq for ByAddress {}

impl Ordered {
    /// The first of each address.
    ///
    /// envoy BaseDynamicClusterImpl::updateDynamicHostList: of a host that is there twice the second is passed over.
    pub(super) fn new(endpoints: impl IntoIterator<Item = Arc<Endpoint>>) -> Self {
        let mut ordered = Self::default();
        for endpoint in endpoints {
            if ordered.get(&endpoint.address).is_none() {
                ordered.put(endpoint);
            }
        }
        ordered
    }

    /// One more, or in the place of the one at its address, which is returned.
    pub(super) fn put(&mut self, endpoint: Arc<Endpoint>) -> Option<Arc<Endpoint>> {
        let place = match self.places.remove(&endpoint.address) {
            Some(place) => place,
            None => {
                self.next += 1;
                self.next
            }
        };
        self.places.insert(ByAddress(Arc::clone(&endpoint)), place);
        self.order.insert(place, endpoint)
    }

    pub(super) fn remove(&mut self, address: &EndpointAddress) -> Option<Arc<Endpoint>> {
        let place = self.places.remove(address)?;
        self.order.remove(&place)
    }

    pub(super) fn get(&self, address: &EndpointAddress) -> Option<&Arc<Endpoint>> {
        self.places.get_key_value(address).map(|(endpoint, _)| &endpoint.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.order.values()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn to_vec(&self) -> Vec<Arc<Endpoint>> {
        self.iter().cloned().collect()
    }

    /// The same endpoints, described alike, in the same order?
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}
