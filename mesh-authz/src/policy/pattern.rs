//! How Istio compares a value of a rule with an attribute of a request.

use std::{fmt, sync::Arc};

/// istio security/v1beta1: "Exact match: `abc` will match on value `abc`. Prefix match: `abc*` [...] Suffix match:
/// `*abc` [...] Presence match: `*` will match when value is not empty." A `*` elsewhere is a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StringPattern {
    Present,
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Suffix(Arc<str>),
}

impl StringPattern {
    /// istio pilot/pkg/security/authz/matcher/string.go: a leading star is looked at before a trailing one.
    pub(crate) fn parse(text: &str) -> Self {
        if text == "*" {
            Self::Present
        } else if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(suffix.into())
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(prefix.into())
        } else {
            Self::Exact(text.into())
        }
    }

    /// A value with a wildcard in front, or none.
    pub(super) fn parse_head(text: &str) -> Self {
        match text.strip_prefix('*') {
            Some("") => Self::Present,
            Some(suffix) => Self::Suffix(suffix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// A value with a wildcard at its end, or none.
    pub(super) fn parse_tail(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some("") => Self::Present,
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// The part that is compared; empty for `*`.
    pub(super) fn literal(&self) -> &str {
        match self {
            Self::Present => "",
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text,
        }
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Present => !value.is_empty(),
            Self::Exact(exact) => **exact == *value,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Suffix(suffix) => value.ends_with(&**suffix),
        }
    }

    /// A header's value, which need not be text. `*` is any value, an empty one too: Istio compiles it to `present_match`
    /// (reference 1.8).
    pub(crate) fn matches_header(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => value.ends_with(suffix.as_bytes()),
        }
    }

    /// Hosts are compared without case.
    pub(crate) fn matches_ignoring_case(&self, value: &str) -> bool {
        let (value, same) = (value.as_bytes(), <[u8]>::eq_ignore_ascii_case);
        match self {
            Self::Present => !value.is_empty(),
            Self::Exact(exact) => same(value, exact.as_bytes()),
            Self::Prefix(prefix) => value.get(..prefix.len()).is_some_and(|head| same(head, prefix.as_bytes())),
            Self::Suffix(suffix) => {
                let start = value.len().checked_sub(suffix.len());
                start.is_some_and(|start| same(&value[start..], suffix.as_bytes()))
            }
        }
    }
}

impl fmt::Display for StringPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("*"),
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
        }
    }
}

/// A namespace with any number of stars, each for any characters or none: istio authz/model/generator.go
/// srcNamespaceGenerator turns every `*` into `.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    /// What stands between the stars: one piece is a whole name.
    pieces: Arc<[Box<str>]>,
}

impl Glob {
    pub(super) fn parse(text: &str) -> Self {
        Self { pieces: text.split('*').map(Box::from).collect() }
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        let [first, middle @ .., last] = &*self.pieces else {
            return self.pieces.first().is_some_and(|whole| **whole == *value);
        };
        let Some(mut rest) = value.strip_prefix(&**first) else { return false };
        for piece in middle {
            let Some(at) = rest.find(&**piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_as_istio_does() {
        // Left: the API text of "Exact, Prefix, Suffix, Presence match"; `*` elsewhere: authz/matcher/string_test.go.
        for (pattern, value, matches) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc", "ABC", false),
            ("abc*", "abc", true),
            ("abc*", "abcd", true),
            ("abc*", "ab", false),
            ("*abc", "abc", true),
            ("*abc", "xabc", true),
            ("*abc", "bc", false),
            ("*", "x", true),
            ("*", "", false),
            ("a*c", "abc", false),
            ("a*c", "a*c", true),
            ("*abc*", "xabcx", false),
            ("*abc*", "xabc*", true),
            ("**", "x*", true),
            ("**", "x", false),
        ] {
            assert_eq!(StringPattern::parse(pattern).matches(value), matches, "{pattern} {value}");
            assert_eq!(StringPattern::parse(pattern).to_string(), pattern);
        }
    }

    #[test]
    fn hosts_ignore_case() {
        // measured on Envoy 1.40 (t4): `*.Example.com` matches api.example.COM, not example.com or ...com:80.
        for (pattern, value, matches) in [
            ("*.Example.com", "api.example.COM", true),
            ("*.Example.com", "example.com", false),
            ("*.Example.com", "api.example.com:80", false),
            ("example.com", "EXAMPLE.com", true),
            ("example.com*", "Example.com:80", true),
            ("*", "", false),
        ] {
            assert_eq!(StringPattern::parse(pattern).matches_ignoring_case(value), matches, "{pattern} {value}");
        }
    }

    #[test]
    fn a_namespace_may_have_several_stars() {
        for (pattern, value, matches) in [
            ("prod", "prod", true),
            ("prod", "prod-1", false),
            ("prod-*", "prod-1", true),
            ("*-test", "a-test", true),
            ("*", "anything", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("aa*aa", "aaa", false),
            ("p.d", "pod", false),
        ] {
            assert_eq!(Glob::parse(pattern).matches(value), matches, "{pattern} {value}");
        }
    }
}
