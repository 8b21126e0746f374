//! Levels after a few steps: those on which something changed are made anew, the others go on.

use std::{collections::BTreeMap, sync::Arc};

use super::{Level, Levels};
use crate::{
    ClusterPolicy, LoadBalancer, LocalityPolicy, Member,
    members::{Edit, Members},
};

/// One endpoint that came, left, or is described in another way.
#[derive(Debug)]
pub(in crate::cluster) struct Step {
    pub(in crate::cluster) before: Option<Arc<Member>>,
    pub(in crate::cluster) after: Option<Arc<Member>>,
}

impl Levels {
    /// Over `members`, to which these steps led. `None` where each endpoint's place depends on the others, or a level has a
    /// table or a pool of its own number.
    pub(in crate::cluster) fn after(&self, members: &Members, steps: &[Step], policy: &ClusterPolicy) -> Option<Self> {
        let Some(locality) = policy.locality.as_ref().filter(|locality| locality.ranks()) else {
            return Some(Self::of([Arc::new(Level::of(members, policy))].into()));
        };
        let whole = matches!(policy.load_balancer, LoadBalancer::ConsistentHash(_) | LoadBalancer::Prequal(_));
        if whole || members.is_empty() {
            return None;
        }
        let mut levels = BTreeMap::new();
        for level in &self.levels {
            levels.insert(level.rank?, Successor { level: Some(level), list: None });
        }
        for step in steps {
            step.take(locality, policy.load_balancer.is_ordered(), &mut levels)?;
        }
        Some(Self::of(levels.into_values().filter_map(|level| level.finish(policy)).collect()))
    }
}

impl Step {
    fn take(&self, locality: &LocalityPolicy, ordered: bool, levels: &mut BTreeMap<u32, Successor<'_>>) -> Option<()> {
        let rank = |member: &Arc<Member>| locality.rank_of(member.endpoint());
        if let (Some(before), Some(after)) = (&self.before, &self.after)
            && rank(before)? == rank(after)?
        {
            let list = levels.get_mut(&rank(before)?)?.list();
            list.replace(list.position(before)?, Arc::clone(after));
            return Some(());
        }
        if self.before.is_some() && self.after.is_some() && ordered {
            // Its place on the other level is somewhere between others.
            return None;
        }
        if let Some(before) = &self.before {
            let list = levels.get_mut(&rank(before)?)?.list();
            list.take_out(list.position(before)?, ordered);
        }
        if let Some(after) = &self.after {
            levels.entry(rank(after)?).or_default().list().push(Arc::clone(after));
        }
        Some(())
    }
}

/// A level as it was, and its members as they will be.
#[derive(Default)]
struct Successor<'a> {
    level: Option<&'a Arc<Level>>,
    list: Option<Edit>,
}

impl Successor<'_> {
    fn list(&mut self) -> &mut Edit {
        let before = self.level.map(|level| level.members.clone());
        self.list.get_or_insert_with(|| before.unwrap_or_default().edit())
    }

    /// A level that nobody is on any more is none.
    fn finish(self, policy: &ClusterPolicy) -> Option<Arc<Level>> {
        match self.list {
            None => self.level.cloned(),
            Some(list) => {
                Some(list.finish()).filter(|list| !list.is_empty()).map(|list| Arc::new(Level::of(&list, policy)))
            }
        }
    }
}
