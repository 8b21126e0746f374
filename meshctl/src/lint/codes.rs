//! Every code that lint gives. Istio's names and levels are those of its `messages.yaml`; a test compares them.

use super::message::{Code, Level};

macro_rules! codes {
    ($($constant:ident = $id:literal $name:ident $level:ident;)+) => {
        $(
            #[doc = concat!($id, ", ", stringify!($name), ".")]
            pub const $constant: Code = Code::new($id, stringify!($name), Level::$level);
        )+

        /// All of them.
        pub const ALL: &[Code] = &[$($constant),+];
    };
}

codes! {
    DEPRECATED = "IST0002" Deprecated Warning;
    REFERENCED_RESOURCE_NOT_FOUND = "IST0101" ReferencedResourceNotFound Error;
    SCHEMA_VALIDATION_ERROR = "IST0106" SchemaValidationError Error;
    UNKNOWN_ANNOTATION = "IST0108" UnknownAnnotation Warning;
    CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS = "IST0109" ConflictingMeshGatewayVirtualServiceHosts Error;
    CONFLICTING_SIDECAR_WORKLOAD_SELECTORS = "IST0110" ConflictingSidecarWorkloadSelectors Error;
    MULTIPLE_SIDECARS_WITHOUT_WORKLOAD_SELECTORS = "IST0111" MultipleSidecarsWithoutWorkloadSelectors Error;
    VIRTUAL_SERVICE_DESTINATION_PORT_SELECTOR_REQUIRED = "IST0112" VirtualServiceDestinationPortSelectorRequired Error;
    PORT_NAME_IS_NOT_UNDER_NAMING_CONVENTION = "IST0118" PortNameIsNotUnderNamingConvention Info;
    NO_MATCHING_WORKLOADS_FOUND = "IST0127" NoMatchingWorkloadsFound Warning;
    NO_SERVER_CERTIFICATE_VERIFICATION_DESTINATION_LEVEL = "IST0128" NoServerCertificateVerificationDestinationLevel Warning;
    NO_SERVER_CERTIFICATE_VERIFICATION_PORT_LEVEL = "IST0129" NoServerCertificateVerificationPortLevel Warning;
    VIRTUAL_SERVICE_UNREACHABLE_RULE = "IST0130" VirtualServiceUnreachableRule Warning;
    VIRTUAL_SERVICE_INEFFECTIVE_MATCH = "IST0131" VirtualServiceIneffectiveMatch Info;
    VIRTUAL_SERVICE_HOST_NOT_FOUND_IN_GATEWAY = "IST0132" VirtualServiceHostNotFoundInGateway Warning;
    SCHEMA_WARNING = "IST0133" SchemaWarning Warning;
    SERVICE_ENTRY_ADDRESSES_REQUIRED = "IST0134" ServiceEntryAddressesRequired Warning;
    INGRESS_ROUTE_RULES_NOT_AFFECTED = "IST0140" IngressRouteRulesNotAffected Warning;
    JWT_CLAIM_BASED_ROUTING_WITHOUT_REQUEST_AUTH_N = "IST0149" JwtClaimBasedRoutingWithoutRequestAuthN Error;
    EXTERNAL_NAME_SERVICE_TYPE_INVALID_PORT_NAME = "IST0150" ExternalNameServiceTypeInvalidPortName Warning;
    INVALID_TELEMETRY_PROVIDER = "IST0157" InvalidTelemetryProvider Warning;
    CONFLICTING_TELEMETRY_WORKLOAD_SELECTORS = "IST0159" ConflictingTelemetryWorkloadSelectors Error;
    MULTIPLE_TELEMETRIES_WITHOUT_WORKLOAD_SELECTORS = "IST0160" MultipleTelemetriesWithoutWorkloadSelectors Error;
    REFERENCED_INTERNAL_GATEWAY = "IST0165" ReferencedInternalGateway Warning;
    INEFFECTIVE_SELECTOR = "IST0166" IneffectiveSelector Warning;
    INEFFECTIVE_POLICY = "IST0167" IneffectivePolicy Warning;
    NEGATIVE_CONDITION_STATUS = "IST0171" NegativeConditionStatus Warning;
    DESTINATION_RULE_SUBSET_NOT_SELECT_PODS = "IST0173" DestinationRuleSubsetNotSelectPods Error;
    UNKNOWN_DESTINATION_RULE_HOST = "IST0174" UnknownDestinationRuleHost Warning;
    CONFLICTING_SERVICE_ENTRY_PROTOCOL = "IST0177" ConflictingServiceEntryProtocol Warning;

    // Ours: what Istio has no code for.
    NOT_ENFORCED = "MESH0001" NotEnforced Warning;
    NOT_READABLE = "MESH0002" NotReadable Error;
    DEFINED_TWICE = "MESH0003" DefinedTwice Error;
    OUTLIER_DETECTION_NEVER_EJECTS = "MESH0004" OutlierDetectionNeverEjects Warning;
    OUTLIER_DETECTION_MAY_NEVER_EJECT = "MESH0005" OutlierDetectionMayNeverEject Info;
    WEIGHT_WITHOUT_EFFECT = "MESH0006" WeightWithoutEffect Warning;
    WEIGHTS_ARE_NO_PERCENTAGES = "MESH0007" WeightsAreNoPercentages Info;
    NOT_SUPPORTED = "MESH0008" NotSupported Error;
    POLICY_WITHOUT_EFFECT = "MESH0009" PolicyWithoutEffect Warning;
    REFERENCE_NOT_GRANTED = "MESH0010" ReferenceNotGranted Error;
}
