use std::sync::Arc;

use super::{HashTable, Maglev, Ring};
use crate::Member;

/// A table over some members of a cluster; it answers with their numbers in the cluster.
#[derive(Debug)]
pub(super) struct Table {
    kind: Kind,
    /// Sum of the weights in it.
    pub(super) weights: u64,
}

#[derive(Debug)]
enum Kind {
    Ring(Ring),
    Maglev(Maglev),
}

impl Table {
    /// Over the members that are `chosen`.
    pub(super) fn new(table: HashTable, members: &[Arc<Member>], chosen: impl Fn(&Member) -> bool) -> Self {
        let chosen = (0..).zip(members).filter(|(_, member)| chosen(member));
        let (numbers, hosts): (Vec<u32>, Vec<(String, u32)>) =
            chosen.map(|(number, member)| (number, (member.endpoint().address.to_string(), weight(member)))).unzip();
        let weights = hosts.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let kind = match table {
            HashTable::Ring { minimum_size } => {
                let mut ring = Ring::new(&hosts, minimum_size);
                ring.renumber(&numbers);
                Kind::Ring(ring)
            }
            HashTable::Maglev { size } => {
                let mut maglev = Maglev::new(&hosts, size);
                maglev.renumber(&numbers, members.len());
                Kind::Maglev(maglev)
            }
        };
        Self { kind, weights }
    }

    pub(super) fn pick(&self, hash: u64, attempt: usize) -> Option<usize> {
        match &self.kind {
            Kind::Ring(ring) => ring.pick(hash, attempt),
            Kind::Maglev(maglev) => maglev.pick(hash, attempt),
        }
    }
}

/// Those who have a weight of 0 here are all alike: others were left out before.
pub(super) fn weight(member: &Member) -> u32 {
    member.endpoint().weight.max(1)
}
