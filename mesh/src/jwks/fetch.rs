//! One fetch of an issuer's keys.
//!
//! What is fetched is decided by whoever writes configuration, and its answer by whoever runs the issuer: so much is
//! taken, from such addresses, and no more.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use mesh_authz::jwt::{JwkSet, KeySource};
use mesh_core::{
    BoxError, ClientTlsMode, ClientTlsSettings,
    registry::{Resolve, addresses_to_dial},
};
use mesh_tls::{Alpn, EgressTls};

use crate::network::{BoxIo, Connect};

/// Larger answers are no key sets.
const BODY: usize = 1024 * 1024;
const REDIRECTS: usize = 3;

/// What it takes to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) resolve: Arc<dyn Resolve>,
    pub(crate) tls: EgressTls,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0} is no http or https URL with a host")]
    Url(String),
    #[error("an https URL leads on to {0}")]
    Downgrade(Uri),
    #[error("{0} is an address of this machine's surroundings, which nobody's keys are at")]
    Address(IpAddr),
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("more than {REDIRECTS} redirects")]
    Redirects,
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the answer: {0}")]
    Answer(BoxError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Other(#[from] BoxError),
}

impl Fetcher {
    /// The keys of a source that has to be fetched.
    pub(super) async fn keys(&self, source: &KeySource, timeout: Duration) -> Result<JwkSet, FetchError> {
        let fetching = async {
            let location = match source {
                KeySource::Uri(location) => location.to_string(),
                KeySource::Discovery(location) => {
                    let text = self.get(location).await?;
                    let answer: serde_json::Value =
                        serde_json::from_slice(&text).map_err(|error| FetchError::Answer(error.into()))?;
                    // OpenID Connect Discovery 1.0 section 3: "jwks_uri REQUIRED".
                    let uri = answer.get("jwks_uri").and_then(|uri| uri.as_str());
                    let uri = uri.ok_or_else(|| FetchError::Answer("it has no jwks_uri".into()))?.to_owned();
                    let is_secure = |text: &str| text.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https"));
                    if is_secure(location) && !is_secure(&uri) {
                        return Err(FetchError::Answer("an https issuer names keys without https".into()));
                    }
                    uri
                }
                _ => return Err(FetchError::Url(String::new())),
            };
            let text = self.get(&location).await?;
            let text = std::str::from_utf8(&text).map_err(|error| FetchError::Answer(error.into()))?;
            let (set, bad) = JwkSet::parse_lenient(text).map_err(|error| FetchError::Answer(error.into()))?;
            for why in bad {
                tracing::warn!(target: "mesh::jwt", %location, %why, "a key is passed over");
            }
            Ok(set)
        };
        tokio::time::timeout(timeout, fetching).await.unwrap_or(Err(FetchError::Timeout(timeout)))
    }

    async fn get(&self, location: &str) -> Result<Bytes, FetchError> {
        let mut uri: Uri = location.parse().map_err(|_| FetchError::Url(location.to_owned()))?;
        for _ in 0..=REDIRECTS {
            match self.ask(&uri).await? {
                Answered::Body(body) => return Ok(body),
                Answered::Elsewhere(next) => {
                    if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                        return Err(FetchError::Downgrade(next));
                    }
                    uri = next;
                }
            }
        }
        Err(FetchError::Redirects)
    }

    async fn ask(&self, uri: &Uri) -> Result<Answered, FetchError> {
        let bad = || FetchError::Url(uri.to_string());
        let (Some(host), Some(authority)) = (uri.host().filter(|host| !host.is_empty()), uri.authority()) else {
            return Err(bad());
        };
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let io = self.open(bare, port).await?;
        let io: BoxIo = match secure {
            false => io,
            true => {
                let settings = ClientTlsSettings { mode: ClientTlsMode::Simple, ..ClientTlsSettings::default() };
                let secured = self.tls.connect(io, &settings, bare, Alpn::H1).await;
                Box::new(secured.map_err(|error| FetchError::Other(error.into()))?.stream)
            }
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(BoxError::from)?;
        // Ends with the sender.
        tokio::spawn(connection);
        let line = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = Request::get(line)
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(BoxError::from)?;
        let response = sender.send_request(request).await.map_err(BoxError::from)?;
        let status = response.status();
        if status.is_redirection() {
            let next = response.headers().get(header::LOCATION).and_then(|next| next.to_str().ok());
            let next = next.and_then(|next| against(uri, next));
            return next.map(Answered::Elsewhere).ok_or(FetchError::Status(status));
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status(status));
        }
        let body = Limited::new(response.into_body(), BODY).collect().await.map_err(FetchError::Answer)?;
        Ok(Answered::Body(body.to_bytes()))
    }

    /// GHSA-fgw5-hp8f-xfhc: what a name stands for is looked at after it was resolved, each time, and that is dialled.
    async fn open(&self, host: &str, port: u16) -> Result<BoxIo, FetchError> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(ip) => vec![(ip, port).into()],
            Err(_) => addresses_to_dial(&*self.resolve, host, port).await?,
        };
        let mut failed = FetchError::NoAddress(host.to_owned());
        for address in addresses {
            if is_forbidden(address.ip()) {
                failed = FetchError::Address(address.ip());
                continue;
            }
            match self.connect.connect(address).await {
                Ok(io) => return Ok(io),
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }
}

enum Answered {
    Body(Bytes),
    Elsewhere(Uri),
}

/// A Location header, absolute or below the same authority.
fn against(base: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = base.clone().into_parts();
        parts.path_and_query = Some(location.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    location.parse().ok().filter(|uri: &Uri| uri.scheme().is_some() && uri.host().is_some())
}

/// Link-local addresses, where clouds keep the credentials of their machines, and the like (RFC 3927, RFC 4291 2.5.6).
fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let metadata = [[100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];
            v4.is_link_local() || v4.is_unspecified() || metadata.contains(&v4.octets())
        }
        IpAddr::V6(v6) => match v6.segments() {
            // Other forms of an IPv4 address: mapped, compatible, and NAT64 (RFC 6052).
            [0, 0, 0, 0, 0, 0 | 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] if (a, b) != (0, 1) => {
                is_forbidden(Ipv4Addr::from(u32::from(a) << 16 | u32::from(b)).into())
            }
            [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => true,
            _ => v6.is_unicast_link_local() || v6.is_unspecified(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_are_forbidden() {
        for (address, forbidden) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("100.100.100.200", true),
            ("0.0.0.0", true),
            ("::", true),
            ("fd00:ec2::23", true),
            ("64:ff9b::169.254.169.254", true),
            ("168.63.129.16", true),
            ("::1", false),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_forbidden(address.parse().unwrap()), forbidden, "{address}");
        }
    }

    #[test]
    fn redirects_lead_to_urls() {
        let base: Uri = "https://a:8/x?y".parse().unwrap();
        for (location, uri) in [
            ("/keys?z", Some("https://a:8/keys?z")),
            ("https://b/k", Some("https://b/k")),
            ("//b/k", None),
            ("k", None),
            ("", None),
        ] {
            assert_eq!(against(&base, location).map(|uri| uri.to_string()).as_deref(), uri, "{location}");
        }
    }
}
