//! Several sources of one port of a service, merged.
//!
//! Each source has a place in an order of precedence, and a set of its own that only its own updates change. What is
//! merged is worked out from these sets and that order alone, so it does not matter who spoke last, and a source that is
//! lost takes nothing with it.

use std::sync::Arc;

use super::{Update, ordered::Ordered};
use crate::{Endpoint, EndpointAddress};

/// What all sources of one port know, as one set.
///
/// An address that several name is one endpoint, as the first of these sources describes it. The endpoints of the first
/// source come first, each source's in the order in which it told them.
///
/// ```
/// use std::sync::Arc;
/// use mesh_core::{Endpoint, EndpointAddress, discover::{Merged, Update}};
/// let endpoint = |ip, weight| Arc::new(Endpoint::new(EndpointAddress::new(ip, 80)).with_weight(weight));
///
/// let mut merged = Merged::new(2);
/// merged.update(1, Update::Reset(vec![endpoint("10.0.0.1", 1), endpoint("10.0.0.2", 1)]));
/// // The first source knows better, whenever it speaks.
/// let change = merged.update(0, Update::Add(endpoint("10.0.0.2", 7)));
/// assert_eq!(change, Some(Update::Add(endpoint("10.0.0.2", 7))));
/// assert_eq!(merged.endpoints(), [endpoint("10.0.0.2", 7), endpoint("10.0.0.1", 1)]);
/// // What the second says of that address shows when the first has no more to say.
/// assert_eq!(merged.update(1, Update::Add(endpoint("10.0.0.2", 3))), None);
/// merged.update(0, Update::Gone);
/// assert_eq!(merged.endpoints(), [endpoint("10.0.0.1", 1), endpoint("10.0.0.2", 3)]);
/// ```
#[derive(Clone, Debug)]
pub struct Merged {
    sources: Vec<Source>,
}

#[derive(Clone, Debug, Default)]
struct Source {
    /// `None`: nothing yet, or nothing any more.
    said: Option<Ordered>,
    stand_in: Ordered,
}

impl Source {
    fn in_force(&self) -> &Ordered {
        self.said.as_ref().unwrap_or(&self.stand_in)
    }
}

impl Merged {
    /// So many sources, the first with the highest precedence, none of which has said anything.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        Self { sources: vec![Source::default(); sources] }
    }

    /// Take in what a source says. Returns what that changes for a follower of the merged set: nothing, one endpoint, or
    /// a [`Reset`](Update::Reset); never [`Gone`](Update::Gone).
    ///
    /// # Panics
    /// There is no such source.
    pub fn update(&mut self, source: usize, update: Update) -> Option<Update> {
        let (higher, rest) = self.sources.split_at_mut(source);
        let (own, lower) = rest.split_first_mut().expect("the caller counts the sources as `new` did");
        let shadowed = |address: &EndpointAddress| higher.iter().any(|s| s.in_force().get(address).is_some());
        match update {
            Update::Add(endpoint) => {
                // A first step that is none: the stand-in is not what the source said.
                if own.said.is_none() && !own.stand_in.is_empty() {
                    own.said = Some(Ordered::new([endpoint]));
                    return Some(Update::Reset(self.endpoints()));
                }
                let before = own.said.get_or_insert_default().put(Arc::clone(&endpoint));
                if shadowed(&endpoint.address) || before.is_some_and(|before| before == endpoint) {
                    return None;
                }
                Some(Update::Add(endpoint))
            }
            Update::Remove(address) => {
                own.said.as_mut()?.remove(&address)?;
                if shadowed(&address) {
                    return None;
                }
                let below = lower.iter().find_map(|source| source.in_force().get(&address));
                Some(below.map_or(Update::Remove(address), |endpoint| Update::Add(Arc::clone(endpoint))))
            }
            Update::Reset(endpoints) => self.replace(source, Some(Ordered::new(endpoints))),
            Update::Gone => self.replace(source, None),
        }
    }

    /// What holds in a source's place while it has nothing to say: names that have not been looked up, for instance.
    /// Returns what that changes.
    ///
    /// # Panics
    /// There is no such source.
    pub fn stand_in(&mut self, source: usize, endpoints: impl IntoIterator<Item = Arc<Endpoint>>) -> Option<Update> {
        let endpoints = Ordered::new(endpoints);
        let own = &mut self.sources[source];
        let changes = own.said.is_none() && !own.stand_in.equals(&endpoints);
        own.stand_in = endpoints;
        changes.then(|| Update::Reset(self.endpoints()))
    }

    /// Has this source something to say?
    #[must_use]
    pub fn has_said(&self, source: usize) -> bool {
        self.sources.get(source).is_some_and(|source| source.said.is_some())
    }

    /// All endpoints.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let mut merged =
            Vec::with_capacity(self.sources.iter().map(|source| source.in_force().len()).max().unwrap_or(0));
        for (index, source) in self.sources.iter().enumerate() {
            let higher: Vec<_> = self.sources[..index].iter().map(Source::in_force).filter(|s| !s.is_empty()).collect();
            let visible = |e: &&Arc<Endpoint>| higher.iter().all(|source| source.get(&e.address).is_none());
            merged.extend(source.in_force().iter().filter(visible).cloned());
        }
        merged
    }

    fn replace(&mut self, source: usize, said: Option<Ordered>) -> Option<Update> {
        let own = &mut self.sources[source];
        let changes = !said.as_ref().unwrap_or(&own.stand_in).equals(own.in_force());
        own.said = said;
        changes.then(|| Update::Reset(self.endpoints()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{
        prelude::*,
        test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
    };

    use super::*;

    fn endpoint(address: u8, weight: u32) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(EndpointAddress::new(&format!("10.0.0.{address}"), 80)).with_weight(weight))
    }

    fn update() -> impl Strategy<Value = Update> {
        let one = || (0..6u8, 1..4u32).prop_map(|(address, weight)| endpoint(address, weight));
        prop_oneof![
            4 => one().prop_map(Update::Add),
            3 => one().prop_map(|endpoint| Update::Remove(endpoint.address.clone())),
            2 => prop::collection::vec(one(), 0..5).prop_map(Update::Reset),
            1 => Just(Update::Gone),
        ]
    }

    /// The rules, one by one and slowly: lists, looked through from the front.
    #[derive(Default)]
    struct Naive {
        said: [Option<Vec<Arc<Endpoint>>>; 3],
        stand_in: [Vec<Arc<Endpoint>>; 3],
    }

    impl Naive {
        fn update(&mut self, source: usize, update: Update) {
            let said = &mut self.said[source];
            match update {
                Update::Gone => *said = None,
                Update::Reset(all) => {
                    *said = Some(Vec::new());
                    for one in all {
                        let said = said.as_mut().unwrap();
                        if said.iter().all(|known| known.address != one.address) {
                            said.push(one);
                        }
                    }
                }
                Update::Add(one) => {
                    let said = said.get_or_insert_default();
                    match said.iter_mut().find(|known| known.address == one.address) {
                        Some(known) => *known = one,
                        None => said.push(one),
                    }
                }
                Update::Remove(address) => {
                    if let Some(said) = said {
                        said.retain(|known| known.address != address);
                    }
                }
            }
        }

        fn endpoints(&self) -> Vec<Arc<Endpoint>> {
            let mut all: Vec<Arc<Endpoint>> = Vec::new();
            for (said, stand_in) in self.said.iter().zip(&self.stand_in) {
                for one in said.as_ref().unwrap_or(stand_in) {
                    if all.iter().all(|known| known.address != one.address) {
                        all.push(Arc::clone(one));
                    }
                }
            }
            all
        }
    }

    /// Whatever is said by whom: the set is what the naive rules say, and a follower of the steps has the same set.
    #[test]
    fn merges_as_the_naive_rules_do() {
        let seed = mesh_test::seed().to_le_bytes().repeat(4);
        let mut runner = TestRunner::new_with_rng(
            Config { cases: 2000, failure_persistence: None, ..Config::default() },
            TestRng::from_seed(RngAlgorithm::ChaCha, &seed),
        );
        let steps = prop::collection::vec((0..3usize, update()), 0..40);
        let result = runner.run(&steps, |steps| {
            let (mut merged, mut naive) = (Merged::new(3), Naive::default());
            naive.stand_in[2] = vec![endpoint(3, 9), endpoint(7, 9)];
            merged.stand_in(2, naive.stand_in[2].clone());
            let mut followed: BTreeMap<EndpointAddress, Arc<Endpoint>> =
                merged.endpoints().into_iter().map(|e| (e.address.clone(), e)).collect();
            for (source, update) in steps {
                naive.update(source, update.clone());
                match merged.update(source, update) {
                    None => {}
                    Some(Update::Add(one)) => {
                        followed.insert(one.address.clone(), one);
                    }
                    Some(Update::Remove(address)) => {
                        prop_assert!(followed.remove(&address).is_some());
                    }
                    Some(Update::Reset(all)) => followed = all.into_iter().map(|e| (e.address.clone(), e)).collect(),
                    Some(Update::Gone) => prop_assert!(false, "a merged set is never gone"),
                }
                prop_assert_eq!(merged.endpoints(), naive.endpoints());
                let sorted: BTreeMap<_, _> = merged.endpoints().into_iter().map(|e| (e.address.clone(), e)).collect();
                prop_assert_eq!(&sorted, &followed);
            }
            Ok(())
        });
        result.unwrap();
    }

    /// One endpoint of many is one step, and what is not new is none.
    #[test]
    fn one_of_ten_thousand_is_one_step() {
        let all: Vec<_> = (0..10_000u32)
            .map(|n| Arc::new(Endpoint::new(EndpointAddress::Socket((std::net::Ipv4Addr::from(n), 80).into()))))
            .collect();
        let mut merged = Merged::new(2);
        assert_eq!(merged.update(1, Update::Reset(all.clone())), Some(Update::Reset(all.clone())));
        assert_eq!(merged.update(1, Update::Reset(all.clone())), None);
        assert_eq!(merged.update(1, Update::Add(Arc::clone(&all[7]))), None);
        let address = all[5000].address.clone();
        assert_eq!(merged.update(1, Update::Remove(address.clone())), Some(Update::Remove(address)));
        assert_eq!(merged.update(1, Update::Add(Arc::clone(&all[5000]))), Some(Update::Add(Arc::clone(&all[5000]))));
        assert_eq!(merged.endpoints().len(), 10_000);
    }
}
