//! Path normalisation: one spelling for what a path means, before anything matches it.
//!
//! A policy on `/admin` is worth nothing when `/%61dmin`, `/x/../admin` or `/a\..\admin` reach the same handler
//! past it. So a path is brought into one form first, and the router, the policy, telemetry and the application
//! all see that form. The modes are Istio's (`pathNormalization.normalization` of MeshConfig) and do what Envoy
//! was measured to do; `BASE` is the default there and here.
//!
//! ```
//! use mesh_core::path::{PathNormalization, escapes_root, normalize};
//!
//! let base = PathNormalization::default();
//! assert_eq!(normalize("/x/../%61dmin", base).unwrap(), "/admin");
//! assert_eq!(normalize("/a//b%2Fc", base).unwrap(), "/a//b%2Fc");
//! assert_eq!(normalize("/a//b%2Fc", PathNormalization::DecodeAndMergeSlashes).unwrap(), "/a/b/c");
//! // Decoding happens once: what it uncovers is data.
//! assert_eq!(normalize("/%2561dmin", base).unwrap(), "/%2561dmin");
//! assert!(escapes_root("/../etc", base));
//! ```

use std::borrow::Cow;

use serde::Deserialize;

/// Istio's `pathNormalization` (mesh/v1alpha1 ProxyPathNormalization.NormalizationType).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PathNormalization {
    /// Nothing, except that a fragment is dropped.
    None,
    /// RFC 3986: unreserved characters decoded, `\` is `/`, dot segments removed. Istio's `DEFAULT`.
    #[default]
    #[serde(alias = "DEFAULT")]
    Base,
    /// [`Base`](Self::Base), then runs of slashes become one.
    MergeSlashes,
    /// `%2F` and `%5C` decoded first, then [`MergeSlashes`](Self::MergeSlashes).
    DecodeAndMergeSlashes,
}

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPath {
    /// `%00`: some readers end a path there.
    #[error("a path must not contain %00")]
    Nul,
}

/// Bring a path, without its query, into its normal form. Borrowed when that is what it was.
///
/// `..` above the root stops at the root, as in Envoy; see [`escapes_root`]. A path that does not start with `/`
/// (`*`, or none at all) has no segments and is left alone. A malformed escape is literal text.
///
/// # Errors
/// On `%00`, except in [`PathNormalization::None`].
pub fn normalize(path: &str, mode: PathNormalization) -> Result<Cow<'_, str>, InvalidPath> {
    let path = without_fragment(path);
    if mode == PathNormalization::None || !path.starts_with('/') || is_normal(path, mode) {
        return Ok(Cow::Borrowed(path));
    }
    let (mut normal, _) = resolve(&decode(path, mode)?);
    if mode != PathNormalization::Base {
        merge_slashes(&mut normal);
    }
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// Do the path's `..` segments, read as `mode` reads them, leave the root at any point?
#[must_use]
pub fn escapes_root(path: &str, mode: PathNormalization) -> bool {
    let path = without_fragment(path);
    if !path.contains("..") && !path.contains('%') {
        return false;
    }
    match mode {
        PathNormalization::None => resolve(path).1,
        _ => decode(path, mode).is_ok_and(|decoded| resolve(&decoded).1),
    }
}

/// measured on Envoy 1.40 (t1): `/exact#f` is routed as `/exact` in all modes with Istio's runtime flags.
fn without_fragment(path: &str) -> &str {
    path.split_once('#').map_or(path, |(path, _)| path)
}

/// A quick look that finds most paths normal without copying them.
fn is_normal(path: &str, mode: PathNormalization) -> bool {
    let mut previous = 0;
    for byte in path.bytes() {
        match byte {
            b'%' | b'\\' => return false,
            b'.' if previous == b'/' => return false,
            b'/' if previous == b'/' && mode != PathNormalization::Base => return false,
            _ => previous = byte,
        }
    }
    true
}

/// Decode what the mode decodes, each escape once, and turn `\` into `/`.
fn decode(path: &str, mode: PathNormalization) -> Result<String, InvalidPath> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    // After a `%` that begins no escape, decoding a hex digit would make one: such an escape stays, so that a
    // second pass finds nothing new.
    let mut dangling = 0;
    while let Some(character) = rest.chars().next() {
        let (before, escape) = (rest, escape(rest));
        rest = &rest[character.len_utf8()..];
        match (character, escape) {
            ('%', Some(byte)) => {
                rest = &before[3..];
                let plain = match byte {
                    0 => return Err(InvalidPath::Nul),
                    b'/' | b'\\' if mode == PathNormalization::DecodeAndMergeSlashes => Some('/'),
                    _ if is_unreserved(byte) && !(dangling > 0 && byte.is_ascii_hexdigit()) => Some(char::from(byte)),
                    _ => None,
                };
                match plain {
                    Some(plain) => decoded.push(plain),
                    None => decoded.push_str(&before[..3]),
                }
                dangling = 0;
            }
            ('%', None) => {
                decoded.push('%');
                dangling = 2;
            }
            (character, _) => {
                decoded.push(if character == '\\' { '/' } else { character });
                dangling = if character.is_ascii_hexdigit() && dangling > 0 { dangling - 1 } else { 0 };
            }
        }
    }
    Ok(decoded)
}

/// The byte of an escape that `text` starts with.
fn escape(text: &str) -> Option<u8> {
    let digits = text.as_bytes().get(1..3)?;
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(value(digits[0])? << 4 | value(digits[1])?)
}

/// RFC 3986 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Remove dot segments (RFC 3986 5.2.4), and say whether `..` went above the root. An empty segment counts as
/// one: `/a//..` is `/a/`.
fn resolve(path: &str) -> (String, bool) {
    let mut resolved = String::with_capacity(path.len());
    let mut escaped = false;
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => match resolved.rfind('/') {
                Some(parent) => resolved.truncate(parent),
                None => escaped = true,
            },
            _ => {
                resolved.push('/');
                resolved.push_str(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            resolved.push('/');
        }
    }
    if resolved.is_empty() {
        resolved.push('/');
    }
    (resolved, escaped)
}

fn merge_slashes(path: &mut String) {
    let mut previous = ' ';
    path.retain(|character| {
        let keep = !(character == '/' && previous == '/');
        previous = character;
        keep
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PathNormalization::*, *};

    const MODES: [PathNormalization; 4] = [None, Base, MergeSlashes, DecodeAndMergeSlashes];

    #[test]
    fn agrees_with_istio() {
        #[derive(Deserialize)]
        struct Vector {
            mode: PathNormalization,
            r#in: String,
            out: String,
        }
        let Some(file) = mesh_test::shared("vectors/istio-normalization.json") else { return };
        let vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(vectors.len(), 48);
        for Vector { mode, r#in, out } in vectors {
            assert_eq!(normalize(&r#in, mode).unwrap(), out, "{mode:?} {in}");
        }
    }

    #[test]
    fn agrees_with_envoy() {
        // measured on Envoy 1.40 (t1), columns NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES.
        for (path, none, base, merge, decode) in [
            ("/a//b", "/a//b", "/a//b", "/a/b", "/a/b"),
            ("/a/./b", "/a/./b", "/a/b", "/a/b", "/a/b"),
            ("/a/x/../b", "/a/x/../b", "/a/b", "/a/b", "/a/b"),
            ("/x/%2e%2e/a/b", "/x/%2e%2e/a/b", "/a/b", "/a/b", "/a/b"),
            ("/a\\b", "/a\\b", "/a/b", "/a/b", "/a/b"),
            ("/a%2Fb", "/a%2Fb", "/a%2Fb", "/a%2Fb", "/a/b"),
            ("/a%5Cb", "/a%5Cb", "/a%5Cb", "/a%5Cb", "/a/b"),
            ("/%61dmin", "/%61dmin", "/admin", "/admin", "/admin"),
            ("/%7euser", "/%7euser", "/~user", "/~user", "/~user"),
            ("//admin", "//admin", "//admin", "/admin", "/admin"),
            ("/foo/..%2fadmin", "/foo/..%2fadmin", "/foo/..%2fadmin", "/foo/..%2fadmin", "/admin"),
            ("/exact#f", "/exact", "/exact", "/exact", "/exact"),
            ("/a%23%3F;p=1", "/a%23%3F;p=1", "/a%23%3F;p=1", "/a%23%3F;p=1", "/a%23%3F;p=1"),
            ("/a%252Fb", "/a%252Fb", "/a%252Fb", "/a%252Fb", "/a%252Fb"),
            ("/..", "/..", "/", "/", "/"),
            ("/a/.", "/a/.", "/a/", "/a/", "/a/"),
            ("/a/..", "/a/..", "/", "/", "/"),
            ("/.hidden/..x/a..", "/.hidden/..x/a..", "/.hidden/..x/a..", "/.hidden/..x/a..", "/.hidden/..x/a.."),
            ("/%zz%4", "/%zz%4", "/%zz%4", "/%zz%4", "/%zz%4"),
            ("/é%C3%A9", "/é%C3%A9", "/é%C3%A9", "/é%C3%A9", "/é%C3%A9"),
            ("*", "*", "*", "*", "*"),
            ("", "", "", "", ""),
        ] {
            for (mode, expected) in MODES.into_iter().zip([none, base, merge, decode]) {
                assert_eq!(normalize(path, mode).unwrap(), expected, "{mode:?} {path}");
            }
        }
    }

    #[test]
    fn nul_passes_only_without_normalisation() {
        // measured on Envoy 1.40 (t1): `/%00` "NONE passes; all normalizing modes 400".
        assert_eq!(normalize("/%00", None).unwrap(), "/%00");
        for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
            assert_eq!(normalize("/a%00b", mode), Err(InvalidPath::Nul));
        }
    }

    #[test]
    fn knows_what_leaves_the_root() {
        for (path, mode, escapes) in [
            ("/../a", Base, true),
            ("/a/../../b/c", Base, true),
            ("/%2e%2e/a", Base, true),
            ("/%2e%2e/a", None, false),
            ("/\\../a", Base, false),
            ("/..\\a", Base, true),
            ("/a/..", Base, false),
            ("/..a/..", Base, false),
            ("/..%2fa", Base, false),
            ("/..%2fa", DecodeAndMergeSlashes, true),
            ("/a#/../..", Base, false),
        ] {
            assert_eq!(escapes_root(path, mode), escapes, "{mode:?} {path}");
        }
    }

    #[test]
    fn reads_istios_names() {
        for (name, mode) in [
            ("NONE", None),
            ("BASE", Base),
            ("DEFAULT", Base),
            ("MERGE_SLASHES", MergeSlashes),
            ("DECODE_AND_MERGE_SLASHES", DecodeAndMergeSlashes),
        ] {
            assert_eq!(serde_json::from_str::<PathNormalization>(&format!("{name:?}")).unwrap(), mode);
        }
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        for path in ["/", "/a/b.c/", "/a%20b", "/a%2Fb"] {
            assert!(matches!(normalize(path, Base), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    proptest! {
        #[test]
        fn twice_is_once(path in "/([./\\\\%a2563efF0é#]|%2[eEfF5]|%5[cC]|%6[0-9a-f]|\\.\\./){0,24}") {
            for mode in MODES {
                let Ok(once) = normalize(&path, mode) else { continue };
                prop_assert_eq!(normalize(&once, mode).unwrap(), once.as_ref());
                if mode != None {
                    prop_assert!(!escapes_root(&once, mode));
                    prop_assert!(!once.contains('\\'));
                    prop_assert!(once.split('/').all(|segment| !matches!(segment, "." | "..")));
                }
            }
        }
    }
}
