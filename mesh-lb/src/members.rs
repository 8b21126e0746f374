//! Many members in a list of which a changed copy is cheap.
//!
//! A change of one endpoint of ten thousand must not copy ten thousand pointers, and a pick goes on reading the list from
//! before. So the list is in pieces: a changed copy has one new piece and shares the others. All pieces but the last are
//! full, which is why the n-th member is found without a search, and why [`Edit::take_out`] fills a gap with the last
//! member. Each piece knows of its members what would otherwise take a walk over all of them.

use std::sync::Arc;

use crate::Member;

/// Members to a piece: 157 pieces for 10,000, about as many as there are members in one.
const PIECE: usize = 64;

/// A list of members that is never changed. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    pieces: Arc<[Piece]>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Piece {
    members: Arc<[Arc<Member>]>,
    /// Where they differ.
    weights: Option<Arc<[u32]>>,
    facts: Facts,
}

/// What is known of some members without asking each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The least weight, and the largest.
    pub(crate) weights: (u32, u32),
    /// Since when they are known: the first, and the last.
    pub(crate) since: (u64, u64),
}

impl Facts {
    const NOTHING: Self = Self { weights: (u32::MAX, 0), since: (u64::MAX, 0) };

    fn and(self, other: Self) -> Self {
        Self {
            weights: (self.weights.0.min(other.weights.0), self.weights.1.max(other.weights.1)),
            since: (self.since.0.min(other.since.0), self.since.1.max(other.since.1)),
        }
    }

    fn of(member: &Member) -> Self {
        let (weight, since) = (member.endpoint().weight, member.since());
        Self { weights: (weight, weight), since: (since, since) }
    }
}

impl Piece {
    fn new(members: Arc<[Arc<Member>]>) -> Self {
        let facts = members.iter().map(|member| Facts::of(member)).fold(Facts::NOTHING, Facts::and);
        let differ = facts.weights.0 < facts.weights.1;
        let weights = differ.then(|| members.iter().map(|member| member.endpoint().weight).collect());
        Self { members, weights, facts }
    }
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The member at an index below the length.
    pub(crate) fn at(&self, index: usize) -> &Arc<Member> {
        &self.pieces[index / PIECE].members[index % PIECE]
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Member>> + Clone {
        self.pieces.iter().flat_map(|piece| piece.members.iter())
    }

    /// Of all of them; of nobody there is nothing to know.
    pub(crate) fn facts(&self) -> Option<Facts> {
        (self.len > 0).then(|| self.pieces.iter().map(|piece| piece.facts).fold(Facts::NOTHING, Facts::and))
    }

    /// Their weights, in their order.
    pub(crate) fn weights(&self) -> impl Iterator<Item = u32> {
        self.pieces.iter().flat_map(|piece| {
            let (same, each) = (piece.facts.weights.0, piece.weights.as_deref());
            (0..piece.members.len()).map(move |index| each.map_or(same, |each| each[index]))
        })
    }

    /// A copy to change.
    pub(crate) fn edit(&self) -> Edit {
        Edit { pieces: self.pieces.to_vec(), len: self.len }
    }
}

impl FromIterator<Arc<Member>> for Members {
    fn from_iter<T: IntoIterator<Item = Arc<Member>>>(members: T) -> Self {
        let mut members = members.into_iter().peekable();
        let (mut pieces, mut len) = (Vec::new(), 0);
        while members.peek().is_some() {
            let piece: Arc<[_]> = members.by_ref().take(PIECE).collect();
            len += piece.len();
            pieces.push(Piece::new(piece));
        }
        Self { pieces: pieces.into(), len }
    }
}

/// A list in the making, out of another one: each step copies one piece.
#[derive(Debug)]
pub(crate) struct Edit {
    pieces: Vec<Piece>,
    len: usize,
}

impl Edit {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The member at an index below the length.
    pub(crate) fn at(&self, index: usize) -> &Arc<Member> {
        &self.pieces[index / PIECE].members[index % PIECE]
    }

    /// Where this very member is.
    pub(crate) fn position(&self, member: &Arc<Member>) -> Option<usize> {
        // Piece by piece: comparing pointers in a row is quick, and needs no index beside the list.
        let found = |piece: &Piece| piece.members.iter().position(|known| Arc::ptr_eq(known, member));
        self.pieces.iter().enumerate().find_map(|(n, piece)| found(piece).map(|at| n * PIECE + at))
    }

    pub(crate) fn push(&mut self, member: Arc<Member>) {
        if self.len.is_multiple_of(PIECE) {
            self.pieces.push(Piece::new([member].into()));
        } else if let Some(last) = self.pieces.last_mut() {
            *last = Piece::new(last.members.iter().cloned().chain([member]).collect());
        }
        self.len += 1;
    }

    /// Another one in the place of the one there.
    pub(crate) fn replace(&mut self, index: usize, member: Arc<Member>) {
        let piece = &mut self.pieces[index / PIECE];
        let at = index % PIECE;
        let (before, after) = (&piece.members[..at], &piece.members[at + 1..]);
        *piece = Piece::new(before.iter().cloned().chain([member]).chain(after.iter().cloned()).collect());
    }

    /// Without the one there. `ordered`: those after it move up, and every piece from there on is copied; else the last
    /// one takes its place.
    pub(crate) fn take_out(&mut self, index: usize, ordered: bool) {
        if ordered { self.remove(index) } else { self.swap_remove(index) }
    }

    fn swap_remove(&mut self, index: usize) {
        let Some(last) = self.pieces.pop() else { return };
        let Some((moved, rest)) = last.members.split_last() else { return };
        if !rest.is_empty() {
            self.pieces.push(Piece::new(rest.into()));
        }
        self.len -= 1;
        if index < self.len {
            self.replace(index, Arc::clone(moved));
        }
    }

    fn remove(&mut self, index: usize) {
        let from = index / PIECE;
        let rest: Vec<_> = self.pieces.drain(from..).collect();
        let moved = rest.iter().flat_map(|piece| piece.members.iter()).enumerate();
        let moved = moved.filter(|(n, _)| from * PIECE + n != index).map(|(_, member)| Arc::clone(member));
        self.pieces.extend_from_slice(&moved.collect::<Members>().pieces);
        self.len -= 1;
    }

    pub(crate) fn finish(self) -> Members {
        Members { pieces: self.pieces.into(), len: self.len }
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::{Endpoint, EndpointAddress};
    use proptest::prelude::*;

    use super::*;

    fn member(n: u64, weight: u32) -> Arc<Member> {
        let address = EndpointAddress::new(&format!("host-{n}"), 80);
        Member::known_since(n, Arc::new(Endpoint::new(address).with_weight(weight)), Arc::default())
    }

    fn same(list: &Members, expected: &[Arc<Member>]) -> bool {
        let weights: Vec<_> = expected.iter().map(|member| member.endpoint().weight).collect();
        let facts = expected.iter().map(|member| Facts::of(member)).reduce(Facts::and);
        list.len() == expected.len()
            && list.iter().zip(expected).all(|(a, b)| Arc::ptr_eq(a, b))
            && (0..list.len()).all(|n| Arc::ptr_eq(list.at(n), &expected[n]))
            && list.weights().eq(weights)
            && list.facts() == facts
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32),
        Replace(usize, u32),
        SwapRemove(usize),
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u32..3).prop_map(Step::Push),
            (any::<usize>(), 0_u32..3).prop_map(|(at, weight)| Step::Replace(at, weight)),
            any::<usize>().prop_map(Step::SwapRemove),
            any::<usize>().prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// Against a plain vector; and the list it came from stays as it was.
        #[test]
        fn edits_are_those_of_a_vector(
            start in prop_oneof![0_usize..4, 60_usize..70, 120_usize..140],
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut expected: Vec<_> = (0..start as u64).map(|n| member(n, 1)).collect();
            let before: Members = expected.iter().cloned().collect();
            prop_assert!(same(&before, &expected));
            let (kept, mut edit) = (expected.clone(), before.edit());
            for (n, step) in (1000..).zip(steps) {
                let len = expected.len().max(1);
                match step {
                    Step::Push(weight) => {
                        expected.push(member(n, weight));
                        edit.push(Arc::clone(&expected[expected.len() - 1]));
                    }
                    _ if expected.is_empty() => {}
                    Step::Replace(at, weight) => {
                        expected[at % len] = member(n, weight);
                        edit.replace(at % len, Arc::clone(&expected[at % len]));
                    }
                    Step::SwapRemove(at) => {
                        expected.swap_remove(at % len);
                        edit.swap_remove(at % len);
                    }
                    Step::Remove(at) => {
                        expected.remove(at % len);
                        edit.remove(at % len);
                    }
                }
                prop_assert_eq!(edit.len(), expected.len());
            }
            let after = edit.finish();
            prop_assert!(same(&after, &expected));
            prop_assert!(expected.iter().enumerate().all(|(n, member)| after.edit().position(member) == Some(n)));
            prop_assert!(same(&before, &kept));
        }
    }
}
