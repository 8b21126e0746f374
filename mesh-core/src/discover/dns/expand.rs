//! Which endpoints the answers to names make.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    Endpoint, EndpointAddress,
    discover::Update,
    registry::{Found, Place, is_service_record},
};

/// The smallest share that a service record of weight zero gets beside those with a weight.
const FINE: u32 = 100;
/// A change of more steps is told as a whole.
const STEPS: usize = 16;

/// Endpoints with the answers to their names in the place of names, each address once: the first that has it describes it.
///
/// `known` tells what is in force for a name, `None` when it was never answered. `None` is returned while no name at all
/// has been answered.
pub(super) fn expand(
    named: &[Arc<Endpoint>],
    mut known: impl FnMut(&Arc<str>) -> Option<Arc<[Found]>>,
) -> Option<Vec<Arc<Endpoint>>> {
    let mut expanded = Expanded { endpoints: Vec::with_capacity(named.len()), seen: HashSet::new(), answered: false };
    for endpoint in named {
        let EndpointAddress::Name(host, port) = &endpoint.address else { continue };
        match known(host) {
            None => expanded.push(endpoint, endpoint.address.clone(), endpoint.weight),
            Some(found) => {
                expanded.answered = true;
                expanded.add(endpoint, *port, &found, &mut known);
            }
        }
    }
    expanded.answered.then_some(expanded.endpoints)
}

struct Expanded {
    endpoints: Vec<Arc<Endpoint>>,
    seen: HashSet<EndpointAddress>,
    answered: bool,
}

impl Expanded {
    fn push(&mut self, of: &Arc<Endpoint>, address: EndpointAddress, weight: u32) {
        if !self.seen.insert(address.clone()) {
            return;
        }
        if of.address == address && of.weight == weight {
            self.endpoints.push(Arc::clone(of));
            return;
        }
        let mut endpoint = Endpoint::clone(of);
        (endpoint.address, endpoint.weight) = (address, weight);
        self.endpoints.push(Arc::new(endpoint));
    }

    /// The places of the lowest priority that has any.
    fn add(
        &mut self,
        of: &Arc<Endpoint>,
        port: u16,
        found: &[Found],
        known: &mut impl FnMut(&Arc<str>) -> Option<Arc<[Found]>>,
    ) {
        let mut by_priority = BTreeMap::<u16, Vec<&Found>>::new();
        for found in found {
            by_priority.entry(found.priority).or_default().push(found);
        }
        for equals in by_priority.values() {
            let (before, weighing) = (self.endpoints.len(), Weighing::of(equals));
            for found in equals {
                let weight = weighing.weigh(of.weight, found.weight);
                let port = found.port.unwrap_or(port);
                match &found.at {
                    Place::Ip(ip) => self.push(of, SocketAddr::new(*ip, port).into(), weight),
                    // RFC 2782: a target is a host with address records, never a service again.
                    Place::Host(target) if is_service_record(target) => {}
                    Place::Host(target) => match known(target) {
                        None => self.push(of, EndpointAddress::Name(Arc::clone(target), port), weight),
                        Some(addresses) => addresses.iter().for_each(|address| {
                            if let Place::Ip(ip) = address.at {
                                let port = address.port.unwrap_or(port);
                                self.push(of, SocketAddr::new(ip, port).into(), weight);
                            }
                        }),
                    },
                }
            }
            if self.endpoints.len() > before {
                return;
            }
        }
    }
}

/// How the weights of service records of one priority count.
///
/// RFC 2782: "Larger weights SHOULD be given a proportionately higher probability of being selected"; beside them, "records
/// with weight 0 should have a very small chance of being selected"; where all are 0 there is no "server selection to do".
struct Weighing {
    unit: u32,
}

impl Weighing {
    fn of(equals: &[&Found]) -> Self {
        let (zero, more) = (equals.iter().any(|f| f.weight == Some(0)), equals.iter().any(|f| f.weight > Some(0)));
        Self { unit: if zero && more { FINE } else { 1 } }
    }

    fn weigh(&self, own: u32, record: Option<u16>) -> u32 {
        match record {
            None | Some(0) => own,
            Some(weight) => own.saturating_mul(u32::from(weight)).saturating_mul(self.unit),
        }
    }
}

/// The steps from what was told last to what is known now: who comes before who goes, so that nobody sees the service
/// empty between the two.
pub(super) fn steps(told: &[Arc<Endpoint>], now: &[Arc<Endpoint>]) -> Vec<Update> {
    let before: BTreeMap<_, _> = told.iter().map(|endpoint| (&endpoint.address, endpoint)).collect();
    let after: HashSet<_> = now.iter().map(|endpoint| &endpoint.address).collect();
    let added = now.iter().filter(|endpoint| before.get(&endpoint.address) != Some(endpoint));
    let removed = told.iter().filter(|endpoint| !after.contains(&endpoint.address));
    let mut steps: Vec<_> = added.map(|endpoint| Update::Add(Arc::clone(endpoint))).collect();
    steps.extend(removed.map(|endpoint| Update::Remove(endpoint.address.clone())));
    if steps.len() > STEPS {
        steps = vec![Update::Reset(now.to_vec())];
    }
    steps
}
