//! The tables of one set of endpoints: over all of them, and over those in service.
//!
//! envoy thread_aware_lb_impl refresh: when an endpoint's health changes, tables are built anew over the healthy hosts;
//! in panic mode over all. Here a pick notices that the table it has is of another moment, has a new one made beside
//! the requests, and goes on with the old one, past endpoints that must not be chosen. When endpoints come or go it is the
//! same: the [table before](Before) serves until there is one over those of now.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;

use super::{
    BoundedLoad, ConsistentHash, HashTable,
    line::{Before, Line, Made},
    table::{Places, Table, weight},
};
use crate::{Member, members::Members};

/// The tables over one set of members.
pub(crate) struct Tables {
    table: HashTable,
    bound: Option<BoundedLoad>,
    members: Members,
    places: Option<Places>,
    /// `None` until it is made.
    all: OnceLock<Arc<Made>>,
    /// Until then.
    before: ArcSwapOption<Before>,
    line: Arc<Line>,
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
            all: OnceLock::new(),
            before: ArcSwapOption::empty(),
            line: Arc::default(),
            places,
            in_service: ArcSwapOption::empty(),
            building: AtomicBool::new(false),
        })
    }

    /// Go on from the tables before, while the one over these members is made beside the requests. Where there is nothing
    /// to go on with, it is made here and now.
    pub(crate) fn follow(self: &mut Arc<Self>, before: Option<&Arc<Self>>) {
        let before = before.filter(|before| before.table == self.table);
        let made = before.and_then(|before| Some((before, before.last()?)));
        match (made, Arc::get_mut(self)) {
            (Some((before, made)), Some(tables)) => {
                tables.line = Arc::clone(&before.line);
                tables.before.store(Some(Arc::new(Before::new(made, &tables.members))));
                Line::want(self);
            }
            _ => drop(self.make()),
        }
    }

    /// The one that picks go by: over these members, or others before.
    fn last(&self) -> Option<Arc<Made>> {
        self.all.get().cloned().or_else(|| self.before.load().as_ref().map(|before| Arc::clone(before.made())))
    }

    /// The table over all members, made by whoever comes first.
    pub(super) fn make(&self) -> &Arc<Made> {
        let made = self.all.get_or_init(|| {
            let table = Table::new(self.table, &self.members, self.places.as_ref(), |_| true);
            Arc::new(Made { members: self.members.clone(), table })
        });
        self.before.store(None);
        made
    }

    pub(crate) fn is_made(&self) -> bool {
        self.all.get().is_some()
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// The member for a hash: the table's choice, or else the next that is allowed and has room.
    pub(crate) fn pick(self: &Arc<Self>, lookup: Lookup, allowed: impl Fn(&Member) -> bool) -> Option<Arc<Member>> {
        let Some(ejections) = lookup.ejections else { return self.pick_of_all(lookup, allowed) };
        let mut current = self.in_service.load();
        if !current.as_ref().is_some_and(|current| current.is_of(ejections)) {
            self.build(ejections);
            current = self.in_service.load();
        }
        match current.as_ref() {
            Some(current) => self.look_up(&current.table, Some, lookup, allowed),
            None => self.pick_of_all(lookup, allowed),
        }
    }

    /// The table's choice, where there is a table and nothing else to ask.
    #[inline]
    pub(crate) fn pick_freely(&self, hash: u64) -> Option<&Arc<Member>> {
        let made = self.all.get().filter(|_| self.bound.is_none())?;
        Some(made.members.at(made.table.pick(hash, 0)?))
    }

    /// By the table over all, or the one before it; past those who have left since.
    fn pick_of_all(self: &Arc<Self>, lookup: Lookup, allowed: impl Fn(&Member) -> bool) -> Option<Arc<Member>> {
        if let Some(made) = self.all.get() {
            return self.look_up(&made.table, Some, lookup, allowed);
        }
        match &*self.before.load() {
            Some(before) => {
                Line::want_still(self);
                self.look_up(&before.made().table, |index| before.now(index), lookup, allowed)
            }
            None => self.look_up(&self.make().table, Some, lookup, allowed),
        }
    }

    /// `now` says who is meant by a number of the table's.
    fn look_up(
        &self,
        table: &Table,
        now: impl Fn(usize) -> Option<usize>,
        lookup: Lookup,
        allowed: impl Fn(&Member) -> bool,
    ) -> Option<Arc<Member>> {
        let Lookup { hash, in_flight, .. } = lookup;
        let has_room = |member: &Member| {
            self.bound.is_none_or(|bound| bound.admits(member.in_flight(), in_flight, weight(member), table.weights))
        };
        // envoy Ring::chooseHost: "If a retry host predicate is being applied, behave as if this host was not in the
        // ring."
        for index in (0..ATTEMPTS).map_while(|attempt| table.pick(hash, attempt)).filter_map(now) {
            let member = self.members.at(index);
            if allowed(member) && has_room(member) {
                return Some(Arc::clone(member));
            }
        }
        let found = self.go_through(hash, |member| allowed(member) && has_room(member)).or_else(|| {
            // Loads that come from the service's other clusters can fill every place: then the least loaded.
            self.bound.and_then(|_| self.least_loaded(&allowed))
        });
        found.map(|index| Arc::clone(self.members.at(index)))
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
            .field("made", &self.is_made())
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
