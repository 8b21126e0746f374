//! The record of one request, from its head to the end of its response. Written exactly once: by whoever calls
//! [`complete`](Recording::complete), else by the drop of a call or body that nobody waits for any more.

use std::{
    any::Any,
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use mesh_core::{BoxError, Exchange, Progress, ResponseFlag, ResponseFlags, clock};
use tokio::time::Instant;
use tracing::{Span, span::Entered};

use crate::{
    access::AccessLine,
    client::ClientTelemetry,
    host::Host,
    metrics::{Edge, Metrics, Outcome, Protocol},
    span,
};

/// Where a request is counted.
#[derive(Debug)]
pub(crate) enum Place {
    /// A server knows its caller from the start.
    Known(Metrics, Arc<Edge>),
    /// A client knows the callee when the response says who it was; without one, as far as the call got.
    Open(ClientTelemetry, Host, Progress),
}

#[derive(Debug)]
pub(crate) struct Recording {
    place: Place,
    start: Instant,
    grpc: bool,
    method: BodylessMethod,
    request_head: u64,
    request_body: Option<Arc<AtomicU64>>,
    code: u16,
    grpc_status: Option<u8>,
    flags: ResponseFlags,
    details: &'static str,
    response_head: u64,
    response_body: u64,
    span: Span,
    line: Option<Box<AccessLine>>,
    recorded: bool,
}

/// Methods whose responses have no body whatever their headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodylessMethod {
    Head,
    Connect,
    Other,
}

impl Recording {
    /// At the head of a request, as it is sent. Boxed: it moves from the call to the future to the body. `start` is the only reading of the clock until the end.
    pub(crate) fn new<B>(
        request: &Request<B>,
        request_body: Option<Arc<AtomicU64>>,
        place: Place,
        start: Instant,
        span: Span,
    ) -> Box<Self> {
        let method = match *request.method() {
            Method::HEAD => BodylessMethod::Head,
            Method::CONNECT => BodylessMethod::Connect,
            _ => BodylessMethod::Other,
        };
        Box::new(Self {
            place,
            start,
            grpc: is_grpc(request.headers()),
            method,
            request_head: request_head(request),
            request_body,
            code: 0,
            grpc_status: None,
            flags: ResponseFlags::default(),
            details: "",
            response_head: 0,
            response_body: 0,
            span,
            line: AccessLine::of(request),
            recorded: false,
        })
    }

    /// The request id that was made for a request without one.
    pub(crate) fn request_id(&mut self, id: Option<&HeaderValue>) {
        if let Some(line) = &mut self.line {
            line.request_id(id);
        }
    }

    pub(crate) fn enter(&self) -> Entered<'_> {
        self.span.enter()
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// Will the protocol send no body, whatever the response carries?
    pub(crate) fn is_bodyless(&self) -> bool {
        let status = StatusCode::from_u16(self.code).unwrap_or_default();
        match self.method {
            BodylessMethod::Head => true,
            BodylessMethod::Connect if status.is_success() => true,
            _ => status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED,
        }
    }

    /// The head of the response.
    pub(crate) fn response<B>(&mut self, response: &Response<B>) {
        self.code = response.status().as_u16();
        // grpc: "Trailers-Only" responses have their status in the only header block.
        self.grpc_status = self.grpc.then(|| grpc_status(response.headers())).flatten();
        self.response_head = response_head(response);
        let exchange = response.extensions().get::<Exchange>();
        self.exchange(exchange, "via_upstream");
        if let Some(line) = &mut self.line {
            line.response(response.headers());
        }
    }

    /// The call failed and no layer made a response of it.
    pub(crate) fn call_error<E: 'static>(&mut self, error: &E) {
        self.exchange(exchange_of(error), "");
        self.complete();
    }

    /// The response body failed under way.
    pub(crate) fn body_error<E: 'static>(&mut self, error: &E) {
        match exchange_of(error) {
            Some(exchange) => {
                self.flags = self.flags | exchange.flags;
                self.details = exchange.details;
            }
            None => {
                self.flags.insert(ResponseFlag::UpstreamConnectionTermination);
                self.details = "upstream_reset_after_response_started{connection_termination}";
            }
        }
    }

    pub(crate) fn data(&mut self, bytes: usize) {
        self.response_body += bytes as u64;
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.grpc
            && let Some(status) = grpc_status(trailers)
        {
            self.grpc_status = Some(status);
        }
    }

    fn exchange(&mut self, exchange: Option<&Exchange>, otherwise: &'static str) {
        let merged;
        let exchange = match &self.place {
            Place::Open(client, host, progress) => {
                merged = exchange.map(|exchange| as_far_as_it_got(exchange, progress));
                let exchange = merged.as_deref();
                self.place = Place::Known(client.metrics().clone(), client.edge(exchange, host.as_str()));
                exchange
            }
            // A handler that passes on what a client of the mesh gave it passes on that call's exchange too.
            Place::Known(..) => exchange.filter(|exchange| exchange.cluster.is_none()),
        };
        let details = exchange.map_or("", |exchange| exchange.details);
        self.details = if details.is_empty() { otherwise } else { details };
        let Some(exchange) = exchange else { return };
        self.flags = self.flags | exchange.flags;
        if let Some(line) = &mut self.line {
            line.exchange(exchange);
        }
    }

    /// The caller gave up: nothing came back to say who was asked.
    fn given_up(&mut self) {
        let Place::Open(_, _, progress) = &self.place else { return };
        let mut known = progress.so_far();
        known.details = self.details;
        self.exchange(Some(&known), self.details);
    }

    /// Write the record. Later calls, and the drop, do nothing.
    pub(crate) fn complete(&mut self) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        self.given_up();
        let Place::Known(metrics, edge) = &self.place else { return };
        let request_body = self.request_body.as_ref().map_or(0, |count| count.load(Relaxed));
        let outcome = Outcome {
            protocol: if self.grpc { Protocol::Grpc } else { Protocol::Http },
            code: self.code,
            grpc_status: self.grpc_status,
            flags: self.flags,
            duration: clock::now().saturating_duration_since(self.start),
            request_bytes: self.request_head + request_body,
            response_bytes: self.response_head + self.response_body,
        };
        metrics.record(edge, &outcome);
        span::end(&self.span, &outcome);
        if let Some(line) = self.line.take() {
            line.write(&outcome, self.details, request_body, self.response_body);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.recorded {
            return;
        }
        // A reply made here was whole when it was handed over: not reading its body is nobody's going away.
        let local = self.code != 0 && !matches!(self.details, "" | "via_upstream");
        if local {
            self.complete();
        } else {
            // envoy: whoever asked went away; 0 when no response had begun.
            self.flags.insert(ResponseFlag::DownstreamConnectionTermination);
            self.details = "downstream_remote_disconnect";
            self.complete();
        }
    }
}

/// A local reply knows less than the call did: a timeout, for one, drops whoever knew the endpoint.
fn as_far_as_it_got<'a>(exchange: &'a Exchange, progress: &Progress) -> Cow<'a, Exchange> {
    if exchange.details.is_empty() {
        return Cow::Borrowed(exchange);
    }
    let known = progress.so_far();
    let mut exchange = exchange.clone();
    exchange.mutual_tls |= known.mutual_tls;
    exchange.endpoint = exchange.endpoint.or(known.endpoint);
    Cow::Owned(exchange)
}

/// What a mesh error says of the request, bare or boxed.
fn exchange_of<E: 'static>(error: &E) -> Option<&Exchange> {
    let error: &dyn Any = error;
    let ours = error
        .downcast_ref::<mesh_core::Error>()
        .or_else(|| error.downcast_ref::<BoxError>().and_then(|error| error.downcast_ref()));
    ours.map(mesh_core::Error::exchange)
}

/// envoy Grpc::Common::isGrpcRequestHeaders: `application/grpc`, alone or followed by `+`.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// grpc statuscodes.md: applications use 0 to 16, and an unknown code is to be treated as UNKNOWN (2). That also bounds the
/// label.
fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    let status = headers.get("grpc-status")?.to_str().ok().and_then(|status| status.parse::<u8>().ok());
    Some(status.filter(|status| *status <= 16).unwrap_or(2))
}

/// Size of a head in HTTP/1.1's form, whatever the connection spoke: comparable between versions, and known without
/// asking the codec.
fn request_head<B>(request: &Request<B>) -> u64 {
    let target = request.uri().path_and_query().map_or(1, |path| path.as_str().len());
    let line = request.method().as_str().len() + 1 + target + " HTTP/1.1\r\n".len();
    (line + headers_len(request.headers())) as u64
}

fn response_head<B>(response: &Response<B>) -> u64 {
    let reason = response.status().canonical_reason().unwrap_or_default();
    let line = "HTTP/1.1 200 \r\n".len() + reason.len();
    (line + headers_len(response.headers())) as u64
}

fn headers_len(headers: &HeaderMap) -> usize {
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    lines.sum::<usize>() + "\r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_as_http_1_1_writes_them() {
        let request = Request::get("http://reviews/a?b=c").header("host", "reviews").body(()).unwrap();
        assert_eq!(request_head(&request), "GET /a?b=c HTTP/1.1\r\nhost: reviews\r\n\r\n".len() as u64);
        let response = Response::builder().status(404).header("x", "y").body(()).unwrap();
        assert_eq!(response_head(&response), "HTTP/1.1 404 Not Found\r\nx: y\r\n\r\n".len() as u64);
    }

    #[test]
    fn grpc_is_told_by_its_content_type_and_statuses_are_bounded() {
        for (content_type, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let request = Request::post("/").header("content-type", content_type).body(()).unwrap();
            assert_eq!(is_grpc(request.headers()), grpc, "{content_type}");
        }
        for (status, label) in [("0", 0), ("16", 16), ("17", 2), ("-1", 2), ("99999", 2), ("", 2)] {
            let headers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
            assert_eq!(grpc_status(&headers), Some(label), "{status}");
        }
    }
}
