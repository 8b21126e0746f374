//! Why a request got no response from upstream, and who is at fault.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::{ClusterName, Exchange, Resend, ResponseFlag};

/// A boxed error, as tower has it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The reason a request ended without a response. Each has one status, body and response flag: Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No rule of the virtual host matched: 404, empty body, `NR`.
    NoRoute,
    /// REGISTRY_ONLY and a host that nobody registered: 502, empty body (Istio's BlackHoleCluster).
    Blackhole,
    /// The route's cluster or subset is not defined: 503, empty body, `NC`.
    NoCluster,
    /// A backend of a Gateway API route does not exist or may not be used: 500, empty body, `NC`.
    InvalidBackend,
    /// The cluster has no endpoint that may be used: 503, `UH`.
    NoHealthyUpstream,
    /// A circuit breaker is full: 503 with `x-envoy-overloaded`, `UO`.
    Overflow,
    /// The connection could not be made, TLS included: 503, `UF`. Nothing was sent.
    ConnectFailure,
    /// The endpoint refused the stream before it looked at the request (h2 REFUSED_STREAM): 503, `UR`.
    RefusedStream,
    /// The connection ended or the stream was reset before a response came: 503, `UC`.
    Reset {
        /// Had a byte of the request been handed to the connection?
        request_sent: bool,
    },
    /// The caller's request body failed before its end: 400, `DC`. Nothing that upstream did.
    RequestAborted,
    /// The route's timeout: 504, `UT`.
    Timeout,
    /// The timeout of one attempt: 504, `UT`.
    PerTryTimeout,
    /// An injected abort: the rule's status, `FI`.
    FaultAbort(
        /// The status the rule names.
        StatusCode,
    ),
    /// An injected abort of a gRPC call: the rule's gRPC status, `FI`.
    FaultAbortGrpc(
        /// The gRPC status the rule names.
        u8,
    ),
    /// The route answers by itself, with a redirect or a `directResponse`: its status. See [`Error::answer`].
    Answered(
        /// The status the rule names.
        StatusCode,
    ),
    /// A CORS preflight, answered by the rule's policy: 200, empty body.
    Preflight,
    /// The local rate limit: 429, `RL`.
    RateLimited,
    /// Authorization refused: 403 `RBAC: access denied`.
    Denied,
    /// The request's token is no good: 401, with what is wrong as the body.
    Unauthenticated,
    /// The request's token is for somebody else: 403, with that as the body.
    WrongAudience,
    /// The request can be read in two ways, or not at all: 400.
    BadRequest(
        /// What is wrong with it, for the log: the reply has no body.
        &'static str,
    ),
    /// Policy has not been read yet: 503.
    NotReady,
}

/// Nothing came back from upstream, or the mesh refused to send: one typed reason, what became of the request,
/// and the cause below it.
pub struct Error(Box<Inner>);

struct Inner {
    reason: Reason,
    exchange: Exchange,
    source: Option<BoxError>,
    resend: Option<Resend>,
    body: Option<Bytes>,
    edits: Vec<HeaderEdit>,
}

type HeaderEdit = Box<dyn Fn(&mut HeaderMap) + Send + Sync>;

impl Error {
    /// An error without a cause below it.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        let exchange = reason.exchange();
        Self(Box::new(Inner { reason, exchange, source: None, resend: None, body: None, edits: Vec::new() }))
    }

    /// The route's own answer: nothing failed, and nothing is sent. The reply is made where all others are.
    #[must_use]
    pub fn answer(status: StatusCode, body: Bytes) -> Self {
        let mut answer = Self::new(Reason::Answered(status));
        answer.0.body = Some(body);
        answer
    }

    /// With a reply that says more than its reason does.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.0.body = Some(body.into());
        self
    }

    /// With the cause below it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// With the cluster it happened in.
    #[must_use]
    pub fn with_cluster(mut self, cluster: &Arc<ClusterName>) -> Self {
        self.0.exchange.cluster = Some(Arc::clone(cluster));
        self
    }

    /// The request may be sent again outside of any policy, or may not (`None`).
    #[must_use]
    pub fn with_resend(mut self, resend: Option<Resend>) -> Self {
        self.0.resend = resend;
        self
    }

    /// May the request be sent again outside of any policy?
    #[must_use]
    pub fn resend(&self) -> Option<Resend> {
        self.0.resend
    }

    /// Change the headers of the reply that is made of this, after all changes so far: what a rule says about
    /// responses, it says about local replies too.
    pub fn edit_reply(&mut self, edit: impl Fn(&mut HeaderMap) + Send + Sync + 'static) {
        self.0.edits.push(Box::new(edit));
    }

    pub(crate) fn edit_headers(&self, headers: &mut HeaderMap) {
        for edit in &self.0.edits {
            edit(headers);
        }
    }

    /// The reply's body. What ended a retry is told apart from what ended the only attempt.
    ///
    /// measured on Envoy 1.40 (interop): after more than one attempt "retried and the latest reset reason".
    #[must_use]
    pub fn body(&self) -> Bytes {
        let Inner { reason, exchange, body, .. } = &*self.0;
        let said = || if exchange.attempts > 1 { reason.body_after_retries() } else { reason.body() };
        body.clone().unwrap_or_else(|| Bytes::from_static(said().as_bytes()))
    }

    /// Read a layer's error: ours as it is, anything else as a connection that ended before it answered.
    pub fn from_box(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => *ours,
            Err(other) => Self::new(Reason::Reset { request_sent: true }).with_source(other),
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// What became of the request.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.0.exchange
    }

    /// What became of the request, to add to.
    pub fn exchange_mut(&mut self) -> &mut Exchange {
        &mut self.0.exchange
    }
}

impl Reason {
    /// Can an endpoint have begun to work on the request? Where it cannot, repeating the request adds no load.
    #[must_use]
    pub fn reached_endpoint(self) -> bool {
        !matches!(self, Self::ConnectFailure | Self::RefusedStream | Self::Reset { request_sent: false })
    }

    /// Envoy's status for it.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Blackhole => StatusCode::BAD_GATEWAY,
            // istio route.go: "return 500 for invalid backends" (cluster_not_found_response_code); measured on Envoy 1.40:
            // 500, empty body, NC, cluster_not_found, of a weighted cluster too.
            Self::InvalidBackend => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Timeout | Self::PerTryTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::FaultAbort(status) | Self::Answered(status) => status,
            // measured on Envoy 1.40 (t4): grpcStatus on a plain HTTP request is HTTP 200 with a text body.
            Self::FaultAbortGrpc(_) | Self::Preflight => StatusCode::OK,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Denied | Self::WrongAudience => StatusCode::FORBIDDEN,
            Self::BadRequest(_) | Self::RequestAborted => StatusCode::BAD_REQUEST,
            Self::NoCluster
            | Self::NoHealthyUpstream
            | Self::Overflow
            | Self::ConnectFailure
            | Self::RefusedStream
            | Self::Reset { .. }
            | Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The flag, where Envoy has one.
    #[must_use]
    pub fn flag(self) -> Option<ResponseFlag> {
        Some(match self {
            Self::NoRoute => ResponseFlag::NoRouteFound,
            Self::NoCluster | Self::InvalidBackend => ResponseFlag::NoClusterFound,
            Self::NoHealthyUpstream => ResponseFlag::NoHealthyUpstream,
            Self::Overflow => ResponseFlag::UpstreamOverflow,
            Self::ConnectFailure => ResponseFlag::UpstreamConnectionFailure,
            Self::RefusedStream => ResponseFlag::UpstreamRemoteReset,
            Self::Reset { .. } => ResponseFlag::UpstreamConnectionTermination,
            Self::RequestAborted => ResponseFlag::DownstreamConnectionTermination,
            Self::Timeout | Self::PerTryTimeout => ResponseFlag::UpstreamRequestTimeout,
            Self::FaultAbort(_) | Self::FaultAbortGrpc(_) => ResponseFlag::FaultInjected,
            Self::RateLimited => ResponseFlag::RateLimited,
            Self::Blackhole
            | Self::Answered(_)
            | Self::Preflight
            | Self::Denied
            | Self::Unauthenticated
            | Self::WrongAudience
            | Self::BadRequest(_)
            | Self::NotReady => return None,
        })
    }

    /// Envoy's RESPONSE_CODE_DETAILS.
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            Self::NoRoute => "route_not_found",
            Self::Blackhole | Self::Answered(_) => "direct_response",
            Self::Preflight => "cors_response",
            Self::NoCluster | Self::InvalidBackend => "cluster_not_found",
            Self::NoHealthyUpstream => "no_healthy_upstream",
            Self::Overflow => "upstream_reset_before_response_started{overflow}",
            Self::ConnectFailure => "upstream_reset_before_response_started{remote_connection_failure}",
            Self::RefusedStream => "upstream_reset_before_response_started{remote_refused_stream_reset}",
            Self::Reset { .. } => "upstream_reset_before_response_started{connection_termination}",
            Self::RequestAborted => "downstream_remote_disconnect",
            Self::Timeout => "response_timeout",
            Self::PerTryTimeout => "upstream_per_try_timeout",
            Self::FaultAbort(_) | Self::FaultAbortGrpc(_) => "fault_filter_abort",
            Self::RateLimited => "local_rate_limited",
            Self::Denied => "rbac_access_denied",
            Self::Unauthenticated | Self::WrongAudience => "jwt_authn_access_denied",
            Self::BadRequest(_) => "request_not_canonical",
            Self::NotReady => "policy_not_ready",
        }
    }

    /// Envoy's body, byte for byte where it was measured. A route's own answer brings its own: [`Error::body`].
    #[must_use]
    pub fn body(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "no healthy upstream",
            Self::Overflow => "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            Self::ConnectFailure => {
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
            }
            Self::RefusedStream => {
                "upstream connect error or disconnect/reset before headers. reset reason: remote refused stream reset"
            }
            Self::Reset { .. } => {
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
            }
            Self::Timeout | Self::PerTryTimeout => "upstream request timeout",
            Self::FaultAbort(_) | Self::FaultAbortGrpc(_) => "fault filter abort",
            Self::RateLimited => "local_rate_limited",
            Self::Denied => "RBAC: access denied",
            Self::NotReady => "mesh policy not ready",
            Self::NoRoute
            | Self::Blackhole
            | Self::NoCluster
            | Self::InvalidBackend
            | Self::Answered(_)
            | Self::Unauthenticated
            | Self::WrongAudience
            | Self::Preflight
            | Self::BadRequest(_)
            | Self::RequestAborted => "",
        }
    }

    fn body_after_retries(self) -> &'static str {
        match self {
            Self::Overflow => {
                "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: overflow"
            }
            Self::ConnectFailure => {
                "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure"
            }
            Self::RefusedStream => {
                "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote refused stream reset"
            }
            Self::Reset { .. } => {
                "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination"
            }
            _ => self.body(),
        }
    }

    fn exchange(self) -> Exchange {
        let mut exchange = Exchange { details: self.details(), ..Exchange::default() };
        if let Some(flag) = self.flag() {
            exchange.flag(flag);
        }
        if self == Self::Blackhole {
            // istio buildCatchAllVirtualHost names the route to its BlackHoleCluster so.
            exchange.route = Some("block_all".into());
        }
        exchange
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("no route matched"),
            Self::Blackhole => f.write_str("host is not in the registry and outboundTrafficPolicy is REGISTRY_ONLY"),
            Self::NoCluster => f.write_str("the route's host or subset is not defined"),
            Self::InvalidBackend => f.write_str("the route's backend does not exist or may not be used"),
            Self::NoHealthyUpstream => f.write_str("no healthy upstream"),
            Self::Overflow => f.write_str("circuit breaker overflow"),
            Self::ConnectFailure => f.write_str("upstream connection failure"),
            Self::RefusedStream => f.write_str("upstream refused the stream"),
            Self::Reset { .. } => f.write_str("upstream connection ended before the response"),
            Self::RequestAborted => f.write_str("the request's body failed"),
            Self::Timeout => f.write_str("route timeout"),
            Self::PerTryTimeout => f.write_str("per-try timeout"),
            Self::FaultAbort(status) => write!(f, "injected abort {}", status.as_u16()),
            Self::FaultAbortGrpc(status) => write!(f, "injected gRPC abort {status}"),
            Self::Answered(status) => write!(f, "answered by the route with {}", status.as_u16()),
            Self::Preflight => f.write_str("CORS preflight"),
            Self::RateLimited => f.write_str("local rate limit"),
            Self::Denied => f.write_str("access denied"),
            Self::Unauthenticated => f.write_str("bad token"),
            Self::WrongAudience => f.write_str("token for another audience"),
            Self::BadRequest(what) => write!(f, "bad request: {what}"),
            Self::NotReady => f.write_str("policy not read yet"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.reason.fmt(f)?;
        if let Some(cluster) = &self.0.exchange.cluster {
            write!(f, " ({cluster})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("reason", &self.0.reason).field("source", &self.0.source).finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

/// The deadline of a request, put into its extensions by the timeout layer and read by whoever can give up early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub tokio::time::Instant);

impl Deadline {
    /// Time left at `now`, zero when it has passed.
    #[must_use]
    pub fn remaining(self, now: tokio::time::Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}
