//! Some of the endpoints as they stand on a ring, without putting all of them in order.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use mesh_core::{Endpoint, EndpointAddress};
use twox_hash::XxHash64;

/// A hash, and whose it is.
type Ranked = (u64, usize);

/// `size` endpoints from place `start` on, of a ring ordered by the hash of addresses; fewer than there are.
pub(super) fn window(endpoints: &[Arc<Endpoint>], seed: u64, start: usize, size: usize) -> Vec<Arc<Endpoint>> {
    let mut ranked: Vec<Ranked> =
        endpoints.iter().enumerate().map(|(index, endpoint)| (hash(&endpoint.address, seed), index)).collect();
    // Two addresses with one hash: the same order for every client all the same.
    let order = |a: &Ranked, b: &Ranked| {
        a.0.cmp(&b.0).then_with(|| endpoints[a.1].address.cmp(&endpoints[b.1].address)).then(a.1.cmp(&b.1))
    };
    let end = start + size;
    // The tail first: then what is in front of it is the rest of the ring, head included.
    let mut chosen = places(&mut ranked, start..end.min(endpoints.len()), order);
    chosen.extend(places(&mut ranked, 0..end.saturating_sub(endpoints.len()), order));
    chosen.into_iter().map(|index| Arc::clone(&endpoints[index])).collect()
}

/// Who is at these places, in order. O(n), and a sort of those that are asked for.
fn places(ranked: &mut [Ranked], range: Range<usize>, order: impl Fn(&Ranked, &Ranked) -> Ordering) -> Vec<usize> {
    if range.is_empty() {
        return Vec::new();
    }
    if range.end < ranked.len() {
        ranked.select_nth_unstable_by(range.end, &order);
    }
    let below = &mut ranked[..range.end];
    if range.start > 0 {
        below.select_nth_unstable_by(range.start, &order);
    }
    let found = &mut below[range.start..];
    found.sort_unstable_by(&order);
    found.iter().map(|(_, index)| *index).collect()
}

fn hash(address: &EndpointAddress, seed: u64) -> u64 {
    // The bytes of an address rather than its text: the text would cost more than the hash.
    match address {
        EndpointAddress::Socket(socket) => {
            let mut bytes = [0; 18];
            let length = match socket.ip() {
                std::net::IpAddr::V4(ip) => {
                    bytes[..4].copy_from_slice(&ip.octets());
                    4
                }
                std::net::IpAddr::V6(ip) => {
                    bytes[..16].copy_from_slice(&ip.octets());
                    16
                }
            };
            bytes[length..length + 2].copy_from_slice(&socket.port().to_be_bytes());
            XxHash64::oneshot(seed, &bytes[..length + 2])
        }
        EndpointAddress::Name(host, port) => {
            let bytes = [host.as_bytes(), &port.to_be_bytes()].concat();
            XxHash64::oneshot(seed, &bytes)
        }
    }
}
