//! What happens next.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

/// Events in the order of their time; those of the same time in the order in which they were planned.
///
/// What always happens the same time after it is planned needs no heap: each such delay has a lane, in which events are
/// in order as they come.
#[derive(Debug)]
pub struct Events<E> {
    heap: BinaryHeap<Reverse<Planned<E>>>,
    lanes: Vec<Lane<E>>,
    planned: u64,
}

#[derive(Debug)]
struct Lane<E> {
    delay: Duration,
    waiting: VecDeque<Planned<E>>,
}

/// One of the fixed delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay(usize);

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
        Self { heap: BinaryHeap::new(), lanes: Vec::new(), planned: 0 }
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
        let planned = self.number(at, event);
        self.heap.push(Reverse(planned));
    }

    /// A delay that many events will have.
    pub fn delay(&mut self, delay: Duration) -> Delay {
        self.lanes.push(Lane { delay, waiting: VecDeque::new() });
        Delay(self.lanes.len() - 1)
    }

    /// Something will happen that long after `now`, which is not before the `now` of an earlier call.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let mut events = mesh_sim::events::Events::default();
    /// let second = events.delay(Duration::from_secs(1));
    /// events.plan(Duration::from_secs(2), "planned first");
    /// events.plan_after(second, Duration::from_secs(1), "of the same time");
    /// events.plan_after(second, Duration::from_secs(3), "later");
    /// events.plan(Duration::from_secs(3), "between");
    /// let order: Vec<_> = std::iter::from_fn(|| events.next()).map(|(_, event)| event).collect();
    /// assert_eq!(order, ["planned first", "of the same time", "between", "later"]);
    /// ```
    pub fn plan_after(&mut self, delay: Delay, now: Duration, event: E) {
        let planned = self.number(now + self.lanes[delay.0].delay, event);
        self.lanes[delay.0].waiting.push_back(planned);
    }

    fn number(&mut self, at: Duration, event: E) -> Planned<E> {
        self.planned += 1;
        Planned { at, number: self.planned, event }
    }

    /// The next one, and its time.
    #[allow(clippy::should_implement_trait, reason = "planning goes on between two of them")]
    pub fn next(&mut self) -> Option<(Duration, E)> {
        let mut first = self.heap.peek().map(|Reverse(planned)| planned.key());
        let mut from = None;
        for (index, lane) in self.lanes.iter().enumerate() {
            if let Some(key) = lane.waiting.front().map(Planned::key)
                && first.is_none_or(|first| key < first)
            {
                (first, from) = (Some(key), Some(index));
            }
        }
        let planned = match from {
            Some(lane) => self.lanes[lane].waiting.pop_front(),
            None => self.heap.pop().map(|Reverse(planned)| planned),
        };
        planned.map(|planned| (planned.at, planned.event))
    }
}
