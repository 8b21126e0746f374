//! The context in a request's headers.

use http::{HeaderMap, HeaderName, HeaderValue, header::Entry};
use rand::{Rng, RngExt};

use super::{Sampler, TraceContext, Traceparent, context::Parts, tracestate};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The context of a request with these headers: the next span of the caller's trace, else a new trace. Its request
/// id is the caller's, else a new one.
pub(crate) fn from_headers(headers: &HeaderMap, sampler: Sampler, rng: &mut impl Rng) -> TraceContext {
    let mut context = match parent(headers) {
        Some(parent) => {
            let mut context = Parts::continued(&parent, rng);
            context.tracestate = tracestate::of(headers);
            context
        }
        None => {
            let mut context = Parts::root(sampler, rng);
            if !headers.contains_key(TRACEPARENT) {
                context.b3 = b3(headers);
            }
            context
        }
    };
    context.request_id = Some(headers.get(REQUEST_ID).cloned().unwrap_or_else(|| new_request_id(rng)));
    context.into()
}

/// W3C Level 2, 3.2.1: more than one `traceparent` is none. White space around a value is not part of it.
fn parent(headers: &HeaderMap) -> Option<Traceparent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    Traceparent::decode(value.as_bytes().trim_ascii()).ok()
}

fn b3(headers: &HeaderMap) -> Option<std::sync::Arc<[(HeaderName, HeaderValue)]>> {
    // One pass over the names: six look-ups would cost every request that begins a trace.
    let found = headers.iter().filter(|(name, _)| is_b3(name));
    let found: Vec<_> = found.map(|(name, value)| (name.clone(), value.clone())).collect();
    (!found.is_empty()).then(|| found.into())
}

/// `b3`, or `X-B3-TraceId` and its like.
fn is_b3(name: &HeaderName) -> bool {
    name.as_str() == "b3" || name.as_str().starts_with("x-b3-")
}

/// Write the context into a request that goes out. A request id that the application set stays.
pub(crate) fn inject(context: &TraceContext, headers: &mut HeaderMap) {
    let traceparent = HeaderValue::from_bytes(&context.traceparent().encode());
    headers.insert(TRACEPARENT, traceparent.expect("hexadecimal and dashes are a header value"));
    match &context.parts().tracestate {
        Some(state) => {
            headers.insert(TRACESTATE, state.clone());
        }
        None => {
            headers.remove(TRACESTATE);
        }
    }
    if let (Some(id), Entry::Vacant(vacant)) = (context.request_id_value(), headers.entry(REQUEST_ID)) {
        vacant.insert(id.clone());
    }
    if let Some(b3) = &context.parts().b3
        && !headers.keys().any(is_b3)
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
