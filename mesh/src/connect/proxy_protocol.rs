//! The PROXY protocol: who calls, said before anything else on a connection (DestinationRule `proxyProtocol`).
//!
//! The source is this end of the connection: the application is who calls, with no proxy between. That is the workload's
//! address, as it would be with a sidecar. Where a network of one's own does not say which end this is, the header says
//! that nothing is known, and whoever reads it goes by the connection itself.
//!
//! Source: "The PROXY protocol, Versions 1 & 2" (HAProxy, doc/proxy-protocol.txt), sections 2.1 and 2.2.

use std::net::{IpAddr, SocketAddr};

use mesh_lb::ProxyProtocol;

/// Section 2.2: "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A".
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 in the upper half; the command in the lower: PROXY, or LOCAL, where the receiver "must accept this
/// connection as valid and must use the real connection endpoints".
const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;
/// The address family in the upper half, STREAM in the lower.
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNSPEC: u8 = 0;

/// What to send first on a connection from `source` to `destination`.
pub(super) fn header(version: ProxyProtocol, source: Option<SocketAddr>, destination: SocketAddr) -> Vec<u8> {
    let source = source.filter(|source| source.is_ipv4() == destination.is_ipv4());
    match version {
        ProxyProtocol::V2 => binary(source, destination),
        _ => text(source, destination).into_bytes(),
    }
}

fn text(source: Option<SocketAddr>, destination: SocketAddr) -> String {
    let Some(source) = source else { return "PROXY UNKNOWN\r\n".into() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
}

fn binary(source: Option<SocketAddr>, destination: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some(source) = source else {
        header.extend([LOCAL, UNSPEC, 0, 0]);
        return header;
    };
    // Two addresses and two ports.
    let (family, length) = if source.is_ipv4() { (TCP_OVER_IPV4, 12) } else { (TCP_OVER_IPV6, 36) };
    header.extend([PROXY, family, 0, length]);
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => header.extend(ip.octets()),
            IpAddr::V6(ip) => header.extend(ip.octets()),
        }
    }
    for end in [source, destination] {
        header.extend(end.port().to_be_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Section 2.1, the longest lines it names: 56, 104 and 15 bytes for TCP4, TCP6 and the short form of unknown.
    #[test]
    fn version_1_is_a_line() {
        let v4 = end("255.255.255.255:65535");
        let line = header(ProxyProtocol::V1, Some(v4), v4);
        assert_eq!(line, b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
        assert_eq!(line.len(), 56);
        let v6 = end("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
        assert_eq!(header(ProxyProtocol::V1, Some(v6), v6).len(), 104);
        let (source, destination) = (end("[::1]:50000"), end("[2001:db8::2]:80"));
        assert_eq!(header(ProxyProtocol::V1, Some(source), destination), b"PROXY TCP6 ::1 2001:db8::2 50000 80\r\n");
        assert_eq!(header(ProxyProtocol::V1, None, v4), b"PROXY UNKNOWN\r\n");
        assert_eq!(header(ProxyProtocol::V1, Some(v6), v4), b"PROXY UNKNOWN\r\n");
    }

    /// Section 2.2: struct proxy_hdr_v2 and union proxy_addr, field by field.
    #[test]
    fn version_2_byte_by_byte() {
        let found = header(ProxyProtocol::V2, Some(end("10.0.0.1:50000")), end("10.0.0.2:80"));
        let mut expected = vec![0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];
        expected.extend([0x21, 0x11, 0, 12]);
        expected.extend([10, 0, 0, 1, 10, 0, 0, 2, 0xC3, 0x50, 0, 80]);
        assert_eq!(found, expected);
        let found = header(ProxyProtocol::V2, Some(end("[::1]:1")), end("[2001:db8::2]:258"));
        let mut expected = SIGNATURE.to_vec();
        expected.extend([0x21, 0x21, 0, 36]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        expected.extend([0, 1, 1, 2]);
        assert_eq!(found, expected);
        let unknown = header(ProxyProtocol::V2, None, end("10.0.0.2:80"));
        assert_eq!((&unknown[..12], &unknown[12..]), (&SIGNATURE[..], &[0x20, 0, 0, 0][..]));
    }
}
