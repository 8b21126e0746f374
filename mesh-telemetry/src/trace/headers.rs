//! The context in a request's headers.

use http::{HeaderMap, HeaderName, HeaderValue, header::Entry};
use rand::{Rng, RngExt};

use super::{Sampler, TraceContext, Traceparent, tracestate};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: [HeaderName; 6] = [
    HeaderName::from_static("b3"),
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("x-b3-parentspanid"),
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("x-b3-flags"),
];

/// The context of a request with these headers: the next span of the caller's trace, else a new trace. Its request
/// id is the caller's, else a new one.
pub(crate) fn from_headers(headers: &HeaderMap, sampler: Sampler, rng: &mut impl Rng) -> TraceContext {
    let mut context = match parent(headers) {
        Some(parent) => {
            let mut context = TraceContext::continued(&parent, rng);
            context.tracestate = tracestate::of(headers);
            context
        }
        None => {
            let mut context = TraceContext::root(sampler, rng);
            if !headers.contains_key(TRACEPARENT) {
                context.b3 = b3(headers);
            }
            context
        }
    };
    context.request_id = Some(headers.get(REQUEST_ID).cloned().unwrap_or_else(|| new_request_id(rng)));
    context
}

/// W3C Level 2, 3.2.1: more than one `traceparent` is none. White space around a value is not part of it.
fn parent(headers: &HeaderMap) -> Option<Traceparent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    Traceparent::decode(value.as_bytes().trim_ascii()).ok()
}

fn b3(headers: &HeaderMap) -> Option<std::sync::Arc<[(HeaderName, HeaderValue)]>> {
    let found: Vec<_> =
        B3.into_iter().filter_map(|name| headers.get(&name).cloned().map(|value| (name, value))).collect();
    (!found.is_empty()).then(|| found.into())
}

/// Write the context into a request that goes out. A request id that the application set stays.
pub(crate) fn inject(context: &TraceContext, headers: &mut HeaderMap) {
    let traceparent = HeaderValue::from_bytes(&context.traceparent().encode());
    headers.insert(TRACEPARENT, traceparent.expect("hexadecimal and dashes are a header value"));
    match &context.tracestate {
        Some(state) => {
            headers.insert(TRACESTATE, state.clone());
        }
        None => {
            headers.remove(TRACESTATE);
        }
    }
    if let (Some(id), Entry::Vacant(vacant)) = (&context.request_id, headers.entry(REQUEST_ID)) {
        vacant.insert(id.clone());
    }
    if let Some(b3) = &context.b3
        && !B3.iter().any(|name| headers.contains_key(name))
    {
        headers.extend(b3.iter().cloned().map(|(name, value)| (Some(name), value)));
    }
}

/// A UUID of version 4, as Envoy makes them.
pub(super) fn new_request_id(rng: &mut impl Rng) -> HeaderValue {
    let bits: u128 = rng.random();
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    let mut nibble = 128;
    for (at, out) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            nibble -= 4;
            *out = b"0123456789abcdef"[(bits >> nibble & 0xf) as usize];
        }
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal and dashes are a header value")
}
