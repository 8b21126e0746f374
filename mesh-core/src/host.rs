//! Host names as Istio's config writes them: short names, wildcards and their precedence.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

/// Istio's default DNS domain of a cluster.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// A host in Istio config: an exact name, a `*.suffix` wildcard, or `*`.
///
/// Lower-cased when parsed, because hosts are compared without case (RFC 9110 4.2.3). Sorts by [how
/// specific](Self::specificity) it is, the most specific first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// A whole name or an IP address.
    Exact(Arc<str>),
    /// `*.foo.com`, kept as `.foo.com`: at least one character stands for the star.
    Suffix(Arc<str>),
    /// `*`.
    Any,
}

/// Why a string is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHost {
    /// No characters.
    #[error("a host must not be empty")]
    Empty,
    /// A label outside DNS (RFC 1123): letters, digits and dashes, at most 63 bytes.
    #[error("domain name {host:?} invalid (label {label:?} invalid): letters, digits and '-' only, at most 63")]
    Label {
        /// The host as written.
        host: String,
        /// The part that is not a label.
        label: String,
    },
    /// Digits where a top level domain stands: neither a name nor an address.
    #[error("domain name {host:?} invalid (top level domain {label:?} cannot be all-numeric)")]
    NumericTopLevel {
        /// The host as written.
        host: String,
        /// Its last label.
        label: String,
    },
    /// Longer than 255 bytes.
    #[error("domain name {0:?} is longer than 255 bytes")]
    TooLong(String),
    /// A star elsewhere than as the whole first label.
    #[error("partial wildcard {0:?} not allowed: '*' stands alone or as '*.' at the start")]
    PartialWildcard(String),
}

impl HostPattern {
    /// The host that a short name means: one without a dot is in the namespace of the object that names it.
    ///
    /// istio networking/v1alpha3 Destination: "Istio will interpret the short name based on the namespace of
    /// the rule, not the service." Names with a dot, `*` and IP addresses are taken as they are.
    ///
    /// # Errors
    /// When it is not a host.
    ///
    /// ```
    /// use mesh_core::HostPattern;
    /// let reviews = HostPattern::resolve("reviews", "default").unwrap();
    /// assert_eq!(reviews.to_string(), "reviews.default.svc.cluster.local");
    /// assert_eq!(HostPattern::resolve("a.b", "default").unwrap().to_string(), "a.b");
    /// ```
    pub fn resolve(host: &str, namespace: &str) -> Result<Self, InvalidHost> {
        let parsed = Self::parse_domain(host)?;
        Ok(match parsed {
            Self::Exact(name) if !name.contains(['.', ':']) => Self::Exact(service_host(&name, namespace)),
            other => other,
        })
    }

    /// A host that is a domain, a wildcard of one, or an address: `1.2.3` is neither.
    ///
    /// # Errors
    /// When it is not a host, or (istio validation validateDNS1123Labels) its top level domain is a number.
    pub fn parse_domain(host: &str) -> Result<Self, InvalidHost> {
        let parsed: Self = host.parse()?;
        let name = match &parsed {
            Self::Exact(name) if name.parse::<std::net::IpAddr>().is_err() => name,
            Self::Suffix(name) => name,
            _ => return Ok(parsed),
        };
        match name.rsplit('.').next().filter(|label| label.bytes().all(|b| b.is_ascii_digit())) {
            Some(label) => Err(InvalidHost::NumericTopLevel { host: host.to_owned(), label: label.to_owned() }),
            None => Ok(parsed),
        }
    }

    /// Does a concrete, lower-case host match?
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Any => true,
        }
    }

    /// Does it stand for every host that `other` stands for?
    ///
    /// istio host.Name.SubsetOf, seen from the wider of the two: `*.foo.com` is within `*.com` and `*`, not within
    /// `foo.com`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (pattern, Self::Exact(name)) => pattern.matches(name),
            (Self::Suffix(wide), Self::Suffix(narrow)) => narrow.ends_with(&**wide),
            (Self::Exact(_), Self::Suffix(_)) => false,
        }
    }

    /// The narrower of two patterns that have hosts in common; `None` of two that have none.
    ///
    /// istio host.Name.Matches, host.Names.Intersection: a host is in both patterns only where one covers the other.
    #[must_use]
    pub fn narrower<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if other.covers(self) { Some(self) } else { self.covers(other).then_some(other) }
    }

    /// The name, where there is no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<&Arc<str>> {
        match self {
            Self::Exact(name) => Some(name),
            Self::Suffix(_) | Self::Any => None,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Suffix(text) => text,
            Self::Any => "",
        }
    }

    /// Orders by how specific a pattern is: exact, then the longest wildcard (Envoy's virtual host match).
    #[must_use]
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Exact(name) => (2, name.len()),
            Self::Suffix(suffix) => (1, suffix.len()),
            Self::Any => (0, 0),
        }
    }
}

impl Ord for HostPattern {
    /// istio host.MoreSpecific: an exact host before a wildcard, a longer one before a shorter, then by the alphabet.
    fn cmp(&self, other: &Self) -> Ordering {
        other.specificity().cmp(&self.specificity()).then_with(|| self.text().cmp(other.text()))
    }
}

impl PartialOrd for HostPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The fully qualified host of a Kubernetes service: `<name>.<namespace>.svc.cluster.local`.
#[must_use]
pub fn service_host(name: &str, namespace: &str) -> Arc<str> {
    format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}").into()
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(host: &str) -> Result<Self, Self::Err> {
        if host.is_empty() {
            return Err(InvalidHost::Empty);
        }
        if host == "*" {
            return Ok(Self::Any);
        }
        if host.len() > 255 {
            return Err(InvalidHost::TooLong(host.to_owned()));
        }
        if host.parse::<std::net::IpAddr>().is_ok() {
            return Ok(Self::Exact(host.to_ascii_lowercase().into()));
        }
        let (name, wildcard) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host, false),
        };
        if name.contains('*') {
            return Err(InvalidHost::PartialWildcard(host.to_owned()));
        }
        for label in name.split('.') {
            if !is_dns_label(label) {
                return Err(InvalidHost::Label { host: host.to_owned(), label: label.to_owned() });
            }
        }
        let lower = name.to_ascii_lowercase();
        Ok(if wildcard { Self::Suffix(format!(".{lower}").into()) } else { Self::Exact(lower.into()) })
    }
}

/// RFC 1123 label, upper case and underscores accepted as Istio does for host names.
pub(crate) fn is_dns_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // istio.md 1.0: "host without a `.` -> `<host>.<rule's namespace>.svc.<domain>`"
    #[test]
    fn short_names_resolve_in_the_rules_namespace() {
        // istio model/config.go ResolveShortnameToFQDN: `*`, IPs and anything with a dot untouched.
        for (host, resolved) in [
            ("reviews", "reviews.ns1.svc.cluster.local"),
            ("Reviews", "reviews.ns1.svc.cluster.local"),
            ("reviews.default", "reviews.default"),
            ("*", "*"),
            ("*.foo.com", "*.foo.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "::1"),
        ] {
            assert_eq!(HostPattern::resolve(host, "ns1").unwrap().to_string(), resolved);
        }
    }

    #[test]
    fn a_star_needs_a_character() {
        // Envoy: `*.foo.com` does not match `foo.com` or `.foo.com`.
        let pattern: HostPattern = "*.foo.com".parse().unwrap();
        assert!(pattern.matches("a.foo.com"));
        assert!(pattern.matches("a.b.foo.com"));
        assert!(!pattern.matches("foo.com"));
        assert!(!pattern.matches(".foo.com"));
    }

    #[test]
    fn refuses_what_is_not_a_host() {
        for host in ["", "a b", "a..b", "-a", "*a.com", "a.*.com", "a/b"] {
            assert!(host.parse::<HostPattern>().is_err(), "{host:?}");
        }
        for (host, label) in [("1.2.3", "3"), ("a.256", "256"), ("*.0", "0")] {
            let refused = HostPattern::parse_domain(host).unwrap_err().to_string();
            let words = format!("domain name {host:?} invalid (top level domain {label:?} cannot be all-numeric)");
            assert_eq!(refused, words);
        }
        assert!(HostPattern::parse_domain("1.2.3.4").is_ok());
    }
}
