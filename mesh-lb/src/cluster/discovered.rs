//! What is known of the endpoints of one port of a service: what the registry names, and what sources beside it say.

use std::sync::Arc;

use mesh_core::{
    Endpoint, EndpointAddress,
    discover::{Interest, Merged, Update, Wanted},
    registry::Resolution,
};
use tokio::sync::mpsc;

use super::set::Entry;

/// Who says something of a service's endpoints. The registry's documents stand between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The source of this number among those that were given: the first knows best, and all know better than documents.
    Given(usize),
    /// Who looks up the names among the registry's endpoints.
    Names,
}

/// Which sources there are beside the registry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sources {
    given: usize,
    names: bool,
}

/// A port of a service that requests want, to be followed from now on.
#[derive(Clone, Debug)]
pub struct Want {
    pub(super) key: Key,
    /// What requests and the follower tell each other.
    pub interest: Arc<Interest>,
}

pub(super) type Key = (Arc<str>, u16);

impl Want {
    /// The service's host, and the port that callers use.
    #[must_use]
    pub fn service(&self) -> (&str, u16) {
        (&self.key.0, self.key.1)
    }
}

/// The services that requests begin to want, in the order in which they do.
#[derive(Debug)]
pub struct Wants(mpsc::UnboundedReceiver<Want>);

impl Wants {
    /// The next one; `None` when nobody is left to want any.
    pub async fn next(&mut self) -> Option<Want> {
        self.0.recv().await
    }
}

/// How a cluster says that a request wants it.
#[derive(Clone, Debug)]
pub(super) struct Door {
    want: Want,
    wants: mpsc::UnboundedSender<Want>,
}

impl Door {
    /// At most one message for each time that the service is begun to be followed.
    #[inline]
    pub(super) fn want(&self) {
        if self.want.interest.want() {
            self.knock();
        }
    }

    #[cold]
    fn knock(&self) {
        // Nobody follows any more: the mesh is ending.
        let _ = self.wants.send(self.want.clone());
    }

    pub(super) fn interest(&self) -> &Arc<Interest> {
        &self.want.interest
    }
}

impl Sources {
    pub(super) fn new(given: usize, names: bool) -> (Self, Wants, mpsc::UnboundedSender<Want>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { given, names }, Wants(receiver), sender)
    }

    fn documents(self) -> usize {
        self.given
    }

    fn names(self) -> usize {
        self.given + 1
    }

    fn slot(self, origin: Origin) -> Option<usize> {
        match origin {
            Origin::Given(source) => (source < self.given).then_some(source),
            Origin::Names => Some(self.names()),
        }
    }
}

/// What is known of one port, from one configuration to the next.
#[derive(Debug)]
pub(super) struct Found {
    sources: Sources,
    named: Vec<Arc<Endpoint>>,
    resolution: Resolution,
    /// `None` while only the registry has spoken: its endpoints are in force as they stand.
    merged: Option<Merged>,
    door: Option<Arc<Door>>,
    /// The port's cluster and those of its subsets.
    pub(super) entries: Vec<Entry>,
}

impl Found {
    pub(super) fn new(
        key: &Key,
        named: Vec<Arc<Endpoint>>,
        resolution: Resolution,
        sources: Sources,
        wants: Option<&mpsc::UnboundedSender<Want>>,
    ) -> Self {
        let door = wants.filter(|_| match resolution {
            // The endpoint is where the request says.
            Resolution::None => false,
            Resolution::Dns => sources.names || sources.given > 0,
            Resolution::Static | Resolution::DnsRoundRobin => sources.given > 0,
        });
        let door = door.map(|wants| {
            let want = Want { key: key.clone(), interest: Arc::default() };
            Arc::new(Door { want, wants: wants.clone() })
        });
        Self { sources, named, resolution, merged: None, door, entries: Vec::new() }
    }

    pub(super) fn resolution(&self) -> Resolution {
        self.resolution
    }

    pub(super) fn named(&self) -> &[Arc<Endpoint>] {
        &self.named
    }

    pub(super) fn door(&self) -> Option<&Arc<Door>> {
        self.door.as_ref()
    }

    pub(super) fn is(&self, want: &Want) -> bool {
        self.door.as_ref().is_some_and(|door| Arc::ptr_eq(door.interest(), &want.interest))
    }

    /// Is it looked up, and its addresses used in its place?
    fn is_looked_up(&self, endpoint: &Endpoint) -> bool {
        self.resolution == Resolution::Dns && matches!(endpoint.address, EndpointAddress::Name(..))
    }

    fn names(&self) -> Vec<Arc<Endpoint>> {
        self.named.iter().filter(|endpoint| self.is_looked_up(endpoint)).cloned().collect()
    }

    /// What to ask sources: names that stay names are not for them.
    pub(super) fn wanted(&self) -> Wanted {
        let (host, port) = self.door.as_ref().map(|door| door.want.key.clone()).unwrap_or_default();
        let asked = |endpoint: &&Arc<Endpoint>| {
            matches!(endpoint.address, EndpointAddress::Socket(_)) || self.is_looked_up(endpoint)
        };
        Wanted::new(host, port, self.named.iter().filter(asked).cloned().collect::<Vec<_>>())
    }

    /// The registry names others now.
    pub(super) fn rename(&mut self, named: Vec<Arc<Endpoint>>) {
        if self.named == named {
            return;
        }
        let before = self.names();
        self.named = named;
        let names = self.names();
        if before != names {
            let (was, is) = (addresses(&before), addresses(&names));
            if let Some(merged) = &mut self.merged
                && was != is
            {
                // An answer to a question that nobody asks any more.
                merged.update(self.sources.names(), Update::Gone);
            }
            if let Some(door) = &self.door {
                door.interest().ask_otherwise();
            }
        }
        if self.merged.is_some() {
            self.tell_documents();
        }
    }

    /// The registry's part of what is merged: what stands as it is, and the names that have not been looked up.
    fn tell_documents(&mut self) {
        let (names, stand): (Vec<_>, Vec<_>) =
            self.named.iter().cloned().partition(|endpoint| self.is_looked_up(endpoint));
        let sources = self.sources;
        let merged = self.merged.get_or_insert_with(|| Merged::new(sources.given + 2));
        merged.update(sources.documents(), Update::Reset(stand));
        merged.stand_in(sources.names(), names);
    }

    /// Take in what somebody says. `None` when nothing changes with it.
    pub(super) fn take(&mut self, origin: Origin, update: Update) -> Option<Update> {
        let slot = self.sources.slot(origin)?;
        if self.merged.is_none() {
            if update == Update::Gone {
                return None;
            }
            self.tell_documents();
        }
        self.merged.as_mut()?.update(slot, update)
    }

    /// The endpoints in force.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.merged.as_ref().map_or_else(|| self.named.clone(), Merged::endpoints)
    }
}

impl Drop for Found {
    /// The service is gone: whoever follows it finds out, and nobody waits for it.
    fn drop(&mut self) {
        if let Some(door) = &self.door {
            door.interest().ask_otherwise();
            door.interest().answered();
        }
    }
}

fn addresses(endpoints: &[Arc<Endpoint>]) -> Vec<&EndpointAddress> {
    endpoints.iter().map(|endpoint| &endpoint.address).collect()
}

#[cfg(test)]
mod tests;
