//! Which endpoints are near: `localityLbSetting`, and what a service's trafficDistribution asks for.
//!
//! Endpoints are ranked once, when they or the configuration change: into levels of priority (the next one is used as
//! the ones before lose health), or into places with shares (`distribute`). Picks read the result.

mod rank;

use std::sync::Arc;

use mesh_core::{LocalitySetting, Workload, registry::TrafficDistribution};

pub(crate) use self::rank::Level;

const NETWORK: &str = "topology.istio.io/network";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const CLUSTER: &str = "topology.istio.io/cluster";
const NODE: &str = "kubernetes.io/hostname";

/// The setting in force for a cluster, from where its client is.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalityPolicy {
    setting: Arc<LocalitySetting>,
    client: Arc<Workload>,
    failover: bool,
}

impl LocalityPolicy {
    /// The setting of the DestinationRule, else what the service's trafficDistribution says, else the mesh's. `None`
    /// when the one that counts is turned off.
    ///
    /// Ranks need outlier detection: without it a level would never lose health. A service's own distribution holds
    /// all the same.
    ///
    /// istio loadbalancer.GetLocalityLbSetting: the first that is there counts alone, nothing is merged.
    ///
    /// ```
    /// use mesh_core::{LocalitySetting, Workload, registry::TrafficDistribution};
    /// use mesh_lb::LocalityPolicy;
    ///
    /// let (client, mesh) = (Workload::new("shop", "cart").into(), LocalitySetting::mesh_default().into());
    /// let mut off = LocalitySetting::default();
    /// off.enabled = Some(false);
    /// let any = TrafficDistribution::Any;
    /// assert!(LocalityPolicy::effective(&client, None, any, &mesh, true).is_some());
    /// assert!(LocalityPolicy::effective(&client, Some(&off.into()), any, &mesh, true).is_none());
    /// ```
    #[must_use]
    pub fn effective(
        client: &Arc<Workload>,
        rule: Option<&Arc<LocalitySetting>>,
        service: TrafficDistribution,
        mesh: &Arc<LocalitySetting>,
        outlier_detection: bool,
    ) -> Option<Self> {
        let nearest: &[&str] = match service {
            TrafficDistribution::PreferSameZone => &[NETWORK, REGION, ZONE],
            TrafficDistribution::PreferSameNode => &[NETWORK, REGION, ZONE, SUBZONE, NODE],
            _ => &[],
        };
        let (setting, forced) = match rule {
            Some(rule) => (Arc::clone(rule), false),
            None if !nearest.is_empty() => (Arc::new(LocalitySetting::preferring(nearest)), true),
            None => (Arc::clone(mesh), false),
        };
        setting.is_enabled().then(|| Self {
            setting,
            client: Arc::clone(client),
            failover: outlier_detection || forced,
        })
    }

    /// Do places weigh what their endpoints do together, those out of service included?
    ///
    /// istio applyLocalityLoadBalancer: Envoy's locality weights are on for distribute, and where a failover is asked for
    /// that can happen. With distribute the places have other shares.
    pub(crate) fn weighs_places(&self) -> bool {
        self.failover && self.setting.asks_for_failover()
    }

    /// The setting that counts.
    #[must_use]
    pub fn setting(&self) -> &LocalitySetting {
        &self.setting
    }
}

#[cfg(test)]
mod tests;
