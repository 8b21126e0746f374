//! The caller's own deadline.

use std::time::Duration;

use http::{HeaderMap, header::CONTENT_TYPE};

/// The timeout of a call: the route's, and for gRPC the caller's where that is shorter.
///
/// measured on Envoy 1.40 (t3), Istio's `max_grpc_timeout`: the header is used when the route has no timeout, else
/// the smaller of the two.
pub(super) fn effective(route: Option<Duration>, headers: &HeaderMap) -> Option<Duration> {
    let caller = headers.get("grpc-timeout").filter(|_| is_grpc(headers)).and_then(|value| parse(value.as_bytes()));
    match (route, caller) {
        (Some(route), Some(caller)) => Some(route.min(caller)),
        (route, caller) => route.or(caller),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
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
