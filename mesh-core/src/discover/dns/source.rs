//! DNS as a source of endpoints.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{
    expand::{expand, steps},
    listener::Listener,
    names::{Name, Names},
};
use crate::{
    Endpoint, EndpointAddress,
    discover::{Discover, Update, Updates, Wanted},
    registry::Resolve,
};

/// Looks up the names among a service's endpoints, again and again, and tells the endpoints that they stand for.
///
/// A name is looked up once for all services and ports that want it, from the first subscription to the end of the last.
/// Who subscribes is within a tokio runtime.
///
/// What is found carries on what the registry says of the endpoint with the name: labels, weight, locality, identity. Nothing
/// is told of endpoints that have addresses. A service without names has nothing to look up: [`Update::Gone`].
#[derive(Clone, Debug)]
pub struct DnsSource(Arc<Names>);

impl DnsSource {
    /// Looks up names with this resolver.
    #[must_use]
    pub fn new(resolve: Arc<dyn Resolve>) -> Self {
        Self(Names::new(resolve))
    }

    /// How many names are followed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Discover for DnsSource {
    fn subscribe(&self, wanted: &Wanted) -> Updates {
        let is_name = |endpoint: &&Arc<Endpoint>| matches!(endpoint.address, EndpointAddress::Name(..));
        let named: Vec<_> = wanted.named.iter().filter(is_name).cloned().collect();
        let mut subscription = Subscription {
            names: Arc::clone(&self.0),
            queue: if named.is_empty() { [Update::Gone].into() } else { VecDeque::new() },
            named,
            listener: Arc::new(Listener::new()),
            followed: HashMap::new(),
            told: None,
        };
        // At once: a name of which a subscription ends while another begins goes on.
        subscription.look();
        Box::pin(subscription)
    }
}

/// What one service's port is told.
#[derive(Debug)]
struct Subscription {
    names: Arc<Names>,
    named: Vec<Arc<Endpoint>>,
    listener: Arc<Listener>,
    followed: HashMap<Arc<str>, Arc<Name>>,
    told: Option<Vec<Arc<Endpoint>>>,
    queue: VecDeque<Update>,
}

impl Subscription {
    /// Work out the endpoints anew, and what to tell of them. Names that are targets of service records come and go with
    /// the records.
    fn look(&mut self) {
        let Self { names, listener, followed, .. } = self;
        let mut wanted = HashSet::new();
        let expanded = expand(&self.named, |name| {
            let followed = followed.entry(Arc::clone(name)).or_insert_with_key(|name| names.follow(name, listener));
            wanted.insert(Arc::clone(name));
            followed.known()
        });
        followed.retain(|name, _| wanted.contains(name));
        let Some(endpoints) = expanded else { return };
        match &self.told {
            Some(told) => self.queue.extend(steps(told, &endpoints)),
            None => self.queue.push_back(Update::Reset(endpoints.clone())),
        }
        self.told = Some(endpoints);
    }
}

impl Stream for Subscription {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        loop {
            if let Some(update) = self.queue.pop_front() {
                return Poll::Ready(Some(update));
            }
            if !self.listener.changed(cx.waker()) {
                return Poll::Pending;
            }
            self.look();
        }
    }
}
