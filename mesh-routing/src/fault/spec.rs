//! `fault` as YAML has it.

use http::StatusCode;
use mesh_core::{Reason, config::DurationText};
use serde::Deserialize;

use super::Fault;
use crate::{
    percent::{Percent, PercentSpec},
    time,
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct FaultSpec {
    delay: Option<DelaySpec>,
    abort: Option<AbortSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DelaySpec {
    percent: Option<i64>,
    fixed_delay: Option<DurationText>,
    exponential_delay: Option<DurationText>,
    percentage: Option<PercentSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AbortSpec {
    http_status: Option<i64>,
    grpc_status: Option<String>,
    http2_error: Option<String>,
    percentage: Option<PercentSpec>,
}

impl FaultSpec {
    /// Compile; errors are (field below `fault`, Istio's message).
    pub(crate) fn compile(&self) -> Result<Fault, (String, String)> {
        if self.delay.is_none() && self.abort.is_none() {
            return Err((String::new(), "HTTP fault injection must have an abort and/or a delay".into()));
        }
        let mut fault = Fault::default();
        if let Some(delay) = &self.delay {
            if delay.exponential_delay.is_some() {
                return Err(("delay.exponentialDelay".into(), "exponentialDelay not supported yet".into()));
            }
            let at = || "delay.fixedDelay".to_owned();
            let Some(fixed) = &delay.fixed_delay else {
                return Err((at(), "a delay needs fixedDelay".into()));
            };
            let fixed = time::duration(fixed).map_err(|message| (at(), message))?;
            fault.delay = Some((fixed, delay.share()?));
        }
        if let Some(abort) = &self.abort {
            // istio: "If not specified, no request will be aborted."
            let percent = share(abort.percentage, "abort")?;
            fault.abort = Some((abort.reason()?, percent));
        }
        Ok(fault)
    }
}

fn share(percentage: Option<PercentSpec>, of: &str) -> Result<Percent, (String, String)> {
    let percentage = percentage.unwrap_or_default();
    Percent::new(percentage.value).map_err(|message| (format!("{of}.percentage.value"), message))
}

impl DelaySpec {
    fn share(&self) -> Result<Percent, (String, String)> {
        match (self.percentage, self.percent) {
            (None, Some(percent)) => {
                let whole = i32::try_from(percent).ok().filter(|percent| (0..=100).contains(percent));
                whole
                    .and_then(|percent| Percent::new(f64::from(percent)).ok())
                    .ok_or_else(|| ("delay.percent".into(), format!("percentage {percent} is not in range 0..100")))
            }
            (percentage, _) => share(percentage, "delay"),
        }
    }
}

impl AbortSpec {
    fn reason(&self) -> Result<Reason, (String, String)> {
        match (self.http_status, &self.grpc_status, &self.http2_error) {
            (_, _, Some(_)) => Err(("abort.http2Error".into(), "HTTP/2 abort fault injection not supported yet".into())),
            (Some(status), None, None) => u16::try_from(status)
                .ok()
                .filter(|status| (200..=599).contains(status))
                .and_then(|status| StatusCode::from_u16(status).ok())
                .map(Reason::FaultAbort)
                .ok_or_else(|| ("abort.httpStatus".into(), format!("HTTP status {status} is not in range 200-599"))),
            (None, Some(name), None) => grpc_status(name).map(Reason::FaultAbortGrpc).ok_or_else(|| {
                let message = format!(
                    "gRPC status {name:?} is not supported. See https://github.com/grpc/grpc/blob/master/doc/statuscodes.md for a list of supported codes"
                );
                ("abort.grpcStatus".into(), message)
            }),
            (None, None, None) => Err(("abort".into(), "an abort needs httpStatus or grpcStatus".into())),
            (Some(_), Some(_), None) => Err(("abort".into(), "only one of httpStatus and grpcStatus may be set".into())),
        }
    }
}

/// gRPC's status names, in the order of their codes.
fn grpc_status(name: &str) -> Option<u8> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.iter().position(|known| *known == name).and_then(|code| u8::try_from(code).ok())
}
