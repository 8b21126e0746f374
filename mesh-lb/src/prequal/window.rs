//! Requests in flight of recent reports: where cold ends.

/// The last so many numbers, and their order.
#[derive(Debug)]
pub(super) struct Window {
    ring: Box<[u32]>,
    next: usize,
    sorted: Vec<u32>,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        Self { ring: vec![0; size].into(), next: 0, sorted: Vec::with_capacity(size) }
    }

    pub(super) fn push(&mut self, number: u32) {
        let place = |sorted: &[u32], number: u32| sorted.partition_point(|known| *known < number);
        if self.sorted.len() == self.ring.len() {
            let oldest = place(&self.sorted, self.ring[self.next]);
            self.sorted.remove(oldest);
        }
        self.ring[self.next] = number;
        self.next = (self.next + 1) % self.ring.len();
        let at = place(&self.sorted, number);
        self.sorted.insert(at, number);
    }

    /// The least number that at least this share of them is not above; none of none.
    pub(super) fn quantile(&self, share: f64) -> Option<u32> {
        // From 0 to the length.
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied()
    }
}
