//! The host a request names, kept without copying.

use http::{HeaderValue, Request, header::HOST, uri::Authority};

/// `:authority` or `Host`, as it was written.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    Uri(Authority),
    Header(HeaderValue),
    None,
}

impl Host {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        if let Some(authority) = request.uri().authority() {
            return Self::Uri(authority.clone());
        }
        request.headers().get(HOST).map_or(Self::None, |value| Self::Header(value.clone()))
    }

    /// Empty where the request named none.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Uri(authority) => authority.as_str(),
            Self::Header(value) => value.to_str().unwrap_or_default(),
            Self::None => "",
        }
    }
}

/// A host without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}
