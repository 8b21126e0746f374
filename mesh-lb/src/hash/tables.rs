//! The tables of one set of endpoints: over all of them, and over those in service.
//!
//! envoy thread_aware_lb_impl refresh: when an endpoint's health changes, tables are built anew over the healthy hosts;
//! in panic mode over all. Here a pick notices that the table it has is of another moment, has a new one made beside
//! the requests, and goes on with the old one, past endpoints that must not be chosen.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;

use super::{
    BoundedLoad, ConsistentHash, HashTable,
    table::{Places, Table, weight},
};
use crate::{Member, members::Members};

/// The tables over one set of members.
pub(crate) struct Tables {
    table: HashTable,
    bound: Option<BoundedLoad>,
    members: Members,
    places: Option<Places>,
    all: Table,
    in_service: ArcSwapOption<InService>,
    building: AtomicBool,
}

/// Ejections as one pick sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ejections {
    /// Time since the cluster's epoch, in nanoseconds.
    pub(crate) at: u64,
    /// Ejections so far.
    pub(crate) count: u64,
}

/// A table, and how long it is right.
struct InService {
    table: Table,
    /// The ejections that it knows of.
    ejections: u64,
    /// When the next of those that it leaves out comes back.
    until: u64,
}

/// A request looking for its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    pub(crate) hash: u64,
    /// Where ejections matter.
    pub(crate) ejections: Option<Ejections>,
    /// Requests that the cluster has in flight.
    pub(crate) in_flight: u32,
}

/// Places looked at in the order of the table, before all members are gone through. Envoy looks at six.
const ATTEMPTS: usize = 64;

impl Tables {
    pub(crate) fn new(policy: &ConsistentHash, members: &Members, places: Option<Places>) -> Arc<Self> {
        Arc::new(Self {
            table: policy.table(),
            bound: policy.bounded_load(),
            members: members.clone(),
            all: Table::new(policy.table(), members, places.as_ref(), |_| true),
            places,
            in_service: ArcSwapOption::empty(),
            building: AtomicBool::new(false),
        })
    }

    /// The member for a hash: the table's choice, or else the next that is allowed and has room.
    pub(crate) fn pick(self: &Arc<Self>, lookup: Lookup, allowed: impl Fn(&Member) -> bool) -> Option<usize> {
        let Some(ejections) = lookup.ejections else { return self.look_up(&self.all, lookup, allowed) };
        let mut current = self.in_service.load();
        if !current.as_ref().is_some_and(|current| current.is_of(ejections)) {
            self.build(ejections);
            current = self.in_service.load();
        }
        self.look_up(current.as_ref().map_or(&self.all, |current| &current.table), lookup, allowed)
    }

    fn look_up(&self, table: &Table, lookup: Lookup, allowed: impl Fn(&Member) -> bool) -> Option<usize> {
        let Lookup { hash, in_flight, .. } = lookup;
        let has_room = |member: &Member| {
            self.bound.is_none_or(|bound| bound.admits(member.in_flight(), in_flight, weight(member), table.weights))
        };
        // envoy Ring::chooseHost: "If a retry host predicate is being applied, behave as if this host was not in the
        // ring."
        for index in (0..ATTEMPTS).map_while(|attempt| table.pick(hash, attempt)) {
            let member = self.members.at(index);
            if allowed(member) && has_room(member) {
                return Some(index);
            }
        }
        self.go_through(hash, |member| allowed(member) && has_room(member)).or_else(|| {
            // Loads that come from the service's other clusters can fill every place: then the least loaded.
            self.bound.and_then(|_| self.least_loaded(allowed))
        })
    }

    /// All members, from one that the hash decides: an order that is the same for the same key.
    fn go_through(&self, hash: u64, allowed: impl Fn(&Member) -> bool) -> Option<usize> {
        let count = self.members.len();
        // Below the length, which is a usize.
        let from = (hash % count.max(1) as u64) as usize;
        (from..count).chain(0..from).find(|index| allowed(self.members.at(*index)))
    }

    fn least_loaded(&self, allowed: impl Fn(&Member) -> bool) -> Option<usize> {
        let each = self.members.iter().enumerate().filter(|(_, member)| allowed(member));
        // a / b < c / d: a * d < c * b.
        let load = |member: &Member, other: &Member| u64::from(member.in_flight()) * u64::from(weight(other));
        let least = each.min_by(|(_, a), (_, b)| load(a, b).cmp(&load(b, a)))?;
        Some(least.0)
    }

    /// Have a table made for this moment, unless one is being made: by tokio's threads for work that takes long, or
    /// here and now where there is no tokio.
    fn build(self: &Arc<Self>, ejections: Ejections) {
        if self.building.swap(true, Ordering::AcqRel) {
            return;
        }
        let build = Build { tables: Arc::clone(self), ejections };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || build.run())),
            Err(_) => build.run(),
        }
    }
}

impl InService {
    fn is_of(&self, ejections: Ejections) -> bool {
        self.ejections == ejections.count && ejections.at < self.until
    }
}

/// A table in the making; when it is dropped, another may be made.
struct Build {
    tables: Arc<Tables>,
    ejections: Ejections,
}

impl Build {
    fn run(self) {
        let Ejections { at, count } = self.ejections;
        let tables = &self.tables;
        let back = |member: &Member| member.detector().ejected_until();
        let until = tables.members.iter().map(|member| back(member)).filter(|back| *back > at).min();
        let table = Table::new(tables.table, &tables.members, tables.places.as_ref(), |member| back(member) <= at);
        let in_service = InService { table, ejections: count, until: until.unwrap_or(u64::MAX) };
        tables.in_service.store(Some(Arc::new(in_service)));
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.tables.building.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables")
            .field("table", &self.table)
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
