//! Where a request carries tokens, and how they are taken out of it.

use std::sync::Arc;

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
    pub(super) fn tokens<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Vec<&'a str> {
        match self {
            Self::Header(name, prefix) => {
                let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
                texts.filter_map(|text| text.strip_prefix(&**prefix)).map(token_of).collect()
            }
            Self::Param(name) => params(uri).filter_map(|(key, value)| (key == &**name).then_some(value)).collect(),
            Self::Cookie(name) => {
                cookies(headers).filter_map(|(key, value)| (key == &**name).then_some(value)).collect()
            }
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

/// envoy jwt_authn extractor.cc: what follows the prefix up to the first character that no token has.
fn token_of(text: &str) -> &str {
    let end =
        text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '='))).unwrap_or(text.len());
    &text[..end]
}

fn params(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    let query = uri.query().unwrap_or_default();
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
}

fn remove_param(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else { return };
    let kept = query.split('&').filter(|pair| pair.split_once('=').map_or(*pair, |(key, _)| key) != name);
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
        headers.append("authorization", "Bearer a.b-c_d= x".parse().unwrap());
        headers.append("authorization", "bearer z".parse().unwrap());
        headers.append("cookie", "a=1; t=x.y.z; other=2".parse().unwrap());
        headers.append("cookie", "t=\"q\"".parse().unwrap());
        let uri: Uri = "/?t=1&t=2".parse().unwrap();
        let tokens =
            |location: Location| location.tokens(&uri, &headers).into_iter().map(String::from).collect::<Vec<_>>();
        assert_eq!(tokens(Location::defaults().remove(0)), ["a.b-c_d="]);
        assert_eq!(tokens(Location::Param("t".into())), ["1", "2"]);
        assert_eq!(tokens(Location::Cookie("t".into())), ["x.y.z", "q"]);
        assert!(tokens(Location::Cookie("u".into())).is_empty());
    }
}
