use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};

use super::{FailurePercentage, Outcome, SuccessRate};

/// `outlierDetection`: when an endpoint is ejected, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`: default 5; 0 turns it off.
    pub consecutive_5xx: u32,
    /// `consecutiveGatewayErrors`: default 0, off.
    pub consecutive_gateway: u32,
    /// `splitExternalLocalOriginErrors`: requests without a response have a count of their own. Default false: they
    /// count as gateway errors.
    pub split_local_origin: bool,
    /// `consecutiveLocalOriginFailures`, where they are split: default 5; 0 turns it off.
    pub consecutive_local_origin: u32,
    /// `outlierDetectionHttpErrorCodes`: the statuses that are errors, instead of 500 and above.
    pub error_codes: Option<Arc<[u16]>>,
    /// Endpoints that fail more than the others. Istio turns it off and has no field for it: off, and from code only.
    pub success_rate: Option<SuccessRate>,
    /// Endpoints that fail more than a limit. Off, and from code only.
    pub failure_percentage: Option<FailurePercentage>,
    /// `interval` between sweeps, on which endpoints come back. Default 10 s.
    pub interval: Duration,
    /// `baseEjectionTime`, multiplied by the times ejected. Default 30 s.
    pub base_ejection_time: Duration,
    /// `maxEjectionPercent`: default 10.
    pub max_ejection_percent: u32,
    /// `minHealthPercent`: below it every endpoint is used, ejected or not. Default 0: never.
    pub min_health_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            split_local_origin: false,
            consecutive_local_origin: 5,
            error_codes: None,
            success_rate: None,
            failure_percentage: None,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}

impl OutlierDetection {
    /// May one more of `members` be ejected when `ejected` already are?
    ///
    /// measured on Envoy 1.40 (t6): an endpoint is ejected iff (ejected + 1) / N <= maxEjectionPercent, so the
    /// default of 10 % ejects nothing below 10 endpoints.
    ///
    /// ```
    /// let default = mesh_lb::OutlierDetection::default();
    /// assert!(!default.may_eject(0, 9));
    /// assert!(default.may_eject(0, 10));
    /// ```
    #[must_use]
    pub fn may_eject(&self, ejected: usize, members: usize) -> bool {
        (ejected as u64 + 1) * 100 <= u64::from(self.max_ejection_percent) * members as u64
    }

    /// What a response's head says of its endpoint. A gRPC status in it counts as the HTTP status that Envoy maps it
    /// to.
    ///
    /// measured on Envoy 1.40: with a list of codes, a code in it that is not a 5xx counts as a 500, one that is keeps
    /// its meaning, and any other is a success; a gRPC status is looked at before the list.
    ///
    /// ```
    /// use http::{HeaderMap, StatusCode};
    /// use mesh_lb::{OutlierDetection, Outcome};
    ///
    /// let (mut policy, headers) = (OutlierDetection::default(), HeaderMap::new());
    /// policy.error_codes = Some([429, 503].into());
    /// assert_eq!(policy.outcome(StatusCode::TOO_MANY_REQUESTS, &headers), Outcome::ServerError);
    /// assert_eq!(policy.outcome(StatusCode::SERVICE_UNAVAILABLE, &headers), Outcome::GatewayError);
    /// assert_eq!(policy.outcome(StatusCode::INTERNAL_SERVER_ERROR, &headers), Outcome::Success);
    /// ```
    #[must_use]
    pub fn outcome(&self, status: StatusCode, headers: &HeaderMap) -> Outcome {
        match (&self.error_codes, Outcome::of_grpc(headers)) {
            (_, Some(outcome)) => outcome,
            (None, None) => Outcome::of_status(status.as_u16()),
            (Some(codes), None) if codes.contains(&status.as_u16()) => Outcome::of_status(status.as_u16().max(500)),
            (Some(_), None) => Outcome::Success,
        }
    }

    /// Is every request counted, not only those in a row?
    pub(crate) fn counts_rates(&self) -> bool {
        self.success_rate.is_some() || self.failure_percentage.is_some()
    }

    /// Which interval a time is in, counted from the cluster's epoch.
    pub(crate) fn interval_of(&self, now: Duration) -> u64 {
        super::nanos(now) / super::nanos(self.interval).max(1)
    }

    /// When an interval begins, in nanoseconds.
    pub(crate) fn start_of(&self, interval: u64) -> u64 {
        super::nanos(self.interval).max(1).saturating_mul(interval)
    }

    /// When an interval ends: the sweep.
    pub(crate) fn end_of(&self, interval: u64) -> Duration {
        Duration::from_nanos(self.start_of(interval.saturating_add(1)))
    }
}
