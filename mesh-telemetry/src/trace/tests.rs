use http::{HeaderMap, HeaderName, HeaderValue};
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::trace::headers::new_request_id;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn rng() -> StdRng {
    StdRng::seed_from_u64(mesh_test::seed())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn continues_the_callers_trace() {
    let mut rng = rng();
    let inbound = headers(&[("traceparent", &format!(" {PARENT} ")), ("tracestate", "a=1"), ("x-request-id", "r")]);
    let context = from_headers(&inbound, Sampler::ratio(0.0), &mut rng);
    assert_eq!(context.trace_id().to_string(), &PARENT[3..35]);
    assert_eq!(context.parent_id().unwrap().to_string(), &PARENT[36..52]);
    assert!(context.is_sampled());

    let mut outbound = HeaderMap::new();
    let child = context.child(&mut rng);
    inject(&child, &mut outbound);
    let sent = Traceparent::decode(outbound["traceparent"].as_bytes()).unwrap();
    assert_eq!((sent.trace_id, sent.parent_id, sent.flags), (context.trace_id(), child.span_id(), 1));
    assert_eq!((&outbound["tracestate"], &outbound["x-request-id"]), (&"a=1".parse().unwrap(), &"r".parse().unwrap()));
}

// W3C Level 2: an unreadable or doubled traceparent restarts the trace, and its tracestate goes with it; an
// unreadable tracestate goes alone.
#[test]
fn what_cannot_be_read_is_not_passed_on() {
    let other = PARENT.replace("0af7", "0af8");
    for (pairs, continued, state) in [
        (vec![("traceparent", PARENT), ("traceparent", &*other), ("tracestate", "a=1")], false, None),
        (vec![("traceparent", PARENT), ("traceparent", PARENT)], false, None),
        (vec![("traceparent", "nonsense"), ("tracestate", "a=1")], false, None),
        (vec![("tracestate", "a=1")], false, None),
        (vec![("traceparent", PARENT), ("tracestate", "a=")], true, None),
        (vec![("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")], true, Some("a=1,b=2")),
    ] {
        let context = from_headers(&headers(&pairs), Sampler::default(), &mut rng());
        assert_eq!(context.trace_id().to_string() == PARENT[3..35], continued, "{pairs:?}");
        assert_eq!(context.tracestate(), state, "{pairs:?}");
    }
}

#[test]
fn b3_without_traceparent_goes_through_untouched() {
    let inbound = headers(&[("x-b3-traceid", "a"), ("x-b3-sampled", "1")]);
    let context = from_headers(&inbound, Sampler::default(), &mut rng());
    let mut outbound = HeaderMap::new();
    inject(&context, &mut outbound);
    assert_eq!((&outbound["x-b3-traceid"], &outbound["x-b3-sampled"]), (&"a".parse().unwrap(), &"1".parse().unwrap()));
    let mut own = headers(&[("b3", "0")]);
    inject(&context, &mut own);
    assert_eq!(own["b3"], "0");
    assert!(!own.contains_key("x-b3-traceid"));
    let both = headers(&[("traceparent", PARENT), ("b3", "0")]);
    assert!(from_headers(&both, Sampler::default(), &mut rng()).parts().b3.is_none());
}

#[test]
fn the_sampled_share_is_the_ratio() {
    let mut rng = rng();
    let n = 100_000;
    let hits = (0..n).filter(|_| TraceContext::root(Sampler::default(), &mut rng).is_sampled()).count();
    // 1,000 expected, standard deviation 31.5: six of them.
    assert!((811..=1189).contains(&hits), "{hits}");
    assert!(!TraceContext::root(Sampler::ratio(f64::NAN), &mut rng).is_sampled());
    assert!(TraceContext::root(Sampler::ratio(7.0), &mut rng).is_sampled());
}

#[test]
fn request_ids_are_uuids_of_version_4() {
    let mut rng = rng();
    for _ in 0..1_000 {
        let id = new_request_id(&mut rng);
        let parts: Vec<_> = id.to_str().unwrap().split('-').map(str::to_owned).collect();
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id:?}");
    }
}

#[tokio::test]
async fn join_and_spawn_see_the_context_and_plain_spawn_does_not() {
    let context = TraceContext::root(Sampler::default(), &mut rng());
    let id = Some(context.trace_id());
    let seen = || current().map(|context| context.trace_id());
    scope(context, async move {
        let (a, b) = tokio::join!(async { seen() }, async {
            tokio::task::yield_now().await;
            seen()
        });
        assert_eq!((a, b), (id, id));
        assert_eq!(spawn(async move { seen() }).await.unwrap(), id);
        assert_eq!(tokio::spawn(async move { seen() }).await.unwrap(), None);
    })
    .await;
    assert_eq!(seen(), None);
}
