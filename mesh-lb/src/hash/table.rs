use super::{HashTable, Maglev, Ring, shares::Shares};
use crate::{Member, members::Members};

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

/// Places among the members that have shares of their own, whatever the weights there: `distribute`.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    shares: Vec<u64>,
    /// Of each member.
    of: Vec<usize>,
}

impl Places {
    /// Each place's share, and each member's place.
    pub(crate) fn new(shares: Vec<u64>, of: Vec<usize>) -> Self {
        Self { shares, of }
    }

    /// For some of the members, in their order.
    pub(crate) fn keep(&mut self, keep: impl Fn(usize) -> bool) {
        let kept = self.of.iter().enumerate().filter(|(member, _)| keep(*member));
        self.of = kept.map(|(_, place)| *place).collect();
    }

    /// Of these members, as numbers and weights.
    fn shares(&self, members: impl Iterator<Item = (u32, u32)> + Clone) -> Shares {
        let all: u64 = self.shares.iter().sum();
        // Nobody has a weight: then places are alike, as endpoints are.
        let share = |share: u64| if all == 0 { 1.0 / self.shares.len() as f64 } else { share as f64 / all as f64 };
        Shares::of_places(self.shares.iter().enumerate().map(|(place, part)| {
            let there = (0..).zip(members.clone()).filter(|(_, (member, _))| self.of[*member as usize] == place);
            (share(*part), there.map(|(host, (_, weight))| (host, weight)).collect())
        }))
    }
}

impl Table {
    /// Over the members that are `chosen`.
    pub(super) fn new(
        table: HashTable,
        members: &Members,
        places: Option<&Places>,
        chosen: impl Fn(&Member) -> bool,
    ) -> Self {
        let chosen = (0..).zip(members.iter()).filter(|(_, member)| chosen(member));
        let (numbers, hosts): (Vec<u32>, Vec<(String, u32)>) =
            chosen.map(|(number, member)| (number, (member.endpoint().address.to_string(), weight(member)))).unzip();
        let weights = hosts.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let each = hosts.iter().map(|(_, weight)| *weight);
        let shares = match places {
            Some(places) => places.shares(numbers.iter().copied().zip(each)),
            None => Shares::of(each),
        };
        let kind = match table {
            HashTable::Ring { minimum_size } => {
                let mut ring = Ring::of(&hosts, &shares, minimum_size);
                ring.renumber(&numbers);
                Kind::Ring(ring)
            }
            HashTable::Maglev { size } => {
                let mut maglev = Maglev::of(&hosts, shares, size);
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
