//! Trace and span ids: never zero, shown as lower-case hexadecimal.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
};

use rand::{Rng, RngExt};

/// The id of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// The id of a span.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// An id of these bits, `None` for zero.
    #[must_use]
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    /// A random id.
    pub fn random(rng: &mut impl Rng) -> Self {
        loop {
            if let Some(id) = Self::new(rng.random()) {
                return id;
            }
        }
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0.get()
    }
}

impl SpanId {
    /// An id of these bits, `None` for zero.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// A random id.
    pub fn random(rng: &mut impl Rng) -> Self {
        loop {
            if let Some(id) = Self::new(rng.random()) {
                return id;
            }
        }
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
