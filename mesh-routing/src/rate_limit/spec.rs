//! The section as YAML has it.

use std::sync::Arc;

use http::HeaderName;
use mesh_core::{
    HostPattern,
    config::{Document, DurationText, Issues, Value, parse_duration},
};
use serde::Deserialize;

use super::{
    KeyBy, RateLimit, RateLimits, TokenBucket,
    limit::{About, Definition},
};
use crate::virtual_service::{HttpMatch, Parser};

const FIELD: &str = RateLimits::FIELD;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Section {
    inbound: Vec<InboundSpec>,
    outbound: Vec<OutboundSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct InboundSpec {
    name: String,
    r#match: Vec<HttpMatch>,
    token_bucket: Option<TokenBucketSpec>,
    key: Option<InboundKeySpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OutboundSpec {
    name: String,
    hosts: Vec<String>,
    r#match: Vec<HttpMatch>,
    token_bucket: Option<TokenBucketSpec>,
    key: Option<OutboundKeySpec>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TokenBucketSpec {
    max_tokens: i64,
    /// envoy TokenBucket.tokens_per_fill: "If not specified, defaults to 1."
    tokens_per_fill: Option<i64>,
    fill_interval: Option<DurationText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct InboundKeySpec {
    header: Option<String>,
    principal: bool,
    path: bool,
    max_keys: Option<i64>,
}

/// The caller of outbound requests is always the same.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OutboundKeySpec {
    header: Option<String>,
    path: bool,
    max_keys: Option<i64>,
}

/// A limit of either direction, as it stands in a document.
#[derive(Debug, PartialEq)]
pub(super) struct RuleSpec {
    name: String,
    hosts: Vec<String>,
    r#match: Vec<HttpMatch>,
    token_bucket: Option<TokenBucketSpec>,
    key: Option<KeySpec>,
}

#[derive(Debug, PartialEq)]
struct KeySpec {
    header: Option<String>,
    principal: bool,
    path: bool,
    max_keys: Option<i64>,
}

impl From<InboundSpec> for RuleSpec {
    fn from(spec: InboundSpec) -> Self {
        let InboundSpec { name, r#match, token_bucket, key } = spec;
        let key = key.map(|InboundKeySpec { header, principal, path, max_keys }| KeySpec {
            header,
            principal,
            path,
            max_keys,
        });
        Self { name, hosts: Vec::new(), r#match, token_bucket, key }
    }
}

impl From<OutboundSpec> for RuleSpec {
    fn from(spec: OutboundSpec) -> Self {
        let OutboundSpec { name, hosts, r#match, token_bucket, key } = spec;
        let key =
            key.map(|OutboundKeySpec { header, path, max_keys }| KeySpec { header, principal: false, path, max_keys });
        Self { name, hosts, r#match, token_bucket, key }
    }
}

pub(super) fn read(document: &Document, issues: &mut Issues) -> Option<RateLimits> {
    if document.spec().and_then(|spec| spec.get(FIELD)).is_none_or(|node| node.value == Value::Null) {
        return Some(RateLimits::default());
    }
    let section: Section = document.decode_field(FIELD, issues)?;
    let mut parser = Parser { document, issues, failed: false };
    let mut limits = RateLimits::default();
    for (index, spec) in section.inbound.into_iter().enumerate() {
        if let Some(limit) = parser.limit(&format!("{FIELD}.inbound[{index}]"), true, spec.into()) {
            limits = limits.with_inbound(limit);
        }
    }
    for (index, spec) in section.outbound.into_iter().enumerate() {
        if let Some(limit) = parser.limit(&format!("{FIELD}.outbound[{index}]"), false, spec.into()) {
            limits = limits.with_outbound(limit);
        }
    }
    (!parser.failed).then_some(limits)
}

impl Parser<'_> {
    fn limit(&mut self, path: &str, inbound: bool, spec: RuleSpec) -> Option<RateLimit> {
        let hosts = spec.hosts.iter().enumerate().filter_map(|(index, host)| {
            let pattern = HostPattern::resolve(host, self.document.namespace());
            pattern.map_err(|error| self.error(format!("{path}.hosts[{index}]"), error)).ok()
        });
        let hosts = hosts.collect();
        let matches = spec.r#match.iter().enumerate();
        let matches = matches.map(|(index, entry)| self.limited(path, index, entry)).collect();
        let key = spec.key.as_ref().and_then(|key| self.key(&format!("{path}.key"), key));
        let bucket = self.bucket(&format!("{path}.tokenBucket"), spec.token_bucket.as_ref())?;
        let name = (!spec.name.is_empty()).then(|| spec.name.as_str().into());
        let definition = Definition { object: self.document.object().clone(), inbound, spec };
        Some(RateLimit::about(About { name, definition: Some(definition), matches, hosts, key }, bucket))
    }

    fn limited(&mut self, path: &str, index: usize, spec: &HttpMatch) -> Arc<crate::matcher::RouteMatch> {
        let path = &*format!("{path}.match[{index}]");
        for (field, given) in spec.about_the_client() {
            if given {
                let message = "has no place in a limit: the policy's selector says which workloads it is about";
                self.error(format!("{path}.{field}"), message);
            }
        }
        Arc::new(self.entry(path, index, spec))
    }

    fn key(&mut self, path: &str, spec: &KeySpec) -> Option<KeyBy> {
        if spec.header.is_none() && !spec.principal && !spec.path {
            self.error(path, "at least one part of a key must be set");
            return None;
        }
        let mut key = KeyBy::NOTHING;
        if let Some(header) = &spec.header {
            match header.parse::<HeaderName>() {
                Ok(name) => key = key.and_header(name),
                Err(_) => {
                    self.error(format!("{path}.header"), format!("header name {header} is not a valid header name"))
                }
            }
        }
        if spec.principal {
            key = key.and_principal();
        }
        if spec.path {
            key = key.and_path();
        }
        if let Some(max_keys) = spec.max_keys {
            let allowed = u32::try_from(max_keys).ok().filter(|keys| (1..=KeyBy::LIMIT_OF_MAX_KEYS).contains(keys));
            match allowed {
                Some(max_keys) => key = key.with_max_keys(max_keys),
                None => {
                    let message = format!("maxKeys must be in the range 1..{}", KeyBy::LIMIT_OF_MAX_KEYS);
                    self.error(format!("{path}.maxKeys"), message);
                }
            }
        }
        Some(key)
    }

    fn bucket(&mut self, path: &str, spec: Option<&TokenBucketSpec>) -> Option<TokenBucket> {
        let Some(spec) = spec else {
            self.error(path, "a limit needs a tokenBucket");
            return None;
        };
        let Some(interval) = &spec.fill_interval else {
            self.error(path, "a tokenBucket needs a fillInterval");
            return None;
        };
        let interval = match parse_duration(interval) {
            Ok(interval) => interval,
            Err(error) => {
                self.error(format!("{path}.fillInterval"), error);
                return None;
            }
        };
        // What does not fit is no number of tokens either.
        let tokens = |number: i64| u32::try_from(number).unwrap_or(0);
        let bucket = TokenBucket::new(tokens(spec.max_tokens), tokens(spec.tokens_per_fill.unwrap_or(1)), interval);
        bucket.map_err(|error| self.error(format!("{path}.{}", error.field()), error)).ok()
    }
}
