//! `x-mesh-load`: a question in a request, an answer in a response.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use mesh_lb::LoadReport;

pub(super) const LOAD: HeaderName = HeaderName::from_static("x-mesh-load");

/// With the response, please.
pub(super) const REPORT: HeaderValue = HeaderValue::from_static("report");
/// Instead of one.
pub(super) const PROBE: HeaderValue = HeaderValue::from_static("probe");

/// Requests in flight and microseconds, as decimal numbers with a space between them.
pub(super) fn write(report: LoadReport) -> HeaderValue {
    let micros = u64::try_from(report.latency.as_micros()).unwrap_or(u64::MAX);
    let text = format!("{} {micros}", report.rif);
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("digits and a space are a header's value")
}

/// The same back. What anybody else wrote there is no report.
pub(super) fn read(value: &HeaderValue) -> Option<LoadReport> {
    let (rif, micros) = value.to_str().ok()?.split_once(' ')?;
    // Only digits: parse() takes a sign too.
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(rif) && digits(micros)).then_some(())?;
    Some(LoadReport::new(rif.parse().ok()?, Duration::from_micros(micros.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_report() {
        for text in
            ["", " ", "1", "1 ", " 1", "+1 2", "-1 2", "1 2 3", "a b", "1  2", "4294967296 1", "1 99999999999999999999"]
        {
            assert_eq!(read(&HeaderValue::from_static(text)), None, "{text:?}");
        }
    }

    #[test]
    fn a_report_comes_back() {
        for rif in [0, 1, 12, u32::MAX] {
            for micros in [0, 1, 12_000, u64::MAX] {
                let report = LoadReport::new(rif, Duration::from_micros(micros));
                assert_eq!(read(&write(report)), Some(report));
            }
        }
    }
}
