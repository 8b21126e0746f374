//! What happens next.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// Events in the order of their time; those of the same time in the order in which they were planned.
#[derive(Debug)]
pub struct Events<E> {
    heap: BinaryHeap<Reverse<Planned<E>>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Planned<E> {
    fn key(&self) -> (Duration, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> Default for Events<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }
}

impl<E> Events<E> {
    /// Something will happen at this time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let mut events = mesh_sim::events::Events::default();
    /// events.plan(Duration::from_secs(2), "later");
    /// events.plan(Duration::from_secs(1), "first");
    /// events.plan(Duration::from_secs(1), "second");
    /// let order: Vec<_> = std::iter::from_fn(|| events.next()).map(|(_, event)| event).collect();
    /// assert_eq!(order, ["first", "second", "later"]);
    /// ```
    pub fn plan(&mut self, at: Duration, event: E) {
        self.heap.push(Reverse(Planned { at, number: self.planned, event }));
        self.planned += 1;
    }

    /// The next one, and its time.
    #[allow(clippy::should_implement_trait, reason = "planning goes on between two of them")]
    pub fn next(&mut self) -> Option<(Duration, E)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.event))
    }
}
