//! Where a request carries tokens, and how they are taken out of it.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};

/// A place where a token may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A header, behind this prefix.
    Header(HeaderName, Arc<str>),
    /// A parameter of the query.
    Param(Arc<str>),
    /// A cookie.
    Cookie(Arc<str>),
}

impl Location {
    /// reference 1.7: "default locations `Authorization: Bearer ` (case-sensitive; `bearer`/`Basic` = no token) and
    /// `?access_token=`"
    pub(super) fn defaults() -> Vec<Self> {
        vec![Self::Header(header::AUTHORIZATION, "Bearer ".into()), Self::Param("access_token".into())]
    }

    /// The tokens here, in the order in which they stand.
    pub(super) fn tokens<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Vec<Cow<'a, str>> {
        match self {
            Self::Header(name, prefix) => {
                let values = headers.get_all(name).iter();
                values.filter_map(|value| behind(value.as_bytes(), prefix.as_bytes())).collect()
            }
            Self::Param(name) => params(uri).filter_map(|(key, value)| (*key == **name).then_some(value)).collect(),
            Self::Cookie(name) => cookies(headers)
                .into_iter()
                .filter_map(|(key, value)| (key == **name).then_some(value.into()))
                .collect(),
        }
    }

    /// Take tokens out: a header goes as a whole, a query loses its parameter. Cookies stay, as in Envoy.
    pub(super) fn remove(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        match self {
            Self::Header(name, _) => {
                headers.remove(name);
            }
            Self::Param(name) => remove_param(uri, name),
            Self::Cookie(_) => {}
        }
    }
}

/// envoy jwt_authn extractor.cc extractJWT: the prefix is looked for anywhere in the value, and what follows it is the token, to
/// the end: what is no part of a token there makes it a bad one. Bytes that are no text do not hide it.
fn behind<'a>(value: &'a [u8], prefix: &[u8]) -> Option<Cow<'a, str>> {
    if prefix.is_empty() {
        return Some(String::from_utf8_lossy(value));
    }
    let at = value.windows(prefix.len()).position(|part| part == prefix)? + prefix.len();
    let rest = value.get(at..)?;
    let start = rest.iter().position(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)).unwrap_or(0);
    Some(String::from_utf8_lossy(&rest[start..]))
}

/// Names and values as an application reads them.
fn params(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(key, value)| (decoded(key), decoded(value)))
}

/// RFC 3986 2.1, once. A `%` that begins no escape stands for itself.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits =
            bytes.get(at + 1..at + 3).filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut cookies = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        for pair in String::from_utf8_lossy(value.as_bytes()).split(';') {
            if let Some((key, value)) = pair.split_once('=') {
                cookies.push((key.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
            }
        }
    }
    cookies
}

fn remove_param(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else { return };
    let kept = query.split('&').filter(|pair| decoded(pair.split_once('=').map_or(*pair, |(key, _)| key)) != name);
    let kept: Vec<_> = kept.collect();
    let line = if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), kept.join("&")) };
    let mut parts = uri.clone().into_parts();
    // Less of a query that was valid: what is left is too.
    let Ok(line) = PathAndQuery::try_from(line) else { return };
    parts.path_and_query = Some(line);
    if let Ok(without) = Uri::from_parts(parts) {
        *uri = without;
    }
}

/// A value for a header, where the text can be one.
pub(super) fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_taken_out_and_the_rest_stays() {
        for (uri, without) in [
            ("/?access_token=a&z=1", "/?z=1"),
            ("/p?z=1&access_token=a", "/p?z=1"),
            ("/p?access_token=a", "/p"),
            ("/p?access_token=a&access_token=b", "/p"),
            ("/p?access%5Ftoken=a&z=%31", "/p?z=%31"),
            ("/p?access_tokens=a", "/p?access_tokens=a"),
            ("/p", "/p"),
            ("http://h:1/p?access_token", "http://h:1/p"),
        ] {
            let mut found: Uri = uri.parse().unwrap();
            Location::Param("access_token".into()).remove(&mut found, &mut HeaderMap::new());
            assert_eq!(found.to_string(), without, "{uri}");
        }
    }

    #[test]
    fn tokens_by_place() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", "Bearer a.b-c_d=".parse().unwrap());
        headers.append("authorization", "bearer z".parse().unwrap());
        headers.append("x", "other Bearer  y, Bearer z".parse().unwrap());
        headers.append("bytes", HeaderValue::from_bytes(b"Bearer q\xff").unwrap());
        headers.append("cookie", "a=1; t=x.y.z; other=2".parse().unwrap());
        headers.append("cookie", HeaderValue::from_bytes(b"t=\"q\"; b=\xff").unwrap());
        let uri: Uri = "/?t=1&%74=2%2E&u".parse().unwrap();
        let tokens =
            |location: Location| location.tokens(&uri, &headers).into_iter().map(String::from).collect::<Vec<_>>();
        let header = |name: &'static str| Location::Header(HeaderName::from_static(name), "Bearer ".into());
        assert_eq!(tokens(header("authorization")), ["a.b-c_d="]);
        // To the end, from wherever the prefix is, whatever bytes there are: none of these is a good token.
        assert_eq!(tokens(header("x")), ["y, Bearer z"]);
        assert_eq!(tokens(header("bytes")), ["q\u{fffd}"]);
        assert_eq!(tokens(Location::Header(HeaderName::from_static("x"), "".into())), ["other Bearer  y, Bearer z"]);
        assert_eq!(tokens(Location::Param("t".into())), ["1", "2."]);
        assert_eq!(tokens(Location::Cookie("t".into())), ["x.y.z", "q"]);
        assert!(tokens(Location::Cookie("u".into())).is_empty());
    }
}
