//! Istio's StringMatch: exact, prefix, or an RE2 that matches the whole value. On bytes, case-sensitive.

use std::sync::Arc;

use serde::Deserialize;

use crate::re2::{self, Pattern};

/// StringMatch as YAML has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct StringMatchSpec {
    pub(crate) exact: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) regex: Option<String>,
}

/// A compiled StringMatch.
#[derive(Clone, Debug)]
pub(crate) enum StringMatch {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    /// Whole segments of a path, without a slash at the end; nothing is every path.
    ///
    /// gateway API HTTPPathMatch PathPrefix: "Matching is case-sensitive and done on a path element by element basis";
    /// envoy path_separated_prefix.
    Segments(Arc<str>),
    Regex(Arc<Pattern>),
}

/// What the empty StringMatch means at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A URI: an empty prefix is allowed.
    Uri,
    /// Scheme, method or authority.
    Plain,
    /// A header or query parameter: `{}` and the regex `*` ask for its presence.
    Named,
}

impl StringMatchSpec {
    /// Is nothing asked for?
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The field that is set, for the place of an error: `.regex`; nothing where it is not one alone.
    pub(crate) fn field(&self) -> &'static str {
        match (&self.exact, &self.prefix, &self.regex) {
            (Some(_), None, None) => ".exact",
            (None, Some(_), None) => ".prefix",
            (None, None, Some(_)) => ".regex",
            _ => "",
        }
    }

    /// Compile; `Ok(None)` is presence. `place` is quoted in messages, as Istio's validation does.
    pub(crate) fn compile(&self, place: &str, kind: Kind) -> Result<Option<StringMatch>, String> {
        let given = [&self.exact, &self.prefix, &self.regex].into_iter().flatten().count();
        if given > 1 {
            return Err(format!("{place:?}: only one of exact, prefix and regex may be set"));
        }
        if let Some(exact) = &self.exact {
            return Ok(Some(StringMatch::Exact(exact.as_str().into())));
        }
        if let Some(prefix) = &self.prefix {
            if prefix.is_empty() && kind != Kind::Uri {
                return Err(format!("{place:?}: prefix string match should not be empty"));
            }
            return Ok(Some(StringMatch::Prefix(prefix.as_str().into())));
        }
        match self.regex.as_deref() {
            Some("") => Err(format!("{place:?}: regex string match should not be empty")),
            // istio route.go canBeConvertedToPresentMatch
            Some("*") if kind == Kind::Named => Ok(None),
            Some(regex) => match re2::compile(regex) {
                Ok(regex) => Ok(Some(StringMatch::Regex(regex.into()))),
                Err(why) if why.starts_with("regex is too large") => Err(format!("{place:?}: {why}")),
                Err(why) => Err(format!(
                    "{place:?}: {why}; Istio uses RE2 style regex-based match (https://github.com/google/re2/wiki/Syntax)"
                )),
            },
            None if kind == Kind::Named => Ok(None),
            None => Err(format!("{place:?}: one of exact, prefix and regex must be set")),
        }
    }
}

impl StringMatch {
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Segments(prefix) => {
                value.strip_prefix(prefix.as_bytes()).is_some_and(|rest| ends_segment(prefix, rest))
            }
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    /// istio ignoreUriCase: "The case will be ignored only in the case of `exact` and `prefix` URI matches."
    pub(crate) fn matches_ignoring_case(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes().eq_ignore_ascii_case(value),
            Self::Prefix(prefix) => {
                value.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
            }
            Self::Segments(prefix) => value
                .split_at_checked(prefix.len())
                .is_some_and(|(head, rest)| head.eq_ignore_ascii_case(prefix.as_bytes()) && ends_segment(prefix, rest)),
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    /// Does it match every path?
    pub(crate) fn is_any_path(&self) -> bool {
        match self {
            Self::Exact(_) => false,
            Self::Prefix(prefix) => matches!(&**prefix, "" | "/"),
            Self::Segments(prefix) => prefix.is_empty(),
            Self::Regex(regex) => regex.is_anything(),
        }
    }
}

/// Does a segment end where a path's prefix does?
fn ends_segment(prefix: &str, rest: &[u8]) -> bool {
    rest.first().map_or(!prefix.is_empty(), |next| *next == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_whole() {
        // gateway API HTTPPathMatch PathPrefix: "Matches based on a URL path prefix split by `/`"; "the path `/abcd` would
        // not match the prefix `/abc`".
        for (prefix, path, expected) in [
            ("/abc", "/abc", true),
            ("/abc", "/abc/", true),
            ("/abc", "/abc/def", true),
            ("/abc", "/abcd", false),
            ("/abc", "/ABC", false),
            ("/abc", "/ab", false),
            ("", "/", true),
            ("", "/x", true),
            ("", "", false),
        ] {
            assert_eq!(StringMatch::Segments(prefix.into()).matches(path.as_bytes()), expected, "{prefix} {path}");
        }
        assert!(StringMatch::Segments("/abc".into()).matches_ignoring_case(b"/ABC/d"));
        assert!(!StringMatch::Segments("/abc".into()).matches_ignoring_case(b"/ABCd"));
    }
}
