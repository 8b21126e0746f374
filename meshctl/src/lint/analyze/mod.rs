//! Objects beside each other. One analyzer a file; [`ALL`] is the list.
//!
//! An analyzer has the name of Istio's where it looks for the same, so that Istio's table of cases finds it.

mod annotations;
mod authorization;
mod conditions;
mod deprecation;
mod destination_rule;
mod gateway_routes;
mod gateway_selector;
mod mesh_policy;
mod peer_authentication;
mod selectors;
mod service;
mod service_entry;
pub(super) mod sidecar;
pub(super) mod telemetry;
pub(super) mod virtual_service;

use super::{Code, codes, report::Findings, resources::Resources};

/// A look at all objects.
#[derive(Debug)]
pub(super) struct Analyzer {
    /// Istio's name for it, or ours (`mesh.…`).
    #[cfg_attr(not(test), allow(dead_code, reason = "the tests find analyzers by it"))]
    pub(super) name: &'static str,
    /// What it may find.
    #[cfg_attr(not(test), allow(dead_code, reason = "the tests hold analyzers to it"))]
    pub(super) finds: &'static [Code],
    pub(super) run: fn(&Resources<'_>, &mut Findings),
}

/// All of them. A new one goes here.
pub(super) const ALL: &[Analyzer] = &[
    Analyzer {
        name: "virtualservice.DestinationHostAnalyzer",
        finds: &[
            codes::REFERENCED_RESOURCE_NOT_FOUND,
            codes::VIRTUAL_SERVICE_DESTINATION_PORT_SELECTOR_REQUIRED,
            codes::INGRESS_ROUTE_RULES_NOT_AFFECTED,
        ],
        run: virtual_service::hosts::analyze,
    },
    Analyzer {
        name: "virtualservice.DestinationRuleAnalyzer",
        finds: &[codes::REFERENCED_RESOURCE_NOT_FOUND],
        run: virtual_service::subsets::analyze,
    },
    Analyzer {
        name: "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        finds: &[codes::CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS],
        run: virtual_service::conflicts::analyze,
    },
    Analyzer {
        name: "virtualservice.GatewayAnalyzer",
        finds: &[
            codes::REFERENCED_RESOURCE_NOT_FOUND,
            codes::VIRTUAL_SERVICE_HOST_NOT_FOUND_IN_GATEWAY,
            codes::REFERENCED_INTERNAL_GATEWAY,
        ],
        run: virtual_service::gateways::analyze,
    },
    Analyzer {
        name: "virtualservice.JWTClaimRouteAnalyzer",
        finds: &[codes::JWT_CLAIM_BASED_ROUTING_WITHOUT_REQUEST_AUTH_N],
        run: virtual_service::claims::analyze,
    },
    Analyzer {
        name: "mesh.WeightAnalyzer",
        finds: &[codes::WEIGHT_WITHOUT_EFFECT, codes::WEIGHTS_ARE_NO_PERCENTAGES],
        run: virtual_service::weights::analyze,
    },
    Analyzer {
        name: "mesh.DelegateAnalyzer",
        finds: &[codes::REFERENCED_RESOURCE_NOT_FOUND],
        run: virtual_service::delegates::analyze,
    },
    Analyzer {
        name: "mesh.GatewayRouteAnalyzer",
        finds: &[codes::REFERENCED_RESOURCE_NOT_FOUND, codes::REFERENCE_NOT_GRANTED],
        run: gateway_routes::analyze,
    },
    Analyzer {
        name: "mesh.PeerAuthenticationAnalyzer",
        finds: &[codes::POLICY_WITHOUT_EFFECT],
        run: peer_authentication::analyze,
    },
    Analyzer { name: "mesh.MeshPolicyAnalyzer", finds: &[codes::POLICY_WITHOUT_EFFECT], run: mesh_policy::analyze },
    Analyzer {
        name: "destinationrule.CaCertificateAnalyzer",
        finds: &[
            codes::NO_SERVER_CERTIFICATE_VERIFICATION_DESTINATION_LEVEL,
            codes::NO_SERVER_CERTIFICATE_VERIFICATION_PORT_LEVEL,
        ],
        run: destination_rule::certificates::analyze,
    },
    Analyzer {
        name: "destinationrule.PodNotSelectedAnalyzer",
        finds: &[codes::UNKNOWN_DESTINATION_RULE_HOST, codes::DESTINATION_RULE_SUBSET_NOT_SELECT_PODS],
        run: destination_rule::subsets::analyze,
    },
    Analyzer {
        name: "mesh.OutlierDetectionAnalyzer",
        finds: &[codes::OUTLIER_DETECTION_NEVER_EJECTS, codes::OUTLIER_DETECTION_MAY_NEVER_EJECT],
        run: destination_rule::outliers::analyze,
    },
    Analyzer {
        name: "service.PortNameAnalyzer",
        finds: &[codes::PORT_NAME_IS_NOT_UNDER_NAMING_CONVENTION, codes::EXTERNAL_NAME_SERVICE_TYPE_INVALID_PORT_NAME],
        run: service::analyze,
    },
    Analyzer {
        name: "serviceentry.ProtocolAddressesAnalyzer",
        finds: &[codes::SERVICE_ENTRY_ADDRESSES_REQUIRED],
        run: service_entry::addresses::analyze,
    },
    Analyzer {
        name: "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
        finds: &[codes::CONFLICTING_SERVICE_ENTRY_PROTOCOL],
        run: service_entry::protocols::analyze,
    },
    Analyzer {
        name: "sidecar.SelectorAnalyzer",
        finds: &[
            codes::REFERENCED_RESOURCE_NOT_FOUND,
            codes::CONFLICTING_SIDECAR_WORKLOAD_SELECTORS,
            codes::MULTIPLE_SIDECARS_WITHOUT_WORKLOAD_SELECTORS,
            codes::INEFFECTIVE_POLICY,
        ],
        run: sidecar::analyze,
    },
    Analyzer {
        name: "telemetry.SelectorAnalyzer",
        finds: &[codes::REFERENCED_RESOURCE_NOT_FOUND, codes::CONFLICTING_TELEMETRY_WORKLOAD_SELECTORS],
        run: telemetry::selectors,
    },
    Analyzer {
        name: "telemetry.DefaultSelectorAnalyzer",
        finds: &[codes::MULTIPLE_TELEMETRIES_WITHOUT_WORKLOAD_SELECTORS],
        run: telemetry::default_selectors,
    },
    Analyzer {
        name: "telemetry.ProviderAnalyzer",
        finds: &[codes::INVALID_TELEMETRY_PROVIDER],
        run: telemetry::providers,
    },
    Analyzer { name: "telemetry.LightstepAnalyzer", finds: &[codes::DEPRECATED], run: telemetry::lightstep },
    Analyzer {
        name: "authz.AuthorizationPoliciesAnalyzer",
        finds: &[codes::NO_MATCHING_WORKLOADS_FOUND, codes::REFERENCED_RESOURCE_NOT_FOUND],
        run: authorization::analyze,
    },
    Analyzer {
        name: "k8sgateway.SelectorAnalyzer",
        finds: &[codes::INEFFECTIVE_SELECTOR],
        run: gateway_selector::analyze,
    },
    Analyzer {
        name: "conditions.ConditionAnalyzer",
        finds: &[codes::NEGATIVE_CONDITION_STATUS],
        run: conditions::analyze,
    },
    Analyzer { name: "deprecation.FieldAnalyzer", finds: &[codes::DEPRECATED], run: deprecation::analyze },
    Analyzer { name: "annotations.K8sAnalyzer", finds: &[codes::UNKNOWN_ANNOTATION], run: annotations::analyze },
];
