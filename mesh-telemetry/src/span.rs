//! The `tracing` span of a sampled request, with OpenTelemetry's names. A request that is not sampled has none: the
//! decision comes before a field is built.

use http::Request;
use tracing::{Level, Span, field::Empty};

use crate::{
    host::{Host, without_port},
    metrics::Outcome,
    trace::TraceContext,
};

/// The target of request spans.
pub const TRACE_TARGET: &str = "mesh::trace";

macro_rules! request_span {
    ($kind:literal, $context:expr, $request:expr, $host:expr) => {
        tracing::span!(
            target: TRACE_TARGET,
            Level::INFO,
            "request",
            otel.name = %$request.method(),
            otel.kind = $kind,
            otel.status_code = Empty,
            trace_id = %$context.trace_id(),
            span_id = %$context.span_id(),
            parent_span_id = $context.parent_id().map(tracing::field::display),
            http.request.method = %$request.method(),
            url.path = $request.uri().path(),
            server.address = without_port($host.as_str()),
            http.response.status_code = Empty,
            rpc.response.status_code = Empty,
            error.type = Empty,
            response_flags = Empty,
        )
    };
}

/// The span of a request that came in.
pub(crate) fn server<B>(context: &TraceContext, request: &Request<B>, host: &Host) -> Span {
    if context.is_sampled() { request_span!("server", context, request, host) } else { Span::none() }
}

/// The span of a request that goes out.
pub(crate) fn client<B>(context: &TraceContext, request: &Request<B>, host: &Host) -> Span {
    if context.is_sampled() { request_span!("client", context, request, host) } else { Span::none() }
}

/// What became of the request.
pub(crate) fn end(span: &Span, outcome: &Outcome) {
    if span.is_disabled() {
        return;
    }
    if outcome.code > 0 {
        span.record("http.response.status_code", outcome.code);
    }
    if let Some(status) = outcome.grpc_status {
        span.record("rpc.response.status_code", status);
    }
    if !outcome.flags.is_empty() {
        span.record("response_flags", tracing::field::display(outcome.flags));
    }
    if outcome.code >= 500 || outcome.grpc_status.is_some_and(|status| status != 0) {
        span.record("otel.status_code", "ERROR");
        if outcome.code >= 500 {
            span.record("error.type", outcome.code);
        }
    }
}
