//! Paths of a rule: text, or a template with `{*}` and `{**}`.

use std::sync::Arc;

use super::StringPattern;

/// A value of `paths`.
#[derive(Clone, Debug)]
pub(crate) enum PathPattern {
    Text(StringPattern),
    Template(PathTemplate),
}

/// `/foo/{*}/bar/{**}`: `{*}` is one segment with at least one character, `{**}` any characters, slashes too.
#[derive(Clone, Debug)]
pub(crate) struct PathTemplate {
    /// Segments up to `{**}`, or all.
    head: Arc<[Segment]>,
    /// What follows `{**}`, where there is one: text only, since it is the last operator.
    tail: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
enum Segment {
    One,
    Literal(Box<str>),
}

/// Why a path is none, in Istio's words after "invalid or unsupported path %s, found in %s".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPathPattern {
    #[error("{{**}} is not the last operator")]
    NotLast,
    #[error("Contains '{{' or '}}' beyond a supported path template")]
    Braces,
    #[error(
        "A path template starts with '/' and has no other character than those of a path segment (RFC 3986 pchar), and no '*'"
    )]
    Literal,
}

impl PathPattern {
    /// istio pkg/config/security CheckValidPathTemplate.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPathPattern> {
        let mut rest_seen = false;
        for segment in text.split('/') {
            match segment {
                "{*}" | "{**}" if rest_seen => return Err(InvalidPathPattern::NotLast),
                "{*}" => {}
                "{**}" => rest_seen = true,
                _ if segment.contains(['{', '}']) => return Err(InvalidPathPattern::Braces),
                _ => {}
            }
        }
        if !text.contains('{') {
            return Ok(Self::Text(StringPattern::parse(text)));
        }
        Ok(Self::Template(PathTemplate::parse(text.strip_prefix('/').ok_or(InvalidPathPattern::Literal)?)?))
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(pattern) => pattern.matches(path),
            Self::Template(template) => template.matches(path),
        }
    }
}

impl PathTemplate {
    fn parse(relative: &str) -> Result<Self, InvalidPathPattern> {
        let literal_ok = |segment: &str| !segment.is_empty() && segment.bytes().all(is_pchar);
        // One trailing slash may end a template; an empty segment elsewhere is no literal for Envoy.
        let body = relative.strip_suffix('/').unwrap_or(relative);
        if !body.split('/').all(|segment| matches!(segment, "{*}" | "{**}") || literal_ok(segment)) {
            return Err(InvalidPathPattern::Literal);
        }
        let (head, tail) = match relative.split_once("{**}") {
            Some((head, tail)) => (head.strip_suffix('/'), Some(tail.into())),
            None => (Some(relative), None),
        };
        let segment = |text: &str| if text == "{*}" { Segment::One } else { Segment::Literal(text.into()) };
        Ok(Self { head: head.map(|head| head.split('/').map(segment).collect()).unwrap_or_default(), tail })
    }

    /// measured on Envoy 1.40 (t4): `/t/{*}/x/{**}` matches `/t/1/x/`, `/t/1/x/y`; not `/t/1/x`, `/t//x/y`.
    fn matches(&self, path: &str) -> bool {
        let mut rest = path;
        for expected in &*self.head {
            let Some(relative) = rest.strip_prefix('/') else { return false };
            let (segment, after) = relative.split_at(relative.find('/').unwrap_or(relative.len()));
            let same = match expected {
                Segment::One => !segment.is_empty(),
                Segment::Literal(literal) => **literal == *segment,
            };
            if !same {
                return false;
            }
            rest = after;
        }
        match &self.tail {
            Some(tail) => rest.strip_prefix('/').is_some_and(|rest| rest.ends_with(&**tail)),
            None => rest.is_empty(),
        }
    }
}

/// RFC 3986 `pchar` without `*`, which is Envoy's operator.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_as_envoy_does() {
        for (pattern, path, matches) in [
            // measured on Envoy 1.40 (t4).
            ("/t/{*}/x/{**}", "/t/1/x/y", true),
            ("/t/{*}/x/{**}", "/t/1/x/", true),
            ("/t/{*}/x/{**}", "/t/1/x", false),
            ("/t/{*}/x/{**}", "/t/1/2/x/y", false),
            ("/t/{*}/x/{**}", "/t//x/y", false),
            ("/t/{*}/x/{**}", "/t/1/x/y/z", true),
            // istio security/v1beta1 Operation.paths, and reference 2.1.
            ("/foo/{*}", "/foo/bar", true),
            ("/foo/{*}", "/foo/bar/baz", false),
            ("/foo/{*}", "/foo/", false),
            ("/foo/{**}/", "/foo/bar/", true),
            ("/foo/{**}/", "/foo/bar/baz/", true),
            ("/foo/{**}/", "/foo//", true),
            ("/foo/{**}/", "/foo/bar", false),
            ("/foo/{*}/bar/{**}", "/foo/buzz/bar/", true),
            ("/foo/{*}/bar/{**}", "/foo/buzz/bar/baz", true),
            ("/foo/{*}/bar/{**}", "/foo//bar/x", false),
            ("/allow/admin/{**}", "/allow/admin/", true),
            ("/allow/admin/{**}", "/allow/admin", false),
            ("/foo/{**}/bar", "/foo/a/b/bar", true),
            ("/foo/{**}/bar", "/foo//bar", true),
            ("/foo/{**}/bar", "/foo/bar", false),
            ("/{**}", "/", true),
            ("/{**}", "/a/b", true),
            ("/{*}/", "/a/", true),
            ("/{*}/", "/a", false),
            // t4: exact, prefix and suffix of url_path.
            ("/ok", "/ok", true),
            ("/ok", "/ok/", false),
            ("/ok", "/OK", false),
            ("/info*", "/infox", true),
            ("*.json", "/a.json", true),
        ] {
            assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), matches, "{pattern} {path}");
        }
    }

    #[test]
    fn refuses_what_istio_and_envoy_refuse() {
        for (pattern, why) in [
            ("/{**}/{*}", InvalidPathPattern::NotLast),
            ("/{**}/a/{**}", InvalidPathPattern::NotLast),
            ("/a{*}", InvalidPathPattern::Braces),
            ("/{*}a", InvalidPathPattern::Braces),
            ("/{id}", InvalidPathPattern::Braces),
            ("/a}", InvalidPathPattern::Braces),
            ("/{***}", InvalidPathPattern::Braces),
            ("/{*}/a*", InvalidPathPattern::Literal),
            ("/{*}/*", InvalidPathPattern::Literal),
            ("/a//{*}", InvalidPathPattern::Literal),
            ("/{*}/a b", InvalidPathPattern::Literal),
            ("{*}/a", InvalidPathPattern::Literal),
        ] {
            assert_eq!(PathPattern::parse(pattern).unwrap_err(), why, "{pattern}");
        }
    }
}
