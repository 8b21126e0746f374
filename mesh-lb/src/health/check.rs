//! What an endpoint is asked, how often, and how many answers count.

use std::{num::NonZeroU32, ops::Range, sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode, uri::PathAndQuery};
use rand::{Rng, RngExt as _};

use super::CheckResult;

/// `healthCheck`: an active health check. The fields are envoy config.core.v3 HealthCheck's, which has no defaults: those
/// here are Kubernetes' for its probes (core/v1 Probe).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthCheck {
    /// What is asked.
    pub kind: HealthCheckKind,
    /// From the end of a check to the next one. Default 10 s.
    pub interval: Duration,
    /// An answer that takes longer is none. Default 1 s.
    pub timeout: Duration,
    /// Failures in a row after which an endpoint is out. Default 3. An answer that is neither expected nor retriable puts
    /// it out at once.
    pub unhealthy_threshold: NonZeroU32,
    /// Successes in a row after which it is back. Default 1. The first check of all needs but one.
    pub healthy_threshold: NonZeroU32,
    /// Up to this much is added to each interval, so that many clients do not ask at once. Default 0.
    pub interval_jitter: Duration,
    /// The first check comes within this time. Default 0: at once.
    pub initial_jitter: Duration,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthCheckKind {
    /// A request, over the connections that requests take.
    Http(HttpCheck),
    /// grpc.health.v1.Health/Check.
    Grpc(GrpcCheck),
    /// A connection, its TLS handshake included, and nothing on it.
    Tcp,
}

/// A request whose status says how an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpCheck {
    /// Default GET.
    pub method: Method,
    /// Path and query.
    pub path: PathAndQuery,
    /// The Host header. Default: the service's host.
    pub host: Option<HeaderValue>,
    /// Statuses of an endpoint that is well. Default 200 alone.
    pub expected: Statuses,
    /// Statuses that count against the threshold. Any other puts the endpoint out at once. Default none.
    pub retriable: Statuses,
}

/// A call of the standard gRPC health service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrpcCheck {
    /// The service asked about. Default "": the server as a whole.
    pub service: Arc<str>,
    /// The `:authority`. Default: the service's host.
    pub authority: Option<HeaderValue>,
}

/// Ranges of HTTP statuses, each without its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Box<[Range<u16>]>);

impl Statuses {
    /// These ranges.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = Range<u16>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Is it in one of them?
    #[must_use]
    pub fn contains(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl HttpCheck {
    /// GET of a path, which answers 200.
    #[must_use]
    pub fn new(path: PathAndQuery) -> Self {
        let expected = Statuses::new([200..201]);
        Self { method: Method::GET, path, host: None, expected, retriable: Statuses::default() }
    }

    /// What a status says.
    ///
    /// envoy config.core.v3 HttpHealthCheck.retriable_statuses: "By default all responses not in expected_statuses will
    /// result in the host being considered immediately unhealthy"; "The expected_statuses field takes precedence".
    ///
    /// ```
    /// use {http::StatusCode, mesh_lb::{CheckResult, HttpCheck, Statuses}};
    /// let mut check = HttpCheck::new("/healthz".parse().unwrap());
    /// check.retriable = Statuses::new([200..201, 503..504]);
    /// let result = |status| check.result(StatusCode::from_u16(status).unwrap());
    /// assert_eq!(result(200), CheckResult::Passed);
    /// assert_eq!(result(503), CheckResult::Unanswered);
    /// assert_eq!(result(204), CheckResult::Failed);
    /// ```
    #[must_use]
    pub fn result(&self, status: StatusCode) -> CheckResult {
        match () {
            () if self.expected.contains(status) => CheckResult::Passed,
            () if self.retriable.contains(status) => CheckResult::Unanswered,
            () => CheckResult::Failed,
        }
    }
}

impl HealthCheck {
    /// With the defaults.
    #[must_use]
    pub fn new(kind: HealthCheckKind) -> Self {
        Self {
            kind,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: const { NonZeroU32::new(3).expect("not 0") },
            healthy_threshold: NonZeroU32::MIN,
            interval_jitter: Duration::ZERO,
            initial_jitter: Duration::ZERO,
        }
    }

    /// envoy HealthCheck.initial_jitter: "Envoy will start health checking after for a random time in ms between 0 and
    /// initial_jitter. This only applies to the first health check."
    pub(super) fn first_wait(&self, rng: &mut impl Rng) -> Duration {
        part(self.initial_jitter, rng)
    }

    /// envoy HealthCheck.interval_jitter: "during every interval Envoy will add interval_jitter to the wait time"; the code
    /// (intervalWithJitter) adds a random part of it, and so do we. At least 1 ms, as there.
    pub(super) fn wait(&self, rng: &mut impl Rng) -> Duration {
        self.interval.saturating_add(part(self.interval_jitter, rng)).max(Duration::from_millis(1))
    }
}

/// From 0 up to all of it.
fn part(of: Duration, rng: &mut impl Rng) -> Duration {
    let nanos = u64::try_from(of.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 { Duration::ZERO } else { Duration::from_nanos(rng.random_range(0..nanos)) }
}
