//! Deadlines in headers: the caller's own, and what is left of it for the upstream.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// The timeout of a call: the route's, and for gRPC the caller's where that is shorter.
///
/// measured on Envoy 1.40 (t3), Istio's `max_grpc_timeout`: the header is used when the route has no timeout, else
/// the smaller of the two.
pub(crate) fn effective(route: Option<Duration>, headers: &HeaderMap) -> Option<Duration> {
    let caller = headers.get(GRPC_TIMEOUT).filter(|_| is_grpc(headers)).and_then(|value| parse(value.as_bytes()));
    match (route, caller) {
        (Some(route), Some(caller)) => Some(route.min(caller)),
        (route, caller) => route.or(caller),
    }
}

/// Tell the upstream how long it has for an attempt: the whole request's time that is left, or the try's where that is
/// less. In milliseconds, rounded up, since 0 would be no limit.
///
/// envoy router FilterUtility::setTimeoutHeaders: `x-envoy-expected-rq-timeout-ms`, and for gRPC `grpc-timeout`.
pub(crate) fn tell(headers: &mut HeaderMap, whole: Option<Duration>, attempt: Option<Duration>) {
    let Some(expected) = whole.into_iter().chain(attempt).min() else { return };
    let milliseconds = expected.as_nanos().div_ceil(1_000_000).max(1);
    let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
    if is_grpc(headers) {
        // At most 8 digits: in a larger unit where they are more.
        let fits = [(1, 'm'), (1000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
        let fits = fits.into_iter().map(|(unit, letter)| (milliseconds / unit, letter)).find(|(n, _)| *n < 100_000_000);
        let value = fits.and_then(|(n, letter)| HeaderValue::try_from(format!("{n}{letter}")).ok());
        if let Some(value) = value {
            headers.insert(GRPC_TIMEOUT, value);
        }
    }
    headers.insert(EXPECTED, milliseconds.into());
}

/// gRPC over HTTP/2: content-type "application/grpc" [("+proto" / "+json" / {custom})].
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// gRPC over HTTP/2: "TimeoutValue → {positive integer as ASCII string of at most 8 digits}", then a unit.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_upstream_is_told_what_is_left() {
        // measured on Envoy 1.40 (interop): a route's timeout of 20 s reaches a gRPC upstream as `20000m`.
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let days = Duration::from_secs(400_000);
        for (whole, attempt, grpc, expected) in [
            (Some(minute), None, "60000m", "60000"),
            (Some(minute), Some(second), "1000m", "1000"),
            (Some(second - Duration::from_micros(1)), Some(minute), "1000m", "1000"),
            (None, Some(second), "1000m", "1000"),
            (Some(Duration::ZERO), None, "1m", "1"),
            (Some(days), None, "400000S", "400000000"),
        ] {
            let mut headers = HeaderMap::new();
            tell(&mut headers, whole, attempt);
            assert_eq!((headers.get(GRPC_TIMEOUT), &headers[EXPECTED]), (None, &HeaderValue::from_static(expected)));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            tell(&mut headers, whole, attempt);
            assert_eq!(headers[GRPC_TIMEOUT], grpc);
        }
        let mut headers = HeaderMap::new();
        tell(&mut headers, None, None);
        assert!(headers.is_empty());
    }

    // istio.md 1.2: "used when no route timeout, else min(route, header)"
    #[test]
    fn the_shorter_of_route_and_caller() {
        let second = Some(Duration::from_secs(1));
        for (kind, header, route, expected) in [
            ("application/grpc", "100m", None, Some(Duration::from_millis(100))),
            ("application/grpc+proto", "100m", second, Some(Duration::from_millis(100))),
            ("application/grpc", "1H", second, second),
            ("application/grpc-web", "100m", None, None),
            ("text/plain", "100m", second, second),
            ("application/grpc", "123456789m", None, None),
            ("application/grpc", "m", None, None),
            ("application/grpc", "1x", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert("grpc-timeout", HeaderValue::from_static(header));
            assert_eq!(effective(route, &headers), expected, "{kind} {header}");
        }
    }
}
