//! Endpoints from code: whoever knows them says so, in the process that calls them.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::{Discover, Update, Updates, Wanted, ordered::Ordered};
use crate::{Endpoint, EndpointAddress};

/// A source whose endpoints are given in code. Clones are the same source.
///
/// What is said is in effect as soon as the task that follows the service has run: no timer stands in between. Hosts are those of the registry: in full and in lower case
/// (`reviews.default.svc.cluster.local`).
///
/// ```
/// use mesh_core::{Endpoint, EndpointAddress, discover::Published};
/// let published = Published::new();
/// let host = "db.example.com";
/// published.set(host, 5432, ["10.0.0.1", "10.0.0.2"].map(|ip| Endpoint::new(EndpointAddress::new(ip, 5432))));
/// published.add(host, 5432, Endpoint::new(EndpointAddress::new("10.0.0.3", 5432)).with_weight(2));
/// published.remove(host, 5432, &EndpointAddress::new("10.0.0.1", 5432));
/// assert_eq!(published.endpoints(host, 5432).len(), 2);
/// ```
#[derive(Clone, Default)]
pub struct Published(Arc<Mutex<HashMap<Key, Service>>>);

type Key = (Arc<str>, u16);

#[derive(Default)]
struct Service {
    /// `None`: nothing is said.
    endpoints: Option<Ordered>,
    followers: Vec<Weak<Mutex<Mailbox>>>,
}

/// What a follower has not taken yet.
#[derive(Default)]
struct Mailbox {
    updates: VecDeque<Update>,
    waker: Option<Waker>,
}

impl Published {
    /// Nothing is said of any service.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These are all the endpoints of a service's port. None is an answer too: requests get 503 `UH`, unless another
    /// source knows better.
    pub fn set(&self, host: &str, port: u16, endpoints: impl IntoIterator<Item = Endpoint>) {
        let endpoints = Ordered::new(endpoints.into_iter().map(Arc::new));
        self.say(host, port, |service| {
            let update = Update::Reset(endpoints.to_vec());
            service.endpoints = Some(endpoints);
            Some(update)
        });
    }

    /// One more, or a newer description of the one at its address.
    pub fn add(&self, host: &str, port: u16, endpoint: Endpoint) {
        let endpoint = Arc::new(endpoint);
        self.say(host, port, |service| {
            let first = service.endpoints.is_none();
            let before = service.endpoints.get_or_insert_default().put(Arc::clone(&endpoint));
            match first {
                true => Some(Update::Reset(vec![endpoint])),
                false => (before.as_ref() != Some(&endpoint)).then_some(Update::Add(endpoint)),
            }
        });
    }

    /// One less. Requests in flight to it go on.
    pub fn remove(&self, host: &str, port: u16, address: &EndpointAddress) {
        self.say(host, port, |service| {
            service.endpoints.as_mut()?.remove(address)?;
            Some(Update::Remove(address.clone()))
        });
    }

    /// Say nothing of this service any more: other sources do.
    pub fn withdraw(&self, host: &str, port: u16) {
        self.say(host, port, |service| service.endpoints.take().map(|_| Update::Gone));
    }

    /// What is said of a service's port now.
    #[must_use]
    pub fn endpoints(&self, host: &str, port: u16) -> Vec<Arc<Endpoint>> {
        let services = self.services();
        let service = services.get(&(Arc::from(host), port));
        service.and_then(|service| service.endpoints.as_ref()).map(Ordered::to_vec).unwrap_or_default()
    }

    fn say(&self, host: &str, port: u16, change: impl FnOnce(&mut Service) -> Option<Update>) {
        let mut services = self.services();
        let key = (host.into(), port);
        let service = services.entry(Key::clone(&key)).or_default();
        let update = change(service);
        let Service { endpoints, followers } = service;
        followers.retain(|follower| {
            let Some(mailbox) = follower.upgrade() else { return false };
            if let Some(update) = &update {
                mailbox.lock().unwrap_or_else(PoisonError::into_inner).push(update, endpoints.as_ref());
            }
            true
        });
        // Of a service that nobody speaks of or follows nothing is kept: names may come and go without end.
        if endpoints.is_none() && followers.is_empty() {
            services.remove(&key);
        }
    }

    fn services(&self) -> MutexGuard<'_, HashMap<Key, Service>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("services", &self.services().len()).finish_non_exhaustive()
    }
}

/// All that is known, as a first step.
fn all(endpoints: Option<&Ordered>) -> Update {
    endpoints.map_or(Update::Gone, |endpoints| Update::Reset(endpoints.to_vec()))
}

impl Mailbox {
    fn push(&mut self, update: &Update, endpoints: Option<&Ordered>) {
        // Steps that say more than the whole is long: a follower that sleeps costs no more than one copy.
        if self.updates.len() > 64 + endpoints.map_or(0, Ordered::len) {
            self.updates.clear();
            self.updates.push_back(all(endpoints));
        } else {
            self.updates.push_back(update.clone());
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Discover for Published {
    fn subscribe(&self, wanted: &Wanted) -> Updates {
        let mut services = self.services();
        let service = services.entry((Arc::clone(&wanted.host), wanted.port)).or_default();
        let updates = VecDeque::from([all(service.endpoints.as_ref())]);
        let mailbox = Arc::new(Mutex::new(Mailbox { updates, waker: None }));
        service.followers.retain(|follower| follower.strong_count() > 0);
        service.followers.push(Arc::downgrade(&mailbox));
        Box::pin(Following { mailbox })
    }
}

struct Following {
    mailbox: Arc<Mutex<Mailbox>>,
}

impl Stream for Following {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        match mailbox.updates.pop_front() {
            Some(update) => Poll::Ready(Some(update)),
            None => {
                mailbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "db.test";

    fn endpoint(n: u32) -> Endpoint {
        Endpoint::new(EndpointAddress::Socket((std::net::Ipv4Addr::from(n), 80).into()))
    }

    /// All that is there without waiting.
    fn taken(updates: &mut Updates) -> Vec<Update> {
        let mut cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match updates.as_mut().poll_next(&mut cx) {
            Poll::Ready(update) => update,
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn a_follower_hears_the_whole_and_then_each_step() {
        let published = Published::new();
        let mut early = published.subscribe(&Wanted::new(HOST, 80, []));
        assert_eq!(taken(&mut early), [Update::Gone]);
        published.add(HOST, 80, endpoint(1));
        published.add(HOST, 81, endpoint(9));
        published.add(HOST, 80, endpoint(2));
        published.add(HOST, 80, endpoint(2));
        let (one, two) = (Arc::new(endpoint(1)), Arc::new(endpoint(2)));
        assert_eq!(taken(&mut early), [Update::Reset(vec![Arc::clone(&one)]), Update::Add(Arc::clone(&two))]);
        let mut late = published.subscribe(&Wanted::new(HOST, 80, []));
        assert_eq!(taken(&mut late), [Update::Reset(vec![one, two])]);
        published.remove(HOST, 80, &endpoint(1).address);
        published.remove(HOST, 80, &endpoint(1).address);
        published.withdraw(HOST, 80);
        published.withdraw(HOST, 80);
        assert_eq!(taken(&mut early), [Update::Remove(endpoint(1).address), Update::Gone]);
        assert_eq!(taken(&mut late), [Update::Remove(endpoint(1).address), Update::Gone]);
    }

    #[test]
    fn a_follower_that_sleeps_hears_the_whole_again() {
        let published = Published::new();
        published.set(HOST, 80, (0..10).map(endpoint));
        let mut updates = published.subscribe(&Wanted::new(HOST, 80, []));
        for n in 0..100_000 {
            published.remove(HOST, 80, &endpoint(n).address);
            published.add(HOST, 80, endpoint(n + 10));
        }
        let updates = taken(&mut updates);
        assert!(updates.len() < 100, "{}", updates.len());
        let mut merged = super::super::Merged::new(1);
        for update in updates {
            merged.update(0, update);
        }
        assert_eq!(merged.endpoints(), published.endpoints(HOST, 80));
        assert_eq!(merged.endpoints().len(), 10);
    }

    /// Services that come and go, each under a name of its own, leave nothing behind.
    #[test]
    fn what_was_withdrawn_costs_nothing() {
        let published = Published::new();
        for n in 0..100 {
            let host = format!("{n}.test");
            published.remove(&host, 80, &endpoint(1).address);
            published.set(&host, 80, [endpoint(1)]);
            drop(published.subscribe(&Wanted::new(&*host, 80, [])));
            published.withdraw(&host, 80);
        }
        assert_eq!(published.services().len(), 0);
        // One who follows hears of what is said later.
        let mut updates = published.subscribe(&Wanted::new(HOST, 80, []));
        published.withdraw(HOST, 80);
        published.set(HOST, 80, [endpoint(1)]);
        assert_eq!(taken(&mut updates), [Update::Gone, Update::Reset(vec![Arc::new(endpoint(1))])]);
    }

    #[test]
    fn a_subscription_that_was_dropped_costs_nothing() {
        let published = Published::new();
        for _ in 0..3 {
            drop(published.subscribe(&Wanted::new(HOST, 80, [])));
        }
        published.add(HOST, 80, endpoint(1));
        assert_eq!(published.services()[&(Arc::from(HOST), 80)].followers.len(), 0);
    }
}
