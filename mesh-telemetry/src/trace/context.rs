//! The context of one request.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rand::Rng;

use super::{SpanId, TraceId, Traceparent};

/// The trace a request belongs to, and the span that is current in it.
///
/// In the extensions of a request that went through the server layer, and the answer of
/// [`current`](super::current) wherever that request's handler runs. A clone is a reference count.
#[derive(Clone, Debug)]
pub struct TraceContext(Arc<Parts>);

#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) parent_id: Option<SpanId>,
    pub(super) flags: u8,
    pub(super) tracestate: Option<HeaderValue>,
    pub(super) request_id: Option<HeaderValue>,
    /// B3 headers of a request that brought no `traceparent`: handed on as they came.
    pub(super) b3: Option<Arc<[(HeaderName, HeaderValue)]>>,
}

impl Parts {
    pub(super) fn root(sampler: Sampler, rng: &mut impl Rng) -> Self {
        let trace_id = TraceId::random(rng);
        let sampled = if sampler.samples(trace_id) { Traceparent::SAMPLED } else { 0 };
        Self {
            trace_id,
            span_id: SpanId::random(rng),
            parent_id: None,
            flags: sampled | Traceparent::RANDOM,
            tracestate: None,
            request_id: None,
            b3: None,
        }
    }

    pub(super) fn continued(parent: &Traceparent, rng: &mut impl Rng) -> Self {
        Self {
            trace_id: parent.trace_id,
            span_id: SpanId::random(rng),
            parent_id: Some(parent.parent_id),
            flags: parent.flags,
            tracestate: None,
            request_id: None,
            b3: None,
        }
    }
}

impl From<Parts> for TraceContext {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl TraceContext {
    /// A trace that begins here.
    #[must_use]
    pub fn root(sampler: Sampler, rng: &mut impl Rng) -> Self {
        Parts::root(sampler, rng).into()
    }

    /// The span below a caller's. Whether it is sampled was the caller's decision.
    #[must_use]
    pub fn continued(parent: &Traceparent, rng: &mut impl Rng) -> Self {
        Parts::continued(parent, rng).into()
    }

    /// A new span below this one.
    #[must_use]
    pub fn child(&self, rng: &mut impl Rng) -> Self {
        Parts { span_id: SpanId::random(rng), parent_id: Some(self.0.span_id), ..Parts::clone(&self.0) }.into()
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.0.trace_id
    }

    /// The current span.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.0.span_id
    }

    /// The span above the current one.
    #[must_use]
    pub fn parent_id(&self) -> Option<SpanId> {
        self.0.parent_id
    }

    /// Is the trace recorded?
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.0.flags & Traceparent::SAMPLED != 0
    }

    /// Vendors' part of the context, as it came.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.0.tracestate.as_ref().and_then(|value| value.to_str().ok())
    }

    /// `x-request-id`, where it is text.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id_value().and_then(|value| value.to_str().ok())
    }

    pub(crate) fn request_id_value(&self) -> Option<&HeaderValue> {
        self.0.request_id.as_ref()
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.0
    }

    pub(super) fn traceparent(&self) -> Traceparent {
        Traceparent { trace_id: self.0.trace_id, parent_id: self.0.span_id, flags: self.0.flags }
    }
}

/// Which of the traces that begin here are recorded: a share of them, told by their ids, so that whoever asks
/// about the same trace gets the same answer.
///
/// ```
/// use mesh_telemetry::trace::{Sampler, TraceId};
/// let id = TraceId::random(&mut rand::rng());
/// assert!(Sampler::ratio(1.0).samples(id));
/// assert!(!Sampler::ratio(0.0).samples(id));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Ids whose random part is at least this are sampled.
    threshold: u64,
}

const RANDOM_BITS: u64 = 1 << 56;

impl Sampler {
    /// This share of the traces, 0.0 to 1.0.
    #[must_use]
    pub fn ratio(ratio: f64) -> Self {
        let rejected = 1.0 - if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, 1.0) };
        Self { threshold: (rejected * RANDOM_BITS as f64) as u64 }
    }

    /// Is a trace with this id recorded?
    #[must_use]
    pub fn samples(self, id: TraceId) -> bool {
        // W3C Level 2 random-trace-id: "at least the 7 right-most bytes MUST be random".
        (id.bits() as u64) % RANDOM_BITS >= self.threshold
    }
}

impl Default for Sampler {
    /// One in a hundred: Istio's PILOT_TRACE_SAMPLING.
    fn default() -> Self {
        Self::ratio(0.01)
    }
}
