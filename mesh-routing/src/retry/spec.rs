//! HTTPRetry as YAML has it.

use mesh_core::config::DurationText;
use serde::Deserialize;

use super::{BackOff, RetryOn, RetryPolicy, policy::ISTIO_RETRY_ON};
use crate::time;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RetrySpec {
    attempts: i64,
    per_try_timeout: Option<DurationText>,
    retry_on: String,
    retry_remote_localities: Option<bool>,
    retry_ignore_previous_hosts: Option<bool>,
    backoff: Option<DurationText>,
}

impl RetrySpec {
    /// The conditions that are accepted and can never hold: Istio sets no retriable headers, and we speak no HTTP/3.
    pub(crate) fn idle_conditions(&self) -> impl Iterator<Item = &str> {
        let idle = |token: &&str| matches!(*token, "retriable-headers" | "http3-post-connect-failure");
        self.retry_on.split(',').map(str::trim).filter(idle)
    }

    /// Compile; `Ok(None)` switches retries off. Errors are (field below `retries`, Istio's message).
    pub(crate) fn compile(&self) -> Result<Option<RetryPolicy>, (&'static str, String)> {
        let in_field = |field| move |message: String| (field, message);
        let Ok(retries) = u32::try_from(self.attempts) else {
            return Err(("attempts", "attempts cannot be negative".into()));
        };
        if retries == 0 {
            let configured = self.per_try_timeout.is_some() || !self.retry_on.is_empty() || self.backoff.is_some();
            if configured {
                return Err(("attempts", "http retry policy configured when attempts are set to 0 (disabled)".into()));
            }
            return Ok(None);
        }
        // istio retry.go ConvertPolicy: an empty retryOn keeps the default's.
        let on = if self.retry_on.is_empty() { ISTIO_RETRY_ON } else { &self.retry_on };
        let on = RetryOn::parse(on).map_err(|error| ("retryOn", error.to_string()))?;
        let mut policy = RetryPolicy::new(retries, on);
        if let Some(text) = &self.per_try_timeout {
            policy.per_try_timeout = time::timeout(text).map_err(in_field("perTryTimeout"))?;
        }
        if let Some(text) = &self.backoff {
            policy.backoff = BackOff::new(time::duration(text).map_err(in_field("backoff"))?);
        }
        policy.avoid_previous = self.retry_ignore_previous_hosts;
        policy.leave_localities = self.retry_remote_localities == Some(true);
        Ok(Some(policy))
    }
}
