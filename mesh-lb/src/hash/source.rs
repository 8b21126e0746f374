//! `useSourceIp` where there is no connection from the client.

use std::{io::Write as _, net::IpAddr, sync::OnceLock};

use http::Extensions;

use super::hash;

/// Where a request comes from, for `consistentHash.useSourceIp`: an extension of the request.
///
/// A sidecar hashes the address of its client's connection. In a pod that is the application's own address, the same
/// for every request; on a gateway it is the caller's. A client in the process has no such connection to look at, so an
/// application that sends on behalf of others says who they are. What comes without goes as the address that
/// [`BalanceLayer::with_source_ip`](crate::BalanceLayer::with_source_ip) was told, or else as one that the process drew
/// when it began: always to the same endpoint, as from a sidecar, and each process to one of its own.
///
/// ```
/// use mesh_lb::SourceIp;
///
/// let caller = "192.0.2.7".parse().unwrap(); // of the connection that it came on, for instance
/// let request = http::Request::get("http://reviews:9080/").extension(SourceIp(caller)).body(()).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceIp(
    /// The caller's address.
    pub IpAddr,
);

impl SourceIp {
    /// envoy IpHashMethod: the address as text, without a port.
    pub(crate) fn hash(self) -> u64 {
        // The longest IPv6 address has 45 characters.
        let mut text = [0; 48];
        let mut rest = &mut text[..];
        let left = match write!(rest, "{}", self.0) {
            Ok(()) | Err(_) => rest.len(),
        };
        hash(&text[..text.len() - left])
    }

    /// Whom a request is from; `own` is this process when it is known.
    pub(super) fn hash_of(extensions: &Extensions, own: Option<u64>) -> u64 {
        static DRAWN: OnceLock<u64> = OnceLock::new();
        let said = extensions.get::<Self>().map(|source| source.hash());
        said.or(own).unwrap_or_else(|| *DRAWN.get_or_init(rand::random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_as_text() {
        for (ip, text) in [("127.0.0.1", "127.0.0.1"), ("2001:0db8::0:1", "2001:db8::1")] {
            assert_eq!(SourceIp(ip.parse().unwrap()).hash(), hash(text.as_bytes()));
        }
        assert_eq!(SourceIp([0xffff; 8].into()).hash(), hash(b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
    }

    #[test]
    fn a_request_that_does_not_say_is_the_processs_own() {
        let mut extensions = Extensions::new();
        assert_eq!(SourceIp::hash_of(&extensions, None), SourceIp::hash_of(&extensions, None), "drawn once");
        assert_eq!(SourceIp::hash_of(&extensions, Some(7)), 7);
        extensions.insert(SourceIp([10, 0, 0, 1].into()));
        assert_eq!(SourceIp::hash_of(&extensions, Some(7)), hash(b"10.0.0.1"));
    }
}
