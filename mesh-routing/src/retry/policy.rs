//! The decision: after an attempt, go on or give up.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use mesh_core::{
    MeshConfig, Reason,
    config::{Document, Field, Issues, Value, fields},
};

use super::{BackOff, RetryOn, spec::RetrySpec};

/// When and how often a request is tried again.
///
/// ```
/// use {mesh_routing::{RetryPolicy, Verdict}, mesh_core::Reason};
/// let policy = RetryPolicy::istio_default();
/// assert_eq!(policy.after_error(1, Reason::ConnectFailure), Verdict::Retry);
/// assert_eq!(policy.after_error(3, Reason::ConnectFailure), Verdict::LimitReached);
/// assert_eq!(policy.after_error(1, Reason::Reset { request_sent: true }), Verdict::Accept);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    pub(super) retries: u32,
    pub(super) per_try_timeout: Option<Duration>,
    pub(super) on: RetryOn,
    pub(super) backoff: BackOff,
    pub(super) avoid_previous: Option<bool>,
    pub(super) leave_localities: bool,
}

/// What to do with the outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hand it out.
    Accept,
    /// Try again.
    Retry,
    /// It would be tried again, but the attempts are used up: hand it out, flagged `URX`.
    LimitReached,
}

/// Istio's default conditions. `retriable-status-codes` stands there without a code, so that a 503 is not retried.
pub(super) const ISTIO_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

impl RetryPolicy {
    /// Up to `retries` more attempts under these conditions; back-off from 25 ms, previous hosts avoided, no
    /// per-try timeout.
    #[must_use]
    pub fn new(retries: u32, on: RetryOn) -> Self {
        Self {
            retries,
            per_try_timeout: None,
            on,
            backoff: BackOff::default(),
            avoid_previous: None,
            leave_localities: false,
        }
    }

    /// What Istio does where a rule says nothing (istio retry.go cachedDefaultPolicy): two retries on connect
    /// failures, refused streams and the gRPC statuses cancelled and unavailable.
    #[must_use]
    pub fn istio_default() -> Self {
        Self::new(2, RetryOn::parse(ISTIO_RETRY_ON).unwrap_or_default())
    }

    /// The field of a `mesh:` document that [`from_mesh_document`](Self::from_mesh_document) reads.
    pub const MESH_FIELD: &str = "defaultHttpRetryPolicy";

    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<RetrySpec>()
    }

    /// The mesh's `defaultHttpRetryPolicy`, else [`istio_default`](Self::istio_default). `Some(None)` switches
    /// retries off (`attempts: 0`); `None` after an error, which is in `issues`.
    pub fn from_mesh_document(document: &Document, issues: &mut Issues) -> Option<Option<Self>> {
        const FIELD: &str = RetryPolicy::MESH_FIELD;
        if document.spec().and_then(|spec| spec.get(FIELD)).is_none_or(|node| node.value == Value::Null) {
            return Some(Some(Self::istio_default()));
        }
        let spec: RetrySpec = document.decode_field(FIELD, issues)?;
        match spec.compile() {
            Ok(policy) => Some(policy),
            Err((field, message)) => {
                issues.push(document.error(format!("{FIELD}.{field}"), message));
                None
            }
        }
    }

    /// The same from the settings of the mesh, which may have been made in code.
    pub fn from_mesh(mesh: &MeshConfig, issues: &mut Issues) -> Option<Option<Self>> {
        match &mesh.document {
            Some(document) => Self::from_mesh_document(document, issues),
            None => Some(Some(Self::istio_default())),
        }
    }

    /// Each attempt may take this long up to its response's head.
    #[must_use]
    pub fn with_per_try_timeout(mut self, timeout: Duration) -> Self {
        self.per_try_timeout = Some(timeout);
        self
    }

    /// With this back-off.
    #[must_use]
    pub fn with_backoff(mut self, backoff: BackOff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Retries after the first attempt.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// Under which conditions.
    #[must_use]
    pub fn retry_on(&self) -> &RetryOn {
        &self.on
    }

    /// Time for each attempt.
    #[must_use]
    pub fn per_try_timeout(&self) -> Option<Duration> {
        self.per_try_timeout
    }

    /// Waits between attempts.
    #[must_use]
    pub fn backoff(&self) -> BackOff {
        self.backoff
    }

    /// Are endpoints that were tried avoided (`retryIgnorePreviousHosts`)?
    #[must_use]
    pub fn avoids_previous(&self) -> bool {
        self.avoid_previous.unwrap_or(true)
    }

    /// Do attempts leave the levels of priority that others went to (`retryRemoteLocalities`)?
    #[must_use]
    pub fn leaves_localities(&self) -> bool {
        self.leave_localities
    }

    /// Are they avoided even where consistent hashing chose them?
    ///
    /// istio retry.go ConvertPolicy: "When Consistent Hashing is enabled, we don't want to use other hosts during
    /// retries", and then "User has specified RetryIgnorePreviousHosts, so honor it."
    #[must_use]
    pub fn insists_on_others(&self) -> bool {
        self.avoid_previous == Some(true)
    }

    /// After `attempts` attempts, the last of which got this response.
    #[must_use]
    pub fn after_response(&self, attempts: u32, status: StatusCode, headers: &HeaderMap) -> Verdict {
        self.verdict(attempts, self.on.response(status, headers))
    }

    /// After `attempts` attempts, the last of which ended for this reason.
    #[must_use]
    pub fn after_error(&self, attempts: u32, reason: Reason) -> Verdict {
        self.verdict(attempts, self.on.error(reason))
    }

    /// istio networking/v1alpha3 HTTPRetry.attempts: "Number of retries to be allowed for a given request": the first
    /// attempt is not one.
    fn verdict(&self, attempts: u32, applies: bool) -> Verdict {
        match (applies, attempts > self.retries) {
            (false, _) => Verdict::Accept,
            (true, true) => Verdict::LimitReached,
            (true, false) => Verdict::Retry,
        }
    }
}
