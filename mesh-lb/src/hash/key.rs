//! What of a request is hashed.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header::HOST};

use super::{HashCookie, SourceIp, hash, hash_seeded};

/// What of a request decides where it goes: `httpHeaderName`, `httpCookie`, `useSourceIp` or
/// `httpQueryParameterName`. A request that does not have it goes anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HashKey(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Header(HeaderName),
    Pseudo(Pseudo),
    Cookie(HashCookie),
    SourceIp,
    QueryParameter(Box<str>),
}

/// What HTTP/2 has as headers and a request here as fields of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pseudo {
    Authority,
    Method,
    Path,
    Scheme,
}

/// A key that no request can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidHashKey(&'static str);

/// The key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyed<'a> {
    /// Its hash.
    Hash(u64),
    /// It has none.
    Absent,
    /// It has none, and is given this cookie.
    Given(&'a HashCookie),
}

impl HashKey {
    /// A header's value. `:authority` (or `host`), `:method`, `:path` and `:scheme` are headers here as in Envoy.
    ///
    /// # Errors
    /// When it is no name of a header.
    pub fn header(name: &str) -> Result<Self, InvalidHashKey> {
        let pseudo = match name.to_ascii_lowercase().as_str() {
            ":authority" | "host" => Some(Pseudo::Authority),
            ":method" => Some(Pseudo::Method),
            ":path" => Some(Pseudo::Path),
            ":scheme" => Some(Pseudo::Scheme),
            _ => None,
        };
        match (pseudo, HeaderName::try_from(name)) {
            (Some(pseudo), _) => Ok(Self(Kind::Pseudo(pseudo))),
            (None, Ok(name)) => Ok(Self(Kind::Header(name))),
            (None, Err(_)) => Err(InvalidHashKey("not the name of a header")),
        }
    }

    /// A cookie's value.
    ///
    /// # Errors
    /// When no cookie can have such a name, or its path or attributes cannot stand in a header.
    pub fn cookie(cookie: HashCookie) -> Result<Self, InvalidHashKey> {
        let possible = cookie.is_possible();
        possible.then_some(Self(Kind::Cookie(cookie))).ok_or(InvalidHashKey("not a cookie that a client can have"))
    }

    /// The address that a request comes from: see [`SourceIp`].
    #[must_use]
    pub fn source_ip() -> Self {
        Self(Kind::SourceIp)
    }

    /// The first value of a parameter of the query, as it stands there.
    #[must_use]
    pub fn query_parameter(name: &str) -> Self {
        Self(Kind::QueryParameter(name.into()))
    }

    /// The key of a request, as it goes to the endpoint: after rewrites and header operations. `own` stands for the
    /// source of a request that does not say where it comes from.
    pub(crate) fn of<B>(&self, request: &Request<B>, own: Option<u64>) -> Keyed<'_> {
        let headers = request.headers();
        let found = match &self.0 {
            Kind::Header(name) => hash_values(headers, name),
            Kind::Pseudo(pseudo) => pseudo.value(request).map(hash),
            Kind::SourceIp => Some(SourceIp::hash_of(request.extensions(), own)),
            Kind::QueryParameter(name) => {
                request.uri().query().and_then(|query| parameter(query, name)).map(|value| hash(value.as_bytes()))
            }
            Kind::Cookie(cookie) => match cookie.find(headers) {
                None if cookie.is_generated() => return Keyed::Given(cookie),
                found => found.map(hash),
            },
        };
        found.map_or(Keyed::Absent, Keyed::Hash)
    }
}

impl Pseudo {
    fn value<B>(self, request: &Request<B>) -> Option<&[u8]> {
        let uri = request.uri();
        match self {
            Self::Authority => match request.headers().get(HOST) {
                Some(host) => Some(host.as_bytes()),
                None => uri.authority().map(|authority| authority.as_str().as_bytes()),
            },
            Self::Method => Some(request.method().as_str().as_bytes()),
            Self::Path => uri.path_and_query().map(|path| path.as_str().as_bytes()),
            Self::Scheme => uri.scheme_str().map(str::as_bytes),
        }
    }
}

/// envoy HeaderHashMethod: of several values each is hashed with the hash of the one before as the seed, smallest
/// first, so that their order does not matter (measured on Envoy 1.40, t5).
///
/// They are visited in order rather than sorted: nothing is allocated, and there is nearly always one.
fn hash_values(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let values = || headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let mut smallest = values().min()?;
    let mut hash = 0;
    loop {
        for value in values().filter(|value| *value == smallest) {
            hash = hash_seeded(value, hash);
        }
        match values().filter(|value| *value > smallest).min() {
            Some(next) => smallest = next,
            None => return Some(hash),
        }
    }
}

/// envoy QueryParamsMulti::parseQueryString: split at `&` and the first `=`, not decoded.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    parameters.find_map(|(known, value)| (known == name).then_some(value))
}
