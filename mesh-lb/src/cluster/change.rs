//! How a cluster's endpoints change: all of them at once, or a few of many.
//!
//! One change at a time; picks go on with the snapshot before until the new one is whole. Where one endpoint of ten
//! thousand comes or goes, all that is made anew is one piece of the list and what its level works out from it.

use std::sync::{Arc, PoisonError};

use mesh_core::{Endpoint, clock, discover::Update};

use super::{Cluster, index::Index, levels::Step, nanos, snapshot::Snapshot};
use crate::{
    Member,
    members::{Edit, Members},
};

impl Cluster {
    /// Replace its endpoints. Members that stay keep their state; picks go on meanwhile.
    ///
    /// For a cluster of a [`ClusterSet`](crate::ClusterSet), [`Clusters::set_endpoints`](crate::Clusters::set_endpoints)
    /// does this for every subset, and remembers.
    pub fn set_endpoints(&self, endpoints: Vec<Arc<Endpoint>>) {
        let mut index = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        *index = None;
        let before = self.0.endpoints.load();
        let members = self.join(&before.members, true, endpoints);
        self.replace(&members, || Snapshot::new(members.clone(), &self.0.policy));
    }

    /// Take steps of discovery: what they cost grows with what changed, not with how many endpoints there are.
    ///
    /// An endpoint that is added comes last, or in the place of the one at its address. After removals the order of
    /// [`endpoints`](Self::endpoints) is that of the list only where it has a meaning: for round robin and consistent
    /// hashing. [`Gone`](Update::Gone) is no endpoint.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, discover::Update};
    /// # let name = ClusterName { service: ServiceName::of_host("a", "b"), port: 80, subset: None };
    /// let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|ip| Arc::new(Endpoint::new(EndpointAddress::new(ip, 9080))));
    /// let cluster = mesh_lb::Cluster::new(name, Default::default(), vec![Arc::clone(&a)]);
    /// cluster.apply([Update::Add(Arc::clone(&b)), Update::Remove(a.address.clone())]);
    /// assert_eq!(cluster.endpoints(), [b]);
    /// ```
    pub fn apply(&self, updates: impl IntoIterator<Item = Update>) {
        let mut index = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.0.endpoints.load_full();
        // Not there in the meantime: where `updates` panics, the index is of a list that nobody has.
        let known = index.take().unwrap_or_else(|| Index::of(&before.members));
        let mut change = Change { cluster: self, list: before.members.edit(), index: known, steps: Some(Vec::new()) };
        updates.into_iter().for_each(|update| change.take(update));
        let (members, steps) = (change.list.finish(), change.steps);
        *index = Some(change.index);
        match steps {
            Some(steps) if steps.is_empty() => {}
            Some(steps) => self.replace(&members, || before.after(members.clone(), &steps, &self.0.policy)),
            None => self.replace(&members, || Snapshot::new(members.clone(), &self.0.policy)),
        }
    }

    /// The lock is held.
    fn replace(&self, members: &Members, make: impl FnOnce() -> Snapshot) {
        let marks = self.0.policy.health_check.as_ref().map(|_| true);
        self.0.endpoints.store(self.0.shared.mark_and_publish(marks, members, &self.0.policy, make));
    }

    fn join(&self, known: &Members, same_peers: bool, endpoints: Vec<Arc<Endpoint>>) -> Members {
        let now = nanos(self.0.shared.since_epoch(clock::now()));
        super::snapshot::join(known, same_peers, endpoints, &self.0.loads, now)
    }
}

/// Steps that are being taken.
struct Change<'a> {
    cluster: &'a Cluster,
    list: Edit,
    index: Index,
    /// `None`: all is new.
    steps: Option<Vec<Step>>,
}

impl Change<'_> {
    fn take(&mut self, update: Update) {
        match update {
            Update::Reset(endpoints) => self.reset(endpoints),
            Update::Gone => self.reset(Vec::new()),
            Update::Add(endpoint) => self.add(endpoint),
            Update::Remove(address) => {
                while let Some(position) = self.index.find(&address, &self.list) {
                    self.remove(position);
                }
            }
            // Steps that are yet to be named.
            _ => {}
        }
    }

    fn reset(&mut self, endpoints: Vec<Arc<Endpoint>>) {
        let list = std::mem::replace(&mut self.list, Members::default().edit()).finish();
        let members = self.cluster.join(&list, true, endpoints);
        self.index = Index::of(&members);
        self.list = members.edit();
        self.steps = None;
    }

    fn add(&mut self, endpoint: Arc<Endpoint>) {
        let Some(position) = self.index.find(&endpoint.address, &self.list) else {
            let now = nanos(self.cluster.0.shared.since_epoch(clock::now()));
            let load = self.cluster.0.loads.of(&endpoint.address);
            let member = Member::known_since(now, endpoint, load);
            self.list.push(Arc::clone(&member));
            self.index.insert(self.list.len() - 1, &self.list);
            self.note(None, Some(member));
            return;
        };
        let before = Arc::clone(self.list.at(position));
        let member = before.succeed(endpoint, true);
        if !Arc::ptr_eq(&before, &member) {
            self.list.replace(position, Arc::clone(&member));
            self.note(Some(before), Some(member));
        }
    }

    fn remove(&mut self, position: usize) {
        let member = Arc::clone(self.list.at(position));
        let ordered = self.cluster.0.policy.load_balancer.is_ordered();
        self.index.take_out(position, ordered, &self.list);
        self.list.take_out(position, ordered);
        self.note(Some(member), None);
    }

    fn note(&mut self, before: Option<Arc<Member>>, after: Option<Arc<Member>>) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step { before, after });
        }
    }
}

#[cfg(test)]
mod tests;
