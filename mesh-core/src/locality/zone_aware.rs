//! `zoneAwareLbSetting`, as a DestinationRule and MeshConfig have it (istio networking/v1alpha3
//! ZoneAwareLoadBalancerSetting).

use std::sync::Arc;

use serde::Deserialize;

use super::{LocalitySetting, setting::tiers};

/// The block as YAML spells it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ZoneAwareSpec {
    enabled: Option<bool>,
    failover: Vec<super::setting::FailoverSpec>,
    failover_priority: Vec<String>,
    min_cluster_size: Option<i64>,
}

/// Requests stay in the caller's zone as far as that is fair to its endpoints, and in its region as long as that has
/// healthy ones.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneAwareSetting {
    /// What comes before and after the client's region: `enabled`, `failover` and `failoverPriority`.
    pub tiers: Arc<LocalitySetting>,
    /// With fewer healthy endpoints than this in the first tier zones do not count. Default 6.
    pub min_cluster_size: u32,
}

impl Default for ZoneAwareSetting {
    fn default() -> Self {
        Self { tiers: Arc::default(), min_cluster_size: 6 }
    }
}

/// "failoverPriority must not include": what zone awareness sees to itself.
const TAKEN: [&str; 3] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

impl ZoneAwareSpec {
    /// The setting, and what is wrong with it: `refuse` gets a path below the block and a message.
    ///
    /// istio networking/v1alpha3 ZoneAwareLoadBalancerSetting.failoverPriority: "Because region-, zone-, and subzone-level
    /// routing are all handled automatically, failoverPriority must not include" their labels.
    pub fn read(&self, refuse: &mut dyn FnMut(String, String)) -> ZoneAwareSetting {
        let tiers = tiers(self.enabled, &self.failover, &self.failover_priority, refuse);
        for (index, label) in tiers.failover_priority.iter().enumerate() {
            if TAKEN.contains(&&*label.key) {
                let message = format!("must not include {}: zone awareness sees to it", label.key);
                refuse(format!(".failoverPriority[{index}]"), message);
            }
        }
        let min_cluster_size = self.min_cluster_size.map(u32::try_from);
        if let Some(Err(_)) = min_cluster_size {
            refuse(".minClusterSize".into(), format!("must be in range 0..{}", u32::MAX));
        }
        let default = ZoneAwareSetting::default().min_cluster_size;
        let min_cluster_size = min_cluster_size.and_then(Result::ok).unwrap_or(default);
        ZoneAwareSetting { tiers: Arc::new(tiers), min_cluster_size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (ZoneAwareSetting, Vec<String>) {
        let spec: ZoneAwareSpec = serde_json::from_str(json).unwrap();
        let mut wrong = Vec::new();
        let setting = spec.read(&mut |path, message| wrong.push(format!("{path}: {message}")));
        (setting, wrong)
    }

    #[test]
    fn reads_every_field() {
        let (setting, wrong) = read(
            r#"{"enabled": true, "failover": [{"from": "a", "to": "b"}], "failoverPriority": ["x"], "minClusterSize": 2}"#,
        );
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!((setting.min_cluster_size, setting.tiers.failover.len()), (2, 1));
        assert_eq!(&*setting.tiers.failover_priority[0].key, "x");
        assert!(!read(r#"{"enabled": false}"#).0.tiers.is_enabled());
        // envoy ZoneAwareLbConfig.min_cluster_size: "If not specified, the default is 6."
        assert_eq!(read("{}").0, ZoneAwareSetting::default());
    }

    #[test]
    fn says_what_is_wrong() {
        for (json, expected) in [
            (
                r#"{"failover": [{"from": "a", "to": "a"}]}"#,
                ".failover[0]: locality lb failover settings must specify different regions",
            ),
            (
                r#"{"failoverPriority": ["a", "topology.kubernetes.io/zone=b"]}"#,
                ".failoverPriority[1]: must not include topology.kubernetes.io/zone: zone awareness sees to it",
            ),
            (r#"{"minClusterSize": -1}"#, ".minClusterSize: must be in range 0..4294967295"),
        ] {
            assert_eq!(read(json).1, [expected], "{json}");
        }
    }
}
