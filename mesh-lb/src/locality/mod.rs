//! Which endpoints are near: `localityLbSetting`, `zoneAwareLbSetting`, and what a service's trafficDistribution asks for.
//!
//! Endpoints are ranked once, when they or the configuration change: into levels of priority (the next one is used as
//! the ones before lose health), or into places with shares (`distribute`). Picks read the result.

mod rank;
mod zone_aware;

use std::sync::Arc;

use mesh_core::{LocalitySetting, Workload, ZoneAwareSetting, registry::TrafficDistribution};

pub use self::zone_aware::Callers;
use self::zone_aware::ZoneAware;
pub(crate) use self::{rank::Level, zone_aware::Zones};

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
    zones: Option<ZoneAware>,
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
            zones: None,
        })
    }

    /// Either setting of the DestinationRule, else what the service says, else the mesh's by zones, else its other one.
    ///
    /// istio loadbalancer.GetEffectiveLbSetting.
    pub(crate) fn in_force(
        client: &Arc<Workload>,
        (rule, rule_by_zones): (Option<&Arc<LocalitySetting>>, Option<&Arc<ZoneAwareSetting>>),
        service: TrafficDistribution,
        (mesh, mesh_by_zones): (&Arc<LocalitySetting>, Option<&Arc<ZoneAwareSetting>>),
        callers: &Arc<Callers>,
        outlier_detection: bool,
    ) -> Option<Self> {
        let said_before = rule.is_some() || service != TrafficDistribution::Any;
        match rule_by_zones.or(mesh_by_zones.filter(|_| !said_before)) {
            Some(setting) => Self::zone_aware(client, setting, callers),
            None => Self::effective(client, rule, service, mesh, outlier_detection),
        }
    }

    /// By zones: the client's region first, and in it the client's zone as far as that is fair to its endpoints. `None`
    /// when it is turned off. It needs no outlier detection: "the regional partitioning itself is always applied".
    #[must_use]
    pub fn zone_aware(client: &Arc<Workload>, setting: &Arc<ZoneAwareSetting>, callers: &Arc<Callers>) -> Option<Self> {
        setting.tiers.is_enabled().then(|| Self {
            setting: Arc::clone(&setting.tiers),
            client: Arc::clone(client),
            failover: true,
            zones: Some(ZoneAware { setting: Arc::clone(setting), callers: Arc::clone(callers) }),
        })
    }

    /// Do places weigh what their endpoints do together, those out of service included?
    ///
    /// istio applyLocalityLoadBalancer: Envoy's locality weights are on for distribute, and where a failover is asked for
    /// that can happen. With distribute the places have other shares.
    pub(crate) fn weighs_places(&self) -> bool {
        self.failover && self.zones.is_none() && self.setting.asks_for_failover()
    }

    /// The setting that counts.
    #[must_use]
    pub fn setting(&self) -> &LocalitySetting {
        &self.setting
    }
}

#[cfg(test)]
mod tests;
