//! VirtualService as YAML has it (istio networking/v1alpha3). Fields of type [`Unenforced`] are read and reported.
#![allow(dead_code, reason = "fields that are not enforced are reported by the decoder")]

use std::collections::BTreeMap;

use mesh_core::{
    Labels,
    config::{DurationText, Unenforced},
};
use serde::Deserialize;

use crate::{
    answer::{DirectResponseSpec, RedirectSpec},
    cors::CorsSpec,
    fault::FaultSpec,
    header_ops::HeadersSpec,
    mirror::MirrorSpec,
    percent::PercentSpec,
    retry::RetrySpec,
    rewrite::RewriteSpec,
    string_match::StringMatchSpec,
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Spec {
    pub(super) hosts: Vec<String>,
    pub(super) gateways: Vec<String>,
    pub(super) http: Vec<HttpRoute>,
    pub(super) tls: Unenforced,
    pub(super) tcp: Unenforced,
    pub(super) export_to: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct HttpRoute {
    pub(super) name: String,
    pub(super) r#match: Vec<HttpMatch>,
    pub(super) route: Vec<HttpDestination>,
    pub(super) redirect: Option<RedirectSpec>,
    pub(super) direct_response: Option<DirectResponseSpec>,
    pub(super) delegate: Option<DelegateSpec>,
    pub(super) rewrite: Option<RewriteSpec>,
    pub(super) timeout: Option<DurationText>,
    pub(super) retries: Option<RetrySpec>,
    pub(super) fault: Option<FaultSpec>,
    pub(super) mirror: Option<DestinationSpec>,
    pub(super) mirrors: Option<Vec<MirrorSpec>>,
    #[serde(alias = "mirror_percent")]
    pub(super) mirror_percent: Option<i64>,
    pub(super) mirror_percentage: Option<PercentSpec>,
    pub(super) cors_policy: Option<CorsSpec>,
    pub(super) headers: Option<HeadersSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DelegateSpec {
    pub(super) name: String,
    pub(super) namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct HttpMatch {
    pub(super) name: String,
    pub(super) uri: Option<StringMatchSpec>,
    pub(super) scheme: Option<StringMatchSpec>,
    pub(super) method: Option<StringMatchSpec>,
    pub(super) authority: Option<StringMatchSpec>,
    pub(super) headers: BTreeMap<String, Option<StringMatchSpec>>,
    pub(super) port: Option<i64>,
    pub(super) source_labels: Labels,
    pub(super) gateways: Vec<String>,
    pub(super) query_params: BTreeMap<String, Option<StringMatchSpec>>,
    pub(super) ignore_uri_case: bool,
    pub(super) without_headers: BTreeMap<String, Option<StringMatchSpec>>,
    pub(super) source_namespace: String,
    pub(super) stat_prefix: Unenforced,
}

impl HttpMatch {
    /// The fields that ask which client it is, and whether they are given.
    pub(crate) fn about_the_client(&self) -> [(&'static str, bool); 3] {
        [
            ("gateways", !self.gateways.is_empty()),
            ("sourceLabels", !self.source_labels.is_empty()),
            ("sourceNamespace", !self.source_namespace.is_empty()),
        ]
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct HttpDestination {
    pub(super) destination: Option<DestinationSpec>,
    pub(super) weight: i64,
    pub(super) headers: HeadersSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct DestinationSpec {
    pub(super) host: String,
    pub(super) subset: String,
    pub(super) port: Option<PortSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct PortSelector {
    pub(super) number: i64,
}
