//! Differences that stay, each with its reason. Everything else is a bug on one of the two sides.

use crate::{
    compare::{Difference, Outcome},
    model::Request,
};

/// Request headers that a proxy adds of itself and that a client in the caller's process does not: where the request came
/// from, how long Envoy is going to wait.
const REQUEST: [&str; 4] =
    ["x-forwarded-proto", "x-request-id", "x-envoy-expected-rq-timeout-ms", "x-envoy-internal"];

/// Response headers that a proxy adds of itself, and `date`, which hyper's server adds.
const RESPONSE: [&str; 2] = ["x-envoy-upstream-service-time", "date"];

/// Of a connection, not of the message: two proxies may frame a message differently.
const HOP: [&str; 2] = ["connection", "transfer-encoding"];

/// May a request header be there or not be there?
pub(crate) fn request_header(name: &str, value: &[u8]) -> bool {
    REQUEST.contains(&name) || framing(name, value)
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
    request: &Request,
    envoy: &Outcome,
    ours: &Outcome,
    difference: &Difference,
) -> Option<&'static str> {
    let refused = |side: &Outcome| {
        side.seen.is_empty() && side.answer.as_ref().is_none_or(|answer| answer.status == 400)
    };
    if !request.target.is_ascii() && refused(envoy) {
        return Some(if refused(ours) {
            "Envoy's codec and hyper's each answer a target that is not UTF-8 with a 400 of their own"
        } else {
            "Envoy's codec refuses a target that is not ASCII; http::Uri holds UTF-8, and the caller made it"
        });
    }
    match difference.field {
        "body" | "response headers" if error_text(envoy).is_some() => {
            let body = envoy.answer.as_ref().map(|answer| answer.body.as_slice())?;
            let ours = ours.answer.as_ref().map(|answer| answer.body.as_slice())?;
            let only_text = body.starts_with(ours) && body.len() == ours.len() + error_text(envoy)?;
            let only_length = difference.envoy.replace(&body.len().to_string(), &ours.len().to_string()) == difference.ours;
            (only_text && (difference.field == "body" || only_length))
                .then_some("Envoy's body goes on with the operating system's error text")
        }
        _ => None,
    }
}

/// How much of a local reply's body is the operating system's error text.
fn error_text(envoy: &Outcome) -> Option<usize> {
    let body = String::from_utf8_lossy(&envoy.answer.as_ref()?.body).into_owned();
    body.find(", transport failure reason: ").map(|at| body.len() - at)
}
