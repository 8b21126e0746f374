//! Names that one trust domain has in policies.

use mesh_core::identity::TrustDomain;

use crate::policy::StringPattern;

/// The mesh's trust domain and its former names (MeshConfig `trustDomain`, `trustDomainAliases`).
///
/// Aliases rewrite policies, at authorization time, and nothing else: which trust bundle vouches for a peer is
/// never a matter of aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomains {
    all: Vec<TrustDomain>,
}

impl Default for TrustDomains {
    /// Istio's: `cluster.local`, no aliases.
    fn default() -> Self {
        Self::new(TrustDomain::cluster_local())
    }
}

impl TrustDomains {
    /// A trust domain without aliases.
    #[must_use]
    pub fn new(local: TrustDomain) -> Self {
        Self { all: vec![local] }
    }

    /// With these aliases too.
    #[must_use]
    pub fn with_aliases(mut self, aliases: impl IntoIterator<Item = TrustDomain>) -> Self {
        for alias in aliases {
            if !self.all.contains(&alias) {
                self.all.push(alias);
            }
        }
        self
    }

    /// A principal of a policy, once for every name of the trust domain it is about; at least one.
    ///
    /// istio pilot/pkg/security/trustdomain/bundle.go ReplaceTrustDomainAliases: a principal of five parts whose
    /// first is not `*` is about a trust domain. When that is one of the mesh's, or `cluster.local`, which always
    /// means the mesh's own, the policy holds for all of the mesh's. `*-td` is kept where it fits by itself.
    pub(crate) fn expand(&self, principal: &StringPattern) -> Vec<StringPattern> {
        let text = principal.to_string();
        let Some((written, path)) =
            text.split_once('/').filter(|(domain, path)| *domain != "*" && path.split('/').count() == 4)
        else {
            return vec![principal.clone()];
        };
        let fits = |domain: &TrustDomain| match written.strip_prefix('*') {
            Some(suffix) => domain.as_str().ends_with(suffix),
            None => domain.as_str() == written,
        };
        if written != TrustDomain::cluster_local().as_str() && !self.all.iter().any(fits) {
            return vec![principal.clone()];
        }
        let mut expanded: Vec<StringPattern> = Vec::with_capacity(self.all.len());
        for domain in &self.all {
            let kept = written.starts_with('*') && fits(domain);
            let pattern = if kept { principal.clone() } else { StringPattern::parse(&format!("{domain}/{path}")) };
            if !expanded.contains(&pattern) {
                expanded.push(pattern);
            }
        }
        expanded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_expand_as_in_istio() {
        // istio trustdomain/bundle.go, and reference security 1.3: "expansion only when principal has exactly 5 `/`
        // parts and first != `*`; `*-td` suffix kept as is".
        for (domains, principal, expanded) in [
            (&["td1"][..], "td1/ns/a/sa/b", &["td1/ns/a/sa/b"][..]),
            (&["td1", "td0"], "td1/ns/a/sa/b", &["td1/ns/a/sa/b", "td0/ns/a/sa/b"]),
            (&["td1", "td0"], "td0/ns/a/sa/b", &["td1/ns/a/sa/b", "td0/ns/a/sa/b"]),
            (&["td1"], "cluster.local/ns/a/sa/b", &["td1/ns/a/sa/b"]),
            (&["td1", "td0"], "td1/ns/a/sa/*", &["td1/ns/a/sa/*", "td0/ns/a/sa/*"]),
            (&["td1", "td0"], "other/ns/a/sa/b", &["other/ns/a/sa/b"]),
            (&["td1", "td0"], "*/ns/a/sa/b", &["*/ns/a/sa/b"]),
            (&["td1", "td0"], "*", &["*"]),
            (&["td1", "td0"], "td1/*", &["td1/*"]),
            (&["td1", "td0"], "*/sa/b", &["*/sa/b"]),
            (&["my-td", "td0"], "*-td/ns/a/sa/b", &["*-td/ns/a/sa/b", "td0/ns/a/sa/b"]),
            (&["my-td", "a-td"], "*-td/ns/a/sa/b", &["*-td/ns/a/sa/b"]),
        ] {
            let mut domains = domains.iter().map(|domain| domain.parse().unwrap());
            let domains = TrustDomains::new(domains.next().unwrap()).with_aliases(domains);
            let found: Vec<_> =
                domains.expand(&StringPattern::parse(principal)).iter().map(ToString::to_string).collect();
            assert_eq!(found, expanded, "{principal}");
        }
    }
}
