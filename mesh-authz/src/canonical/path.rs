//! One path.

use std::borrow::Cow;

use http::{Uri, uri::PathAndQuery};
use mesh_core::path::{InvalidPath, PathNormalization, escapes_root, normalize};

use super::NotCanonical;

/// The URI with its canonical path, `None` when it has that already.
///
/// `CONNECT` without a path and `OPTIONS *` have no segments and pass. An extended CONNECT (RFC 8441) has a path,
/// and that one is read like any other.
pub(super) fn canonical_uri(uri: &Uri, mode: PathNormalization) -> Result<Option<Uri>, NotCanonical> {
    let path = uri.path();
    if !path.starts_with('/') {
        return Ok(None);
    }
    let canonical = match canonical_path(path, mode)? {
        Cow::Borrowed(same) if same.len() == path.len() => return Ok(None),
        canonical => canonical.into_owned(),
    };
    let target = match uri.query() {
        Some(query) => format!("{canonical}?{query}"),
        None => canonical,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| NotCanonical::Escape)?);
    Uri::from_parts(parts).map(Some).map_err(|_| NotCanonical::Escape)
}

/// A path as everything inside will see it.
pub(crate) fn canonical_path(path: &str, mode: PathNormalization) -> Result<Cow<'_, str>, NotCanonical> {
    check(path, mode)?;
    if escapes_root(path, mode) {
        return Err(NotCanonical::EscapesRoot);
    }
    normalize(path, mode).map_err(|_: InvalidPath| NotCanonical::Nul)
}

/// Refuse what readers differ on. Whoever asks for DECODE_AND_MERGE_SLASHES has said what encoded slashes and
/// backslashes mean.
fn check(path: &str, mode: PathNormalization) -> Result<(), NotCanonical> {
    let decodes = mode == PathNormalization::DecodeAndMergeSlashes;
    let bytes = path.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'\\' if !decodes => return Err(NotCanonical::Backslash),
            b'%' => match bytes.get(index + 1..index + 3) {
                Some(b"00") => return Err(NotCanonical::Nul),
                Some(b"2F" | b"2f") if !decodes => return Err(NotCanonical::EncodedSlash),
                Some(b"5C" | b"5c") if !decodes => return Err(NotCanonical::Backslash),
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {}
                _ => return Err(NotCanonical::Escape),
            },
            0x80.. => return Err(NotCanonical::NonAscii),
            _ => {}
        }
    }
    Ok(())
}
