//! Where an endpoint of an address is in a cluster's list.
//!
//! Only whoever changes the list asks, under a lock; a pick never does. It holds positions, not addresses: those are in
//! the list already, so it takes 5 to 10 bytes for an endpoint.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use mesh_core::EndpointAddress;

use crate::members::{Edit, Members};

#[derive(Debug, Default)]
pub(super) struct Index {
    positions: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    pub(super) fn of(members: &Members) -> Self {
        let mut index = Self { positions: HashTable::with_capacity(members.len()), hasher: RandomState::new() };
        let edit = members.edit();
        (0..edit.len()).for_each(|position| index.insert(position, &edit));
        index
    }

    /// A position of the address. An address that was listed twice has two.
    pub(super) fn find(&self, address: &EndpointAddress, list: &Edit) -> Option<usize> {
        let is_it = |position: &u32| list.at(*position as usize).endpoint().address == *address;
        self.positions.find(self.hasher.hash_one(address), is_it).map(|position| *position as usize)
    }

    /// Who is at this position in the list is found there.
    pub(super) fn insert(&mut self, position: usize, list: &Edit) {
        let (hasher, hash) = (&self.hasher, |at: &u32| self.hasher.hash_one(&list.at(*at as usize).endpoint().address));
        let address = &list.at(position).endpoint().address;
        // A list is shorter than 2^32.
        self.positions.insert_unique(hasher.hash_one(address), position as u32, hash);
    }

    /// Before who is at this position leaves the list, as [`Edit::take_out`] does.
    pub(super) fn take_out(&mut self, position: usize, ordered: bool, list: &Edit) {
        if ordered { self.remove(position, list) } else { self.swap_remove(position, list) }
    }

    fn swap_remove(&mut self, position: usize, list: &Edit) {
        self.forget(position, list);
        let last = list.len() - 1;
        if last != position {
            self.forget(last, list);
            let hash = self.hasher.hash_one(&list.at(last).endpoint().address);
            let rehash = |at: &u32| {
                let at = if *at as usize == position { last } else { *at as usize };
                self.hasher.hash_one(&list.at(at).endpoint().address)
            };
            self.positions.insert_unique(hash, position as u32, rehash);
        }
    }

    fn remove(&mut self, position: usize, list: &Edit) {
        self.forget(position, list);
        self.positions.iter_mut().filter(|at| **at as usize > position).for_each(|at| *at -= 1);
    }

    fn forget(&mut self, position: usize, list: &Edit) {
        let hash = self.hasher.hash_one(&list.at(position).endpoint().address);
        if let Ok(entry) = self.positions.find_entry(hash, |at| *at as usize == position) {
            entry.remove();
        }
    }
}
