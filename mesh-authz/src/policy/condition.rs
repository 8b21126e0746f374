//! `when`: conditions on attributes of the request and of its connection.
//!
//! istio security/v1beta1 Condition: "Condition specifies additional required attributes." All conditions of a rule must
//! hold.

use std::sync::Arc;

use http::HeaderName;
use mesh_core::identity::SpiffeId;
use serde_json::Value;

use super::{
    cidr::IpBlock,
    pattern::{Glob, StringPattern},
    rule::{Field, ServiceAccount, principal},
    subject::SubjectPattern,
};
use crate::RequestView;

/// One element of `when`.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    Header(HeaderCondition),
    SourceIp(Field<IpBlock>),
    RemoteIp(Field<IpBlock>),
    SourceNamespace(Field<Glob>),
    SourcePrincipal(Field<StringPattern>),
    SourceServiceAccount(Field<ServiceAccount>),
    SourceTrustDomain(Field<Glob>),
    RequestPrincipal(Field<SubjectPattern>),
    /// `aud`, `azp` and the claims by path.
    Claim(Box<[Arc<str>]>, Field<StringPattern>),
    DestinationIp(Field<IpBlock>),
    DestinationPort(Field<u16>),
    Sni(Field<StringPattern>),
}

/// `request.headers[name]`.
#[derive(Clone, Debug)]
pub(super) struct HeaderCondition {
    pub(super) name: HeaderName,
    pub(super) field: Field<StringPattern>,
    /// Of a header that comes several times, must all values do, or is one enough?
    ///
    /// reference security 2.1 (CVE-2026-26308 and its like): a list of values must not say one thing to the policy and
    /// another to the application. Where a match lets the request in all of them count, elsewhere any one does. Envoy
    /// compares the values joined by commas.
    pub(super) all: bool,
}

impl Condition {
    pub(super) fn matches(&self, request: &RequestView<'_>) -> bool {
        let peer = request.peer;
        let claim = |path: &[Arc<str>]| request.principal?.claim(path.iter().map(|name| &**name));
        match self {
            Self::Header(header) => header.matches(request),
            Self::SourceIp(field) => {
                field.matches(|block| request.connection.is_some_and(|connection| block.contains(connection.peer.ip())))
            }
            Self::RemoteIp(field) => {
                let remote = request.remote_ip();
                field.matches(|block| remote.is_some_and(|address| block.contains(address)))
            }
            Self::SourceNamespace(field) => {
                let namespace = peer.and_then(SpiffeId::namespace);
                field.matches(|glob| namespace.is_some_and(|namespace| glob.matches(namespace)))
            }
            Self::SourcePrincipal(field) => {
                let principal = principal(peer);
                field.matches(|pattern| principal.is_some_and(|principal| pattern.matches(principal)))
            }
            Self::SourceServiceAccount(field) => field.matches(|account| account.is(peer)),
            Self::SourceTrustDomain(field) => {
                field.matches(|glob| peer.is_some_and(|id| glob.matches(id.trust_domain().as_str())))
            }
            Self::RequestPrincipal(field) => {
                field.matches(|pattern| request.principal.is_some_and(|principal| pattern.matches(principal)))
            }
            Self::Claim(path, field) => {
                let claim = claim(path);
                field.matches(|pattern| claim.is_some_and(|claim| has(claim, pattern)))
            }
            Self::DestinationIp(field) => field
                .matches(|block| request.connection.is_some_and(|connection| block.contains(connection.local.ip()))),
            Self::DestinationPort(field) => {
                field.matches(|port| request.connection.is_some_and(|connection| connection.local.port() == *port))
            }
            Self::Sni(field) => field.matches(|pattern| request.sni.is_some_and(|sni| pattern.matches(sni))),
        }
    }

    /// Can it not be decided without the connection's addresses?
    pub(super) fn needs_connection(&self) -> bool {
        matches!(self, Self::SourceIp(_) | Self::RemoteIp(_) | Self::DestinationIp(_) | Self::DestinationPort(_))
    }
}

impl HeaderCondition {
    fn matches(&self, request: &RequestView<'_>) -> bool {
        if let (Some(host), true) = (request.host, self.name == http::header::HOST) {
            // envoy HeaderMap: `host` is the authority, which HTTP/2 sends without such a header.
            return self.field.matches(|pattern| pattern.matches_header(host.as_bytes()));
        }
        let values = || request.headers.into_iter().flat_map(|headers| headers.get_all(&self.name));
        let holds = |value: &http::HeaderValue| self.field.matches(|pattern| pattern.matches_header(value.as_bytes()));
        match (values().next().is_none(), self.all) {
            // reference 1.8, "missing attribute": positive match false, `notValues` true.
            (true, _) => self.field.matches(|_| false),
            (false, true) => values().all(holds),
            (false, false) => values().any(holds),
        }
    }
}

/// istio authz/model/util.go MetadataListValueMatcherForJWTClaims: a claim is a string, or a list that has one.
fn has(claim: &Value, pattern: &StringPattern) -> bool {
    match claim {
        Value::String(text) => pattern.matches(text),
        Value::Array(list) => list.iter().filter_map(Value::as_str).any(|text| pattern.matches(text)),
        _ => false,
    }
}
