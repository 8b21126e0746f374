//! Passthrough: the endpoint is the address that a request names.
//!
//! There is no list to choose from, but there are members: a connection pool hangs on one, so the same address
//! has to find the same member again. They are kept in a map that is copied when an address is new, and read
//! without a lock.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, Uri, header::HOST, uri::Authority};
use mesh_core::{Endpoint, EndpointAddress};

use crate::{Member, member::Loads};

/// Addresses kept at a time; beyond it those without requests in flight go.
const MAX_ADDRESSES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Dialled {
    by_host: ArcSwap<HashMap<Box<str>, Vec<Address>>>,
    adding: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Address {
    port: u16,
    https: bool,
    member: Arc<Member>,
}

impl Dialled {
    /// The member for the request's authority, or else its Host header, or the other way round; the port defaults to 443
    /// for `https` and 80 otherwise.
    pub(super) fn member(&self, uri: &Uri, headers: &HeaderMap, by_header: bool, loads: &Loads) -> Option<Arc<Member>> {
        let https = uri.scheme_str() == Some("https");
        let named;
        let authority = match (uri.authority(), headers.get(HOST)) {
            (Some(authority), header) if !by_header || header.is_none() => authority,
            (_, Some(header)) => {
                named = Authority::try_from(header.as_bytes()).ok()?;
                &named
            }
            (_, None) => return None,
        };
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let lower;
        let host = match authority.host() {
            "" => return None,
            host if host.bytes().any(|b| b.is_ascii_uppercase()) => {
                lower = host.to_ascii_lowercase();
                &lower
            }
            host => host,
        };
        Some(self.find(host, port, https).unwrap_or_else(|| self.add(host, port, https, loads)))
    }

    fn find(&self, host: &str, port: u16, https: bool) -> Option<Arc<Member>> {
        let by_host = self.by_host.load();
        let addresses = by_host.get(host)?;
        let address = addresses.iter().find(|address| address.port == port && address.https == https)?;
        Some(Arc::clone(&address.member))
    }

    fn add(&self, host: &str, port: u16, https: bool, loads: &Loads) -> Arc<Member> {
        let _one = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = self.find(host, port, https) {
            return member;
        }
        let endpoint = Endpoint::new(EndpointAddress::new(host, port));
        let load = loads.of(&endpoint.address);
        let member = Member::new(Arc::new(endpoint), load);
        let mut by_host = HashMap::clone(&self.by_host.load());
        if by_host.values().map(Vec::len).sum::<usize>() >= MAX_ADDRESSES {
            by_host.retain(|_, addresses| {
                addresses.retain(|address| address.member.in_flight() > 0);
                !addresses.is_empty()
            });
            loads.forget_unused();
        }
        by_host.entry(host.into()).or_default().push(Address { port, https, member: Arc::clone(&member) });
        self.by_host.store(Arc::new(by_host));
        member
    }
}
