//! Zone awareness: requests stay in the caller's zone as far as that is fair.
//!
//! If each zone's callers kept to its endpoints, a zone with more callers than endpoints would overload those. So zones
//! are compared: what part of the callers is in a zone, and what part of the endpoints. Where the endpoints' part is at least as
//! large, all requests stay. Where it is smaller, so many stay as the endpoints' part allows, and the rest goes to the
//! zones whose endpoints have fewer callers of their own, in proportion to what is left there. When every caller does that
//! each endpoint has the same load, and no request crosses zones that need not.
//!
//! Callers are the endpoints of the services that this workload is of, found in the registry by its labels: they are
//! who sends the same requests. Istio has them with `ISTIO_META_ENABLE_SELF_DISCOVERY`. Nothing is known of their health. Where
//! they are not known, none of them is where this one is, or all are in one zone, zones do not count: requests go to all
//! endpoints of the region alike. Callers are looked up with each change of configuration.
//!
//! A zone is a locality, all of `region/zone/subzone`, as in Envoy.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use mesh_core::{Locality, Workload, ZoneAwareSetting, registry::Registry};

/// Where the callers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers(BTreeMap<Locality, u64>);

impl Callers {
    /// So many in each place.
    #[must_use]
    pub fn new(places: impl IntoIterator<Item = (Locality, u64)>) -> Self {
        Self(places.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    /// The endpoints of the services that select this workload, each address once.
    #[must_use]
    pub fn of(workload: &Workload, registry: &Registry) -> Self {
        let (mut known, mut places) = (HashSet::new(), BTreeMap::new());
        for service in registry.services().filter(|service| service.selects(workload)) {
            let Some(port) = service.ports.first() else { continue };
            for endpoint in service.endpoints(port.number) {
                if known.insert(endpoint.address.host().into_owned()) {
                    *places.entry(endpoint.locality.parse().unwrap_or_default()).or_default() += 1;
                }
            }
        }
        Self(places)
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The zones of a tier's endpoints, and how many callers each has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Zones {
    /// Callers in each of the endpoints' zones.
    callers: Box<[u64]>,
    all_callers: u64,
    /// The caller's own, where it has endpoints.
    own: Option<usize>,
    min_cluster_size: u32,
}

impl Zones {
    /// `None` where zones never count, whoever is healthy.
    ///
    /// envoy ZoneAwareLoadBalancerBase::earlyExitNonLocalityRouting: fewer than two localities of endpoints; "too few local
    /// localities for zone routing to have an effect"; "the local cluster doesn't have any hosts in the current envoy's local
    /// locality".
    pub(crate) fn new(
        setting: &ZoneAwareSetting,
        callers: &Callers,
        here: &Locality,
        endpoints: &[&Locality],
    ) -> Option<Self> {
        if endpoints.len() < 2 || callers.0.len() < 2 || !callers.0.contains_key(here) {
            return None;
        }
        Some(Self {
            callers: endpoints.iter().map(|place| callers.0.get(place).copied().unwrap_or_default()).collect(),
            all_callers: callers.total(),
            own: endpoints.iter().position(|place| *place == here),
            min_cluster_size: setting.min_cluster_size,
        })
    }

    /// The weights of the zones, by how many healthy endpoints each has. All 0: zones do not count.
    ///
    /// envoy ZoneAwareLoadBalancerBase::regenerateLocalityRoutingStructures and tryChooseLocalLocalityHosts. Parts are in
    /// 10,000ths, rounded down: "Percentage is stored as integer number and scaled by 10000 multiplier for better
    /// precision." What is two draws there is one here: a zone's weight is its part of all requests, over a common
    /// denominator.
    pub(crate) fn weights(&self, healthy: &[u64]) -> Box<[u64]> {
        let all_healthy: u64 = healthy.iter().sum();
        // "Do not perform locality routing for small clusters."
        if all_healthy < u64::from(self.min_cluster_size) || all_healthy == 0 {
            return vec![0; healthy.len()].into();
        }
        let part = |count: u64, all: u64| (10_000 * count).checked_div(all).unwrap_or_default();
        // "If there are no upstream hosts in a locality, the local percentage doesn't matter."
        let parts: Vec<(u64, u64)> = healthy
            .iter()
            .zip(&self.callers)
            .map(|(healthy, callers)| (part(*healthy, all_healthy), part(*callers, self.all_callers)))
            .map(|(endpoints, callers)| (endpoints, if endpoints == 0 { 0 } else { callers }))
            .collect();
        let stay = match self.own.map(|own| parts[own]) {
            // "If we have lower percent of hosts in the local cluster in the same locality, we can push all of the
            // requests directly to upstream cluster in the same locality."
            Some((endpoints, callers)) if endpoints > 0 && endpoints >= callers => 10_000,
            // "if local percentage is 20% and upstream is 10% we can route only 50% of requests directly."
            Some((endpoints, callers)) => (endpoints * 10_000).checked_div(callers).unwrap_or_default(),
            None => 0,
        };
        let left = |index: usize, (endpoints, callers): (u64, u64)| match self.own == Some(index) {
            true => 0,
            false => endpoints.saturating_sub(callers),
        };
        let mut residual: Vec<u64> = parts.iter().enumerate().map(|(index, parts)| left(index, *parts)).collect();
        if residual.iter().all(|left| *left == 0) {
            // "extremely unlikely but possible due to rounding errors [..] just select random locality." One that has
            // somebody: Envoy may choose one that has not, and answer 503.
            residual = healthy.iter().map(|healthy| u64::from(*healthy > 0)).collect();
        }
        let all: u64 = residual.iter().sum();
        let mut weights: Box<[u64]> = residual.iter().map(|left| left * (10_000 - stay)).collect();
        if let Some(own) = self.own {
            weights[own] += stay * all;
        }
        weights
    }
}

/// What a cluster's zones are compared by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ZoneAware {
    pub(super) setting: Arc<ZoneAwareSetting>,
    pub(super) callers: Arc<Callers>,
}

#[cfg(test)]
mod tests;
