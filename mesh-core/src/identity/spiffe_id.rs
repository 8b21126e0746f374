//! SPIFFE IDs, parsed strictly.

use std::{fmt, str::FromStr, sync::Arc};

use super::TrustDomain;

/// A SPIFFE ID with a path: the name of a workload, `spiffe://cluster.local/ns/default/sa/reviews`.
///
/// ```
/// use mesh_core::identity::SpiffeId;
/// let id: SpiffeId = "spiffe://cluster.local/ns/default/sa/reviews".parse().unwrap();
/// assert_eq!(id.namespace(), Some("default"));
/// assert_eq!(id.service_account(), Some("reviews"));
/// assert!("spiffe://cluster.local/ns//sa/x".parse::<SpiffeId>().is_err());
/// ```
#[derive(Clone)]
pub struct SpiffeId {
    uri: Arc<str>,
    trust_domain: TrustDomain,
}

/// Why a string is not a SPIFFE ID (SPIFFE-ID section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSpiffeId {
    /// The scheme is not `spiffe://`, in lower case.
    #[error("a SPIFFE ID starts with spiffe://")]
    Scheme,
    /// Nothing between the scheme and the path.
    #[error("the trust domain is empty")]
    EmptyTrustDomain,
    /// SPIFFE-ID 2.1: `[a-z0-9._-]`, at most 255 bytes; no user, port or percent-encoding.
    #[error("a trust domain has only a-z, 0-9, '.', '-' and '_' and at most 255 of them")]
    TrustDomain,
    /// X509-SVID 3.1: a workload's ID has a path that is not the root.
    #[error("a workload's SPIFFE ID has a path")]
    NoPath,
    /// SPIFFE-ID 2.2: segments of `[A-Za-z0-9._-]`, none empty, `.` or `..`, no trailing slash.
    #[error("a path segment is empty, relative, or has a character outside A-Z, a-z, 0-9, '.', '-' and '_'")]
    Path,
    /// SPIFFE-ID 2.3: 2048 bytes have to be supported; longer ones are refused.
    #[error("a SPIFFE ID has at most 2048 bytes")]
    TooLong,
}

impl SpiffeId {
    /// The ID that Istio gives a Kubernetes workload: `spiffe://<trust domain>/ns/<namespace>/sa/<account>`.
    ///
    /// # Errors
    /// When the namespace or account is not a legal path segment.
    pub fn kubernetes(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, InvalidSpiffeId> {
        format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain whose bundle vouches for this ID.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path, with its leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.uri["spiffe://".len() + self.trust_domain.as_str().len()..]
    }

    /// The namespace, when the path is exactly `/ns/<namespace>/sa/<account>`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.kubernetes_parts().map(|(namespace, _)| namespace)
    }

    /// The service account, when the path is exactly `/ns/<namespace>/sa/<account>`.
    #[must_use]
    pub fn service_account(&self) -> Option<&str> {
        self.kubernetes_parts().map(|(_, account)| account)
    }

    fn kubernetes_parts(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.path().strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !account.contains('/')).then_some((namespace, account))
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        if uri.len() > 2048 {
            return Err(InvalidSpiffeId::TooLong);
        }
        let rest = uri.strip_prefix("spiffe://").ok_or(InvalidSpiffeId::Scheme)?;
        let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
        let trust_domain = domain.parse()?;
        let path = path.filter(|path| !path.is_empty()).ok_or(InvalidSpiffeId::NoPath)?;
        if !path.split('/').all(is_segment) {
            return Err(InvalidSpiffeId::Path);
        }
        Ok(Self { uri: Arc::from(uri), trust_domain })
    }
}

fn is_segment(segment: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(legal)
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.uri == other.uri
    }
}

impl Eq for SpiffeId {}

impl std::hash::Hash for SpiffeId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.uri.hash(state);
    }
}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.uri.cmp(&other.uri)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_standard_refuses() {
        let long = format!("spiffe://td/{}", "a".repeat(2048));
        for (uri, why) in [
            ("https://td/a", InvalidSpiffeId::Scheme),
            ("SPIFFE://td/a", InvalidSpiffeId::Scheme),
            ("spiffe:///a", InvalidSpiffeId::EmptyTrustDomain),
            ("spiffe://TD/a", InvalidSpiffeId::TrustDomain),
            ("spiffe://u@td/a", InvalidSpiffeId::TrustDomain),
            ("spiffe://td:1/a", InvalidSpiffeId::TrustDomain),
            ("spiffe://t%64/a", InvalidSpiffeId::TrustDomain),
            ("spiffe://td", InvalidSpiffeId::NoPath),
            ("spiffe://td/", InvalidSpiffeId::NoPath),
            ("spiffe://td/a/", InvalidSpiffeId::Path),
            ("spiffe://td//a", InvalidSpiffeId::Path),
            ("spiffe://td/a/../b", InvalidSpiffeId::Path),
            ("spiffe://td/a?x", InvalidSpiffeId::Path),
            ("spiffe://td/a#x", InvalidSpiffeId::Path),
            ("spiffe://td/a\0b", InvalidSpiffeId::Path),
            (long.as_str(), InvalidSpiffeId::TooLong),
        ] {
            assert_eq!(uri.parse::<SpiffeId>().unwrap_err(), why, "{uri}");
        }
    }

    #[test]
    fn only_the_exact_kubernetes_form_has_a_namespace() {
        let spire: SpiffeId = "spiffe://td/x/ns/default/sa/a".parse().unwrap();
        assert_eq!(spire.namespace(), None);
        let deeper: SpiffeId = "spiffe://td/ns/default/sa/a/b".parse().unwrap();
        assert_eq!(deeper.namespace(), None);
    }
}
