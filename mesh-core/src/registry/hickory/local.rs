//! Names that are not asked for, and addresses that lead nowhere from here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::registry::Answer;

/// An address stands for itself. RFC 6761 section 6.3: resolvers "SHOULD recognize localhost names as special" and not ask
/// for them.
pub(super) fn answer(host: &str) -> Option<Answer> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(Answer::addresses([ip]));
    }
    let name = host.strip_suffix('.').unwrap_or(host).as_bytes();
    let ends_with =
        |end: &str| name.len() >= end.len() && name[name.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes());
    if name.eq_ignore_ascii_case(b"localhost") || ends_with(".localhost") {
        return Some(Answer::addresses(usable([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into())));
    }
    None
}

/// RFC 6724 section 6, rule 1, "Avoid unusable destinations": of two families, one that this machine has no route to would
/// fail half of the picks. Where there is one family alone, it is all there is.
pub(super) fn usable(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.iter().all(IpAddr::is_ipv4) || addresses.iter().all(IpAddr::is_ipv6) {
        return addresses;
    }
    let usable: Vec<_> = addresses.iter().copied().filter(|ip| has_route(*ip)).collect();
    if usable.is_empty() { addresses } else { usable }
}

/// Connecting a datagram socket asks for a route and a source address, and sends nothing.
pub(super) fn has_route(ip: IpAddr) -> bool {
    let unspecified: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let discard = SocketAddr::new(ip, 9);
    UdpSocket::bind(SocketAddr::new(unspecified, 0)).is_ok_and(|socket| socket.connect(discard).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_not_asked_for() {
        let v4: IpAddr = [10, 0, 0, 1].into();
        assert_eq!(answer("10.0.0.1"), Some(Answer::addresses([v4])));
        assert_eq!(answer("::1"), Some(Answer::addresses([Ipv6Addr::LOCALHOST.into()])));
        // RFC 6761 6.3: "localhost." and "any names falling within .localhost."
        for name in ["localhost", "LocalHost.", "a.localhost", "a.b.LOCALHOST."] {
            let found = answer(name).unwrap().found;
            assert!(found.contains(&IpAddr::from(Ipv4Addr::LOCALHOST).into()), "{name}");
        }
        for name in ["db.test", "notlocalhost", "localhost.example.com", "", ".", "é.localhosty"] {
            assert_eq!(answer(name), None, "{name}");
        }
    }

    #[test]
    fn a_family_that_stands_alone_is_kept_whatever_the_routes() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let (v4, other): (IpAddr, IpAddr) = (Ipv4Addr::LOCALHOST.into(), [127, 0, 0, 2].into());
        assert_eq!(usable(vec![v6]), [v6]);
        assert_eq!(usable(vec![v4, other]), [v4, other]);
        assert_eq!(usable(vec![]), [] as [IpAddr; 0]);
        // Of both, loopback is always within reach.
        assert!(usable(vec![v4, v6]).contains(&v4));
    }
}
