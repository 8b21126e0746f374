//! Durations in rules, with Istio's checks.

use std::time::Duration;

use mesh_core::config::parse_duration;

/// istio validation ValidateDuration: at least a millisecond, in whole milliseconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(1) {
        return Err("duration must be greater than 1ms".into());
    }
    if duration.subsec_nanos() % 1_000_000 != 0 {
        return Err("only durations to ms precision are supported".into());
    }
    Ok(duration)
}

/// A timeout, where `0s` means none.
pub(crate) fn timeout(text: &str) -> Result<Option<Duration>, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Ok(None),
        _ => duration(text).map(Some),
    }
}
