//! Blocks of addresses.

use std::net::{IpAddr, Ipv6Addr};

/// An address or a CIDR block. Host bits in the block are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpBlock {
    /// As IPv6, v4 addresses mapped: one comparison for both families, and `::ffff:10.0.0.1` is `10.0.0.1`.
    network: u128,
    mask: u128,
}

impl IpBlock {
    /// The error is in Istio's words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad_range = || format!("bad CIDR range ({text})");
        let (address, prefix) = match text.split_once('/') {
            None => (text.parse::<IpAddr>().map_err(|_| format!("bad IP address ({text})"))?, None),
            Some((address, prefix)) => {
                if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(bad_range());
                }
                (address.parse().map_err(|_| bad_range())?, Some(prefix.parse::<u32>().map_err(|_| bad_range())?))
            }
        };
        let (unmapped, width) = match address {
            IpAddr::V4(_) => (96, 32),
            IpAddr::V6(_) => (0, 128),
        };
        let prefix = prefix.unwrap_or(width);
        if prefix > width {
            return Err(bad_range());
        }
        // A prefix of 0 bits would shift by 128.
        let mask = u128::MAX.checked_shl(128 - unmapped - prefix).unwrap_or(0);
        Ok(Self { network: bits(address) & mask, mask })
    }

    /// A v4 address, mapped or not, is in v4 blocks only, as in Envoy: `::/0` is all of IPv6.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = bits(address);
        let block_is_v4 = is_v4(self.network) && self.mask >> 32 == u128::MAX >> 32;
        address & self.mask == self.network && is_v4(address) == block_is_v4
    }
}

/// In `::ffff:0:0/96`.
fn is_v4(address: u128) -> bool {
    address >> 32 == 0xffff
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => Ipv6Addr::to_bits(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_contain() {
        for (block, address, contains) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.1.2.3/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "1.2.3.4", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let block = IpBlock::parse(block).unwrap();
            assert_eq!(block.contains(address.parse().unwrap()), contains, "{block:?} {address}");
        }
    }

    #[test]
    fn refuses_what_is_no_block() {
        for text in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/256", "10.0.0.0/", "10.0.0.0/+8", "::/129", "a/8", "*"] {
            assert!(IpBlock::parse(text).is_err(), "{text}");
        }
    }
}
