use std::time::Duration;

use rand::Rng;

use crate::{Member, Warmup, random::below};

/// A pick while some of the members warm up. Weights are static; what warmup takes from them, a draw gives back by
/// refusing as often as it should.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warming<'a> {
    warmup: &'a Warmup,
    now: u64,
    /// The factor of the oldest member: nobody has more.
    most: f64,
}

/// Of one weight.
const PARTS: f64 = 1024.0;

impl<'a> Warming<'a> {
    /// `None` once the newest member is warm.
    pub(super) fn of(warmup: Option<(&'a Warmup, u64)>, (oldest, newest): (u64, u64)) -> Option<Self> {
        let (warmup, now) = warmup?;
        let age = |since: u64| Duration::from_nanos(now.saturating_sub(since));
        (age(newest) < warmup.duration).then(|| Self { warmup, now, most: warmup.factor(age(oldest)) })
    }

    /// Does a draw of this member count?
    pub(super) fn admits(&self, member: &Member, rng: &mut impl Rng) -> bool {
        let whole = 1_u64 << 32;
        // The cast saturates.
        below(rng, whole) < (self.factor(member) / self.most * whole as f64) as u64
    }

    /// A weight as it is now.
    pub(super) fn weight(&self, member: &Member, weight: u64) -> u64 {
        ((weight as f64 * self.factor(member) * PARTS) as u64).max(1)
    }

    fn factor(&self, member: &Member) -> f64 {
        self.warmup.factor(Duration::from_nanos(self.now.saturating_sub(member.since())))
    }
}
