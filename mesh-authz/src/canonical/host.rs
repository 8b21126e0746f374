//! Exactly one host.

use http::{HeaderMap, Uri, Version, header::HOST};

use super::NotCanonical;

/// Is there one host, and is it one?
///
/// RFC 9112 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that
/// lacks a Host header field and to any request message that contains more than one Host header field line or a
/// Host header field with an invalid field value." RFC 9113 8.3.1: `Host` must not differ from `:authority`.
pub(super) fn check(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), NotCanonical> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| host.to_str().map_err(|_| NotCanonical::Host)).transpose()?;
    if hosts.next().is_some() {
        return Err(NotCanonical::TwoHosts);
    }
    let authority = uri.authority().map(http::uri::Authority::as_str);
    match (host, authority) {
        (Some(""), _) => Err(NotCanonical::NoHost),
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => Err(NotCanonical::HostMismatch),
        (Some(host), _) => well_formed(host),
        (None, _) if version == Version::HTTP_11 => Err(NotCanonical::NoHost),
        (None, Some(authority)) => well_formed(authority),
        (None, None) if version > Version::HTTP_11 => Err(NotCanonical::NoHost),
        // HTTP/1.0 has no such duty; no rule on hosts matches then.
        (None, None) => Ok(()),
    }
}

fn well_formed(host: &str) -> Result<(), NotCanonical> {
    let (name, port) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']').ok_or(NotCanonical::Host)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| NotCanonical::Host)?;
            match rest.strip_prefix(':') {
                Some(port) => ("", Some(port)),
                None if rest.is_empty() => ("", None),
                None => return Err(NotCanonical::Host),
            }
        }
        None => {
            let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
            if name.is_empty() {
                return Err(NotCanonical::Host);
            }
            (name, port)
        }
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let port_is_one = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0') && port.parse::<u16>().is_ok()
    });
    if name.bytes().all(legal) && port_is_one { Ok(()) } else { Err(NotCanonical::Host) }
}
