//! MeshConfig: what Istio keeps for the whole mesh, in a `mesh:` document with MeshConfig's own names.

use std::sync::Arc;

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    LocalitySetting, LocalitySpec, ZoneAwareSetting, ZoneAwareSpec,
    config::{Document, Field, Issues, Unenforced, fields},
    identity::TrustDomain,
    path::PathNormalization,
};

/// Settings of the whole mesh (istio mesh/v1alpha1 MeshConfig). Defaults are Istio's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MeshConfig {
    /// What happens to hosts that the registry does not know. Default ALLOW_ANY.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// The trust domain of SPIFFE IDs. Default `cluster.local`.
    pub trust_domain: TrustDomain,
    /// Names under which authorization policies know the same trust domain.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// The namespace whose policies hold for the whole mesh. Default `istio-system`.
    pub root_namespace: Arc<str>,
    /// How paths are normalised before anything matches them. Default BASE.
    pub path_normalization: PathNormalization,
    /// Does a client choose mutual TLS by itself where the endpoint has it? Default true.
    pub enable_auto_mtls: bool,
    /// How requests are spread over places where no DestinationRule and no service says so. Default: endpoints nearby
    /// first, where there is outlier detection.
    pub locality: Arc<LocalitySetting>,
    /// The same by zones, which counts before it where it stands: `zoneAwareLbSetting`.
    pub zone_aware: Option<Arc<ZoneAwareSetting>>,
    /// The document, for `defaultHttpRetryPolicy` which mesh-routing reads and `defaultTrafficPolicy` which mesh-lb reads.
    pub document: Option<Document>,
}

/// MeshConfig.outboundTrafficPolicy.mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficPolicy {
    /// Hosts outside the registry get 502.
    RegistryOnly,
    /// Hosts outside the registry are dialled as they are.
    #[default]
    AllowAny,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            trust_domain: TrustDomain::cluster_local(),
            trust_domain_aliases: Vec::new(),
            root_namespace: "istio-system".into(),
            path_normalization: PathNormalization::default(),
            enable_auto_mtls: true,
            locality: Arc::new(LocalitySetting::mesh_default()),
            zone_aware: None,
            document: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    outbound_traffic_policy: Option<Outbound>,
    trust_domain: Option<String>,
    trust_domain_aliases: Vec<String>,
    root_namespace: Option<String>,
    path_normalization: Option<Normalization>,
    default_http_retry_policy: Option<IgnoredAny>,
    enable_auto_mtls: Option<bool>,
    access_log_encoding: Unenforced,
    access_log_file: Unenforced,
    access_log_format: Unenforced,
    ca: Unenforced,
    ca_certificates: Unenforced,
    certificates: Unenforced,
    config_sources: Unenforced,
    connect_timeout: Unenforced,
    default_config: Unenforced,
    default_destination_rule_export_to: Unenforced,
    default_providers: Unenforced,
    default_service_export_to: Unenforced,
    default_traffic_policy: Option<IgnoredAny>,
    default_virtual_service_export_to: Unenforced,
    disable_envoy_listener_log: Unenforced,
    discovery_selectors: Unenforced,
    dns_refresh_rate: Unenforced,
    enable_envoy_access_log_service: Unenforced,
    enable_prometheus_merge: Unenforced,
    enable_tracing: Unenforced,
    extension_providers: Unenforced,
    h2_upgrade_policy: Unenforced,
    hbone: Unenforced,
    inbound_cluster_stat_name: Unenforced,
    inbound_traffic_policy: Unenforced,
    ingress_class: Unenforced,
    ingress_controller_mode: Unenforced,
    ingress_selector: Unenforced,
    ingress_service: Unenforced,
    locality_lb_setting: Option<LocalitySpec>,
    mesh_mtls: Unenforced,
    #[serde(rename = "meshMTLS")]
    mesh_mtls_upper: Unenforced,
    outbound_cluster_stat_name: Unenforced,
    protocol_detection_timeout: Unenforced,
    proxy_http_port: Unenforced,
    proxy_inbound_listen_port: Unenforced,
    proxy_listen_port: Unenforced,
    service_scope_configs: Unenforced,
    service_settings: Unenforced,
    tcp_keepalive: Unenforced,
    tls_defaults: Unenforced,
    verify_certificate_at_client: Unenforced,
    zone_aware_lb_setting: Option<ZoneAwareSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Outbound {
    mode: OutboundTrafficPolicy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Normalization {
    normalization: PathNormalization,
}

impl MeshConfig {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Spec>()
    }

    /// Read a `mesh:` document. Errors become issues and `None`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: Spec = document.decode(issues)?;
        let before = issues.errors().count();
        let defaults = Self::default();
        let mut domain = |path: String, name: &str| match name.parse::<TrustDomain>() {
            Ok(domain) => Some(domain),
            Err(error) => {
                issues.push(document.error(path, format!("invalid trust domain {name:?}: {error}")));
                None
            }
        };
        let trust_domain = spec.trust_domain.as_deref().and_then(|name| domain("trustDomain".into(), name));
        let aliases = spec.trust_domain_aliases.iter().enumerate();
        let trust_domain_aliases =
            aliases.filter_map(|(index, name)| domain(format!("trustDomainAliases[{index}]"), name)).collect();
        let locality = spec.locality_lb_setting.map(|spec| {
            let mut refuse = |path, message| issues.push(document.error(format!("localityLbSetting{path}"), message));
            Arc::new(spec.read(&mut refuse))
        });
        let zone_aware = spec.zone_aware_lb_setting.map(|spec| {
            let mut refuse = |path, message| issues.push(document.error(format!("zoneAwareLbSetting{path}"), message));
            Arc::new(spec.read(&mut refuse))
        });
        (issues.errors().count() == before).then(|| Self {
            outbound_traffic_policy: spec.outbound_traffic_policy.unwrap_or_default().mode,
            trust_domain: trust_domain.unwrap_or(defaults.trust_domain),
            trust_domain_aliases,
            root_namespace: spec.root_namespace.map_or(defaults.root_namespace, Into::into),
            path_normalization: spec.path_normalization.unwrap_or_default().normalization,
            enable_auto_mtls: spec.enable_auto_mtls.unwrap_or(true),
            locality: locality.unwrap_or(defaults.locality),
            zone_aware,
            document: Some(document.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_istios_names() {
        let yaml = "mesh:\n  outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n  trustDomain: td\n  rootNamespace: root\n  \
                    pathNormalization: {normalization: MERGE_SLASHES}\n  accessLogFile: /dev/stdout\n  \
                    localityLbSetting: {enabled: false}\n";
        let mut issues = Issues::default();
        let documents = Document::parse_all("mesh.yaml", yaml, &mut issues);
        let mesh = MeshConfig::from_document(&documents[0], &mut issues).unwrap();
        assert_eq!(mesh.outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly);
        assert_eq!(mesh.trust_domain.as_str(), "td");
        assert_eq!(mesh.path_normalization, PathNormalization::MergeSlashes);
        assert!(!mesh.locality.is_enabled() && MeshConfig::default().locality.is_enabled());
        assert_eq!(
            issues.to_string(),
            "mesh.yaml:6:18: warning: MeshConfig /mesh accessLogFile: read but not enforced in-process"
        );
    }

    #[test]
    fn a_locality_setting_that_is_wrong_says_where() {
        let yaml = "mesh:\n  localityLbSetting:\n    distribute: [{from: a, to: {a: 30}}]\n";
        let mut issues = Issues::default();
        let documents = Document::parse_all("mesh.yaml", yaml, &mut issues);
        assert!(MeshConfig::from_document(&documents[0], &mut issues).is_none());
        assert_eq!(
            issues.to_string(),
            "mesh.yaml:3:32: error: MeshConfig /mesh localityLbSetting.distribute[0].to: total locality weight 30 != 100"
        );
    }
}
