//! A rule: who (`from`) may or may not do what (`to`).
//!
//! istio security/v1beta1 Rule: "A match occurs when at least one source, one operation and all conditions matches
//! the request." Inside a source or an operation all fields must match; a field matches when any of its values
//! does; `notX` is the negation of that.

use std::{net::SocketAddr, sync::Arc};

use mesh_core::identity::SpiffeId;

use super::{
    cidr::IpBlock,
    pattern::{Glob, StringPattern},
    template::PathPattern,
};
use crate::{RequestView, TrustDomains};

/// One element of `rules`. No source: anybody; no operation: anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule {
    pub(super) from: Vec<Source>,
    pub(super) to: Vec<Operation>,
}

/// One `source`.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) principals: Field<StringPattern>,
    pub(super) namespaces: Field<Glob>,
    pub(super) service_accounts: Field<ServiceAccount>,
    pub(super) ip_blocks: Field<IpBlock>,
}

/// One `operation`.
#[derive(Clone, Debug, Default)]
pub(super) struct Operation {
    pub(super) hosts: Field<StringPattern>,
    pub(super) ports: Field<u16>,
    pub(super) methods: Field<StringPattern>,
    pub(super) paths: Field<PathPattern>,
}

/// A field and its negation: `principals` and `notPrincipals`.
#[derive(Clone, Debug)]
pub(super) struct Field<T> {
    pub(super) any_of: Vec<T>,
    pub(super) none_of: Vec<T>,
}

/// A service account, in any trust domain (reference 1.8: Istio's `serviceAccountRegex`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceAccount {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self { any_of: Vec::new(), none_of: Vec::new() }
    }
}

impl<T> Field<T> {
    /// An attribute that the request does not have is no value's match: `X` is false then and `notX` true, so a
    /// DENY on `notPrincipals` catches callers without identity (reference 1.8, "missing attribute").
    fn matches(&self, matches: impl Fn(&T) -> bool) -> bool {
        (self.any_of.is_empty() || self.any_of.iter().any(&matches)) && !self.none_of.iter().any(&matches)
    }

    fn is_empty(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }
}

impl Rule {
    pub(crate) fn matches(&self, request: &RequestView<'_>) -> bool {
        let anybody = self.from.is_empty();
        let anything = self.to.is_empty();
        (anybody || self.from.iter().any(|source| source.matches(request)))
            && (anything || self.to.iter().any(|operation| operation.matches(request)))
    }

    /// The same rule with the mesh's trust domains written out.
    pub(crate) fn in_mesh(&self, trust_domains: &TrustDomains) -> Self {
        let mut rule = self.clone();
        for source in &mut rule.from {
            for list in [&mut source.principals.any_of, &mut source.principals.none_of] {
                *list = list.iter().flat_map(|principal| trust_domains.expand(principal)).collect();
            }
        }
        rule
    }

    /// Can the rule not be decided without the connection's addresses?
    pub(crate) fn needs_connection(&self) -> bool {
        self.from.iter().any(|source| !source.ip_blocks.is_empty())
            || self.to.iter().any(|operation| !operation.ports.is_empty())
    }
}

impl Source {
    fn matches(&self, request: &RequestView<'_>) -> bool {
        let peer = request.peer;
        // Compared without `spiffe://`; `*` is any authenticated peer.
        let principal = peer.and_then(|id| id.as_str().strip_prefix("spiffe://"));
        // From the certificate, and only in the exact form `/ns/<namespace>/sa/<account>` (reference security 1.1):
        // Istio's regular expressions also find `/ns/` deeper in a path.
        let namespace = peer.and_then(SpiffeId::namespace);
        let account = namespace.zip(peer.and_then(SpiffeId::service_account));
        let address = request.connection.map(|connection| connection.peer);
        self.principals.matches(|pattern| principal.is_some_and(|id| pattern.matches(id)))
            && self.namespaces.matches(|glob| namespace.is_some_and(|name| glob.matches(name)))
            && self.service_accounts.matches(|wanted| {
                account.is_some_and(|(namespace, name)| *wanted.namespace == *namespace && *wanted.name == *name)
            })
            && self.ip_blocks.matches(|block| address.is_some_and(|address: SocketAddr| block.contains(address.ip())))
    }
}

impl Operation {
    fn matches(&self, request: &RequestView<'_>) -> bool {
        // Istio's `hosts` are compared with the authority as sent, port included (measured on Envoy 1.40, t4).
        self.hosts.matches(|pattern| request.host.is_some_and(|host| pattern.matches_ignoring_case(host)))
            && self.ports.matches(|port| request.connection.is_some_and(|connection| connection.local.port() == *port))
            && self.methods.matches(|pattern| pattern.matches(request.method))
            && self.paths.matches(|pattern| pattern.matches(request.path))
    }
}
