//! `rewrite`: another path, another authority.
//!
//! istio networking/v1alpha3 HTTPRewrite.uri: "rewrite the path (or the prefix) portion of the URI with this value. If
//! the original URI was matched based on prefix, the value provided in this field will replace the corresponding
//! matched prefix." So what is replaced depends on the match, and is settled when the table is compiled.

use std::{borrow::Cow, sync::Arc};

use http::HeaderValue;
use regex::bytes::Regex;
use serde::Deserialize;

use crate::{re2, string_match::StringMatch};

/// `rewrite` as YAML has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RewriteSpec {
    uri: String,
    authority: String,
    uri_regex_rewrite: Option<RegexRewriteSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RegexRewriteSpec {
    r#match: String,
    rewrite: String,
}

/// A rule's `rewrite`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewrite {
    path: Option<NewPath>,
    pub(crate) authority: Option<HeaderValue>,
}

/// What becomes of the path, before it is known what was matched.
#[derive(Clone, Debug)]
enum NewPath {
    Uri(Arc<str>),
    /// All of it, whatever was matched.
    Full(Arc<str>),
    Regex(Arc<Substitution>),
}

/// gateway API HTTPPathModifier.
#[derive(Clone, Debug)]
pub(crate) enum PathModifier {
    ReplaceFullPath(Arc<str>),
    ReplacePrefixMatch(Arc<str>),
}

/// What becomes of the path of a request that one match let in.
#[derive(Clone, Debug)]
pub(crate) enum PathRewrite {
    /// The first bytes are replaced.
    Prefix { matched: usize, with: Arc<str> },
    /// The first segments are, by others: no slash ends them. measured on Envoy 1.40 (path_separated_prefix).
    Segments { matched: usize, with: Arc<str> },
    /// All of it is.
    Whole(Arc<str>),
    /// What a pattern finds is.
    Regex(Arc<Substitution>),
}

/// A pattern, and what every place where it is found becomes.
#[derive(Debug)]
pub(crate) struct Substitution {
    pattern: Regex,
    parts: Box<[Part]>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Group(usize),
}

impl RewriteSpec {
    /// Compile; errors are (field below `rewrite`, Istio's message).
    pub(crate) fn compile(&self) -> Result<Rewrite, (&'static str, String)> {
        let regex = self.uri_regex_rewrite.as_ref();
        if self.uri.is_empty() && regex.is_none() && self.authority.is_empty() {
            let message = "rewrite must specify at least one of URI, UriRegexRewrite, or authority";
            return Err(("", message.into()));
        }
        let path = match (regex, &*self.uri) {
            (None, "") => None,
            (None, uri) => Some(NewPath::Uri(uri.into())),
            (Some(spec), "") => Some(NewPath::Regex(Arc::new(spec.compile()?))),
            (Some(_), _) => return Err(("", "rewrite may only contain one of URI or UriRegexRewrite".into())),
        };
        let authority = (!self.authority.is_empty()).then(|| HeaderValue::from_str(&self.authority)).transpose();
        let authority = authority.map_err(|_| ("authority", format!("{:?} is not an authority", self.authority)))?;
        Ok(Rewrite { path, authority })
    }
}

impl RegexRewriteSpec {
    fn compile(&self) -> Result<Substitution, (&'static str, String)> {
        if self.r#match.is_empty() || self.rewrite.is_empty() {
            let message = "UriRegexRewrite requires both Rewrite and Match fields to be specified";
            return Err(("uriRegexRewrite", message.into()));
        }
        let pattern = re2::compile_search(&self.r#match).map_err(|why| {
            let message =
                format!("{why}; Istio uses RE2 style regex-based match (https://github.com/google/re2/wiki/Syntax)");
            ("uriRegexRewrite.match", message)
        })?;
        let parts = parts(self.rewrite.as_bytes(), pattern.captures_len());
        let parts = parts.map_err(|message| ("uriRegexRewrite.rewrite", message))?;
        Ok(Substitution { pattern, parts })
    }
}

/// RE2's substitution text: `\0` to `\9` are groups, `\\` is a backslash, nothing else follows a backslash.
fn parts(text: &[u8], groups: usize) -> Result<Box<[Part]>, String> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match (byte, byte == &b'\\') {
            (byte, false) => literal.push(*byte),
            (_, true) => match bytes.next() {
                Some(b'\\') => literal.push(b'\\'),
                Some(digit @ b'0'..=b'9') => {
                    let group = usize::from(digit - b'0');
                    if group >= groups {
                        return Err(format!("invalid substitution: the match has no group \\{group}"));
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal).into()));
                    }
                    parts.push(Part::Group(group));
                }
                _ => return Err(r"invalid substitution: '\' must be followed by a digit or '\'".into()),
            },
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(parts.into())
}

impl Rewrite {
    /// A Gateway API route's URLRewrite filter.
    ///
    /// istio createRewriteFilter: a full path replaces all of it, a prefix what was matched.
    pub(crate) fn of_gateway(path: Option<PathModifier>, authority: Option<HeaderValue>) -> Self {
        let path = path.map(|path| match path {
            PathModifier::ReplaceFullPath(path) => NewPath::Full(path),
            PathModifier::ReplacePrefixMatch(prefix) => NewPath::Uri(prefix),
        });
        Self { path, authority }
    }

    /// What becomes of paths that were let in by this match on the URI.
    pub(crate) fn path(&self, matched: Option<&StringMatch>) -> Option<PathRewrite> {
        self.path.as_ref().map(|path| match path {
            NewPath::Uri(uri) => PathRewrite::new(uri, matched),
            NewPath::Full(path) => PathRewrite::Whole(Arc::clone(path)),
            NewPath::Regex(substitution) => PathRewrite::Regex(Arc::clone(substitution)),
        })
    }
}

impl PathRewrite {
    /// Replace what was matched. A match that says nothing about the URI is Istio's prefix `/`.
    pub(crate) fn new(with: &Arc<str>, matched: Option<&StringMatch>) -> Self {
        let with = Arc::clone(with);
        match matched {
            None => Self::Prefix { matched: 1, with },
            Some(StringMatch::Prefix(prefix)) => Self::Prefix { matched: prefix.len(), with },
            Some(StringMatch::Segments(prefix)) => {
                let with = with.strip_suffix('/').map_or_else(|| Arc::clone(&with), Arc::from);
                Self::Segments { matched: prefix.len(), with }
            }
            Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => Self::Whole(with),
        }
    }

    /// The new path; the query is not part of it and stays.
    pub(crate) fn apply<'a>(&'a self, path: &str) -> Cow<'a, [u8]> {
        match self {
            // measured on Envoy 1.40 (t2): text is replaced by text: `/` for `/ns` makes `/ns/x` into `//x`.
            Self::Prefix { matched, with } => {
                let rest = path.as_bytes().get(*matched..).unwrap_or_default();
                [with.as_bytes(), rest].concat().into()
            }
            // gateway API HTTPPathModifier.replacePrefixMatch: "When specified, a trailing `/` is ignored"; and a path that
            // loses all its segments is `/` (istio applyHTTPRouteDestination: `^prefix(/?)(.*)` becomes `/\2`).
            Self::Segments { matched, with } => match path.as_bytes().get(*matched..).unwrap_or_default() {
                [] if with.is_empty() => Cow::Borrowed(b"/"),
                rest => [with.as_bytes(), rest].concat().into(),
            },
            Self::Whole(with) => Cow::Borrowed(with.as_bytes()),
            Self::Regex(substitution) => substitution.apply(path.as_bytes()).into(),
        }
    }
}

impl Substitution {
    /// measured on Envoy 1.40 (t2): every place is replaced (`/one/one/x` becomes `/two/two/x`); without one the path
    /// stays as it is.
    fn apply(&self, path: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(path.len());
        let mut end = 0;
        for found in self.pattern.captures_iter(path) {
            let Some(whole) = found.get(0) else { continue };
            out.extend_from_slice(&path[end..whole.start()]);
            for part in &self.parts {
                match part {
                    Part::Text(text) => out.extend_from_slice(text),
                    // A group that took no part in the match is empty.
                    Part::Group(group) => out.extend(found.get(*group).map_or(&b""[..], |group| group.as_bytes())),
                }
            }
            end = whole.end();
        }
        out.extend_from_slice(&path[end..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str, rewrite: &str) -> Result<Rewrite, (&'static str, String)> {
        let spec = RegexRewriteSpec { r#match: pattern.into(), rewrite: rewrite.into() };
        RewriteSpec { uri_regex_rewrite: Some(spec), ..RewriteSpec::default() }.compile()
    }

    // istio.md 1.2: "prefix match: replace matched prefix; exact/regex match: replace whole path"
    #[test]
    fn what_was_matched_is_replaced() {
        // measured on Envoy 1.40 (t2, rewrite): the rows `up=`
        let prefix = |text: &str| Some(StringMatch::Prefix(text.into()));
        let exact = Some(StringMatch::Exact("/ex".into()));
        let any = Some(StringMatch::Regex(Arc::new(re2::compile("/re/.*").unwrap())));
        for (matched, uri, path, up) in [
            (prefix("/pre"), "/new", "/pre", "/new"),
            (prefix("/pre"), "/new", "/pre/x", "/new/x"),
            (prefix("/pre"), "/new", "/prefix", "/newfix"),
            (prefix("/sl/"), "/", "/sl/", "/"),
            (prefix("/sl/"), "/", "/sl/x", "/x"),
            (prefix("/ns"), "/", "/ns", "/"),
            (prefix("/ns"), "/", "/ns/x", "//x"),
            (prefix("/ns"), "/", "/nsx", "/x"),
            (prefix("/Case"), "/low", "/CASE/z", "/low/z"),
            (exact, "/new", "/ex", "/new"),
            (any, "/new", "/re/a/b", "/new"),
            // istio TranslateRouteMatch: without a uri the path specifier is the prefix `/`
            (None, "/new", "/a", "/newa"),
        ] {
            let rewrite = RewriteSpec { uri: uri.into(), ..RewriteSpec::default() }.compile().unwrap();
            let rewritten = rewrite.path(matched.as_ref()).unwrap().apply(path).into_owned();
            assert_eq!(String::from_utf8(rewritten).unwrap(), up, "{path}");
        }
    }

    // istio.md 1.2: "RE2 **global** substitution on path (not query)"
    #[test]
    fn segments_are_replaced_by_segments() {
        // gateway API HTTPPathModifier.replacePrefixMatch, its table: request path, prefix match, replacement, result
        for (path, prefix, with, up) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            // istio.md 1.10: "ReplacePrefixMatch `/` strips segment"
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo//bar", "/foo", "/", "//bar"),
            ("/bar", "", "/xyz", "/xyz/bar"),
            ("/", "", "/", "/"),
        ] {
            let rewrite = Rewrite::of_gateway(Some(PathModifier::ReplacePrefixMatch(with.into())), None);
            let matched = Some(StringMatch::Segments(prefix.into()));
            let rewritten = rewrite.path(matched.as_ref()).unwrap().apply(path).into_owned();
            assert_eq!(String::from_utf8(rewritten).unwrap(), up, "{path} {prefix} {with}");
        }
    }

    #[test]
    fn what_a_pattern_finds_is_replaced_everywhere() {
        // measured on Envoy 1.40 (t2, rewrite): re-rw, re-multi, re-ci
        for (pattern, rewrite, path, up) in [
            (r"^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
            (r"^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo", "/service/foo"),
            ("one", "two", "/one/one/x", "/two/two/x"),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("(a)|(b)", r"[\1\2\\]", "/ab", r"/[a\][b\]"),
        ] {
            let rewrite = regex(pattern, rewrite).unwrap();
            let rewritten = rewrite.path(None).unwrap().apply(path).into_owned();
            assert_eq!(String::from_utf8(rewritten).unwrap(), up, "{pattern} {path}");
        }
    }

    #[test]
    fn refuses_what_istio_or_envoy_refuses() {
        let spec = |uri: &str| RewriteSpec { uri: uri.into(), ..RewriteSpec::default() };
        assert!(spec("").compile().unwrap_err().1.starts_with("rewrite must specify at least one of URI"));
        let both = RewriteSpec { uri_regex_rewrite: Some(RegexRewriteSpec::default()), ..spec("/a") };
        assert_eq!(both.compile().unwrap_err().1, "rewrite may only contain one of URI or UriRegexRewrite");
        for (pattern, rewrite, field) in [
            ("a", "", "uriRegexRewrite"),
            ("(a", "b", "uriRegexRewrite.match"),
            ("a", r"\1", "uriRegexRewrite.rewrite"),
            ("a", r"b\", "uriRegexRewrite.rewrite"),
        ] {
            assert_eq!(regex(pattern, rewrite).unwrap_err().0, field, "{pattern} {rewrite}");
        }
    }
}
