//! Differences that stay, each with its reason. Everything else is a bug on one of the two sides.

use mesh_core::path::PathNormalization;

use crate::{
    clusters::CLUSTERS,
    compare::{Difference, Outcome},
    model::Request,
};

/// Request headers that a proxy adds of itself and that a client in the caller's process does not: where the request
/// came from, and what its host was before a rewrite.
const REQUEST: [&str; 3] = ["x-forwarded-proto", "x-request-id", "x-envoy-internal"];

/// Response headers that a proxy adds of itself, `date`, which hyper's server adds, and ours of a reply that ended
/// retries, which Envoy has no header for.
const RESPONSE: [&str; 3] = ["x-envoy-upstream-service-time", "date", "x-mesh-retries-exhausted"];

/// Of a connection, not of the message: two proxies may frame a message differently.
const HOP: [&str; 2] = ["connection", "transfer-encoding"];

/// May a request header be there or not be there?
pub(crate) fn request_header(name: &str, value: &[u8]) -> bool {
    REQUEST.contains(&name) || framing(name, value)
}

/// The same of a copy's header.
pub(crate) fn copied_header(name: &str, value: &[u8]) -> bool {
    // Envoy sends copies through a client of its own, which tells where that runs.
    name == "x-forwarded-for" || request_header(name, value)
}

/// The same of a response header.
pub(crate) fn response_header(name: &str, value: &[u8]) -> bool {
    RESPONSE.contains(&name) || framing(name, value)
}

/// Envoy's codec writes the length of an empty body where a body is expected, hyper's writes it elsewhere.
fn framing(name: &str, value: &[u8]) -> bool {
    HOP.contains(&name) || (name == "content-length" && value == b"0")
}

/// Why a difference is accepted; `None` when it is not.
pub(crate) fn reason(
    mode: PathNormalization,
    request: &Request,
    envoy: &Outcome,
    ours: &Outcome,
    difference: &Difference,
) -> Option<&'static str> {
    let refused =
        |side: &Outcome| side.seen.is_empty() && side.answer.as_ref().is_none_or(|answer| answer.status == 400);
    if !request.target.is_ascii() && refused(envoy) {
        return Some(if refused(ours) {
            "Envoy's codec and hyper's each answer a target that is not UTF-8 with a 400 of their own"
        } else {
            "Envoy's codec refuses a target that is not ASCII; http::Uri holds UTF-8, and the caller made it"
        });
    }
    if dangling_percent(&request.target) && refused(envoy) == refused(ours) {
        return Some(
            "after a % that begins no escape we do not decode one that would complete it: a second reader would",
        );
    }
    if matches!(mode, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes)
        && nothing_but_slashes(&request.target)
    {
        return Some("Envoy merges a path of nothing but slashes into two of them, we into one");
    }
    match difference.field {
        "route" | "cluster" | "flags"
            if difference.envoy == "-" && answered_preflight(request, envoy) && ours.seen.is_empty() =>
        {
            Some("Envoy's CORS filter answers a preflight without the headers that reveal what was decided")
        }
        "cluster" if difference.envoy == "-" && !CLUSTERS.contains_key(&difference.ours) => {
            Some("of a cluster that does not exist Envoy has no name to tell; we tell the one that the rule asked for")
        }
        "copies" if untimed(&difference.envoy) == untimed(&difference.ours) => {
            Some("a copy has no perTryTimeout here, and is told of none")
        }
        "body" | "response headers" if error_text(envoy).is_some() => {
            let body = envoy.answer.as_ref().map(|answer| answer.body.as_slice())?;
            let ours = ours.answer.as_ref().map(|answer| answer.body.as_slice())?;
            let only_text = body.starts_with(ours) && body.len() == ours.len() + error_text(envoy)?;
            let only_length =
                difference.envoy.replace(&body.len().to_string(), &ours.len().to_string()) == difference.ours;
            (only_text && (difference.field == "body" || only_length))
                .then_some("Envoy's body goes on with the operating system's error text")
        }
        _ => None,
    }
}

/// Copies without what they are told of timeouts.
fn untimed(copies: &str) -> String {
    let timed =
        |part: &&str| ["x-envoy-expected-rq-timeout-ms: ", "grpc-timeout: "].iter().any(|t| part.starts_with(t));
    copies.split(" | ").filter(|part| !timed(part)).collect::<Vec<_>>().join(" | ")
}

/// Did Envoy's CORS filter answer?
pub(crate) fn answered_preflight(request: &Request, envoy: &Outcome) -> bool {
    let asks = |name: &[u8]| request.headers.iter().any(|(known, _)| known == name);
    let answered = envoy.answer.as_ref().is_some_and(|answer| answer.status == 200) && envoy.seen.is_empty();
    request.method == "OPTIONS" && asks(b"origin") && asks(b"access-control-request-method") && answered
}

/// Is there a `%` that begins no escape, with an escape right behind it?
fn dangling_percent(target: &[u8]) -> bool {
    let escape = |at: usize| target.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    (0..target.len()).any(|at| {
        target[at] == b'%' && !escape(at) && (1..3).any(|gap| target.get(at + gap) == Some(&b'%') && escape(at + gap))
    })
}

/// Has the path no segment left when it is normalised and slashes are decoded?
fn nothing_but_slashes(target: &[u8]) -> bool {
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let mut path = String::from_utf8_lossy(path).to_lowercase().replace("%2e", ".").replace('\\', "/");
    path = path.replace("%2f", "/").replace("%5c", "/");
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    segments.is_empty()
}

/// How much of a local reply's body is the operating system's error text.
fn error_text(envoy: &Outcome) -> Option<usize> {
    let body = String::from_utf8_lossy(&envoy.answer.as_ref()?.body).into_owned();
    body.find(", transport failure reason: ").map(|at| body.len() - at)
}
