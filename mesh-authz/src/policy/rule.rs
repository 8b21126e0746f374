//! A rule: who (`from`) may or may not do what (`to`), and under which conditions (`when`).
//!
//! istio security/v1beta1 Rule: "A match occurs when at least one source, one operation and all conditions matches
//! the request." Inside a source or an operation all fields must match; a field matches when any of its values
//! does; `notX` is the negation of that.

use std::{net::SocketAddr, sync::Arc};

use mesh_core::identity::SpiffeId;

use super::{
    cidr::IpBlock,
    condition::Condition,
    pattern::{Glob, StringPattern},
    subject::SubjectPattern,
    template::PathPattern,
};
use crate::{RequestView, TrustDomains};

/// One element of `rules`. No source: anybody; no operation: anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule {
    pub(super) from: Vec<Source>,
    pub(super) to: Vec<Operation>,
    pub(super) when: Vec<Condition>,
}

/// One `source`.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) principals: Field<StringPattern>,
    pub(super) namespaces: Field<Glob>,
    pub(super) service_accounts: Field<ServiceAccount>,
    pub(super) trust_domains: Field<Glob>,
    pub(super) request_principals: Field<SubjectPattern>,
    pub(super) ip_blocks: Field<IpBlock>,
    pub(super) remote_ip_blocks: Field<IpBlock>,
}

/// One `operation`.
#[derive(Clone, Debug, Default)]
pub(super) struct Operation {
    pub(super) hosts: Field<HostValue>,
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

/// A value of `hosts`.
#[derive(Clone, Debug)]
pub(super) struct HostValue {
    pub(super) pattern: StringPattern,
    /// Does it match the host with its port taken away, too?
    ///
    /// Istio compares with the authority as sent (measured on Envoy 1.40, t4), so that `h:8080` gets past a DENY on `h`
    /// (bulletin 2021-008). Where a match keeps the request out, the port is no way in.
    pub(super) any_port: bool,
}

/// A service account, in any trust domain (reference 1.8: Istio's `serviceAccountRegex`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceAccount {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl ServiceAccount {
    pub(super) fn is(&self, peer: Option<&SpiffeId>) -> bool {
        let account = peer.and_then(SpiffeId::namespace).zip(peer.and_then(SpiffeId::service_account));
        account.is_some_and(|(namespace, name)| *self.namespace == *namespace && *self.name == *name)
    }
}

impl HostValue {
    fn matches(&self, host: &str) -> bool {
        if self.pattern.matches_ignoring_case(host) {
            return true;
        }
        let port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let alone = port.map_or(host, |(alone, _)| alone);
        // Nor is the dot of a name's root (RFC 1034 3.1).
        let rootless = alone.strip_suffix('.').unwrap_or(alone);
        self.any_port && [alone, rootless].into_iter().any(|host| self.pattern.matches_ignoring_case(host))
    }
}

/// As policies write it: compared without `spiffe://`; `*` is any authenticated peer.
pub(super) fn principal(peer: Option<&SpiffeId>) -> Option<&str> {
    peer.and_then(|id| id.as_str().strip_prefix("spiffe://"))
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self { any_of: Vec::new(), none_of: Vec::new() }
    }
}

impl<T> Field<T> {
    /// An attribute that the request does not have is no value's match: `X` is false then and `notX` true, so a
    /// DENY on `notPrincipals` catches callers without identity (reference 1.8, "missing attribute").
    pub(super) fn matches(&self, matches: impl Fn(&T) -> bool) -> bool {
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
            && self.when.iter().all(|condition| condition.matches(request))
    }

    /// The same rule with the mesh's trust domains written out.
    pub(crate) fn in_mesh(&self, trust_domains: &TrustDomains) -> Self {
        let mut rule = self.clone();
        let sources = rule.from.iter_mut().map(|source| &mut source.principals);
        let conditions = rule.when.iter_mut().filter_map(|condition| match condition {
            Condition::SourcePrincipal(field) => Some(field),
            _ => None,
        });
        for field in sources.chain(conditions) {
            for list in [&mut field.any_of, &mut field.none_of] {
                *list = list.iter().flat_map(|principal| trust_domains.expand(principal)).collect();
            }
        }
        rule
    }

    /// Can the rule not be decided without the connection's addresses?
    pub(crate) fn needs_connection(&self) -> bool {
        self.from.iter().any(|source| !source.ip_blocks.is_empty() || !source.remote_ip_blocks.is_empty())
            || self.when.iter().any(Condition::needs_connection)
            || self.to.iter().any(|operation| !operation.ports.is_empty())
    }
}

impl Source {
    fn matches(&self, request: &RequestView<'_>) -> bool {
        let peer = request.peer;
        let principal = principal(peer);
        // From the certificate, and only in the exact form `/ns/<namespace>/sa/<account>` (reference security 1.1):
        // Istio's regular expressions also find `/ns/` deeper in a path.
        let namespace = peer.and_then(SpiffeId::namespace);
        let address = request.connection.map(|connection| connection.peer);
        self.principals.matches(|pattern| principal.is_some_and(|id| pattern.matches(id)))
            && self.namespaces.matches(|glob| namespace.is_some_and(|name| glob.matches(name)))
            && self.service_accounts.matches(|account| account.is(peer))
            && self.trust_domains.matches(|glob| peer.is_some_and(|id| glob.matches(id.trust_domain().as_str())))
            && self.request_principals.matches(|pattern| request.principal.is_some_and(|user| pattern.matches(user)))
            && self.ip_blocks.matches(|block| address.is_some_and(|address: SocketAddr| block.contains(address.ip())))
            && (self.remote_ip_blocks.is_empty() || {
                let remote = request.remote_ip();
                self.remote_ip_blocks.matches(|block| remote.is_some_and(|address| block.contains(address)))
            })
    }
}

impl Operation {
    fn matches(&self, request: &RequestView<'_>) -> bool {
        self.hosts.matches(|value| request.host.is_some_and(|host| value.matches(host)))
            && self.ports.matches(|port| request.connection.is_some_and(|connection| connection.local.port() == *port))
            && self.methods.matches(|pattern| pattern.matches(request.method))
            && self.paths.matches(|pattern| pattern.matches(request.path))
    }
}
