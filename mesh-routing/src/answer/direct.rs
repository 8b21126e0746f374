//! `directResponse`: a fixed status and body.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

/// istio validation: a body of a megabyte is refused.
const MAX_BODY: usize = 1024 * 1024;
/// istio validation: one of 100 kB is warned about.
const LARGE_BODY: usize = 100 * 1024;

/// `directResponse` as YAML has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct DirectResponseSpec {
    status: i64,
    body: Option<BodySpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct BodySpec {
    string: Option<String>,
    bytes: Option<String>,
}

/// What a rule answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectResponse {
    /// Status.
    pub status: StatusCode,
    /// Body; `text/plain` unless the rule's response headers say otherwise.
    pub body: Bytes,
}

impl DirectResponseSpec {
    /// Compile; errors are (field below `directResponse`, Istio's message).
    pub(crate) fn compile(&self) -> Result<DirectResponse, (&'static str, String)> {
        let status = u16::try_from(self.status).ok().filter(|status| (200..=599).contains(status));
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let status =
            status.ok_or_else(|| ("status", format!("HTTP status {} is not in range 200-599", self.status)))?;
        let body = match self.body.as_ref().map(|body| (&body.string, &body.bytes)) {
            None | Some((None, None)) => Bytes::new(),
            Some((Some(text), None)) => Bytes::from(text.clone()),
            Some((None, Some(text))) => {
                let message = || ("body.bytes", "bytes are written in base64".to_owned());
                base64(text).ok_or_else(message)?.into()
            }
            Some((Some(_), Some(_))) => return Err(("body", "only one of string and bytes may be set".into())),
        };
        if body.len() > MAX_BODY {
            let message = "large direct_responses may impact control plane performance, must be less than 1MB";
            return Err(("body", message.into()));
        }
        Ok(DirectResponse { status, body })
    }
}

impl DirectResponse {
    /// Of a Gateway API rule that has no backend.
    ///
    /// gateway API HTTPRouteRule.backendRefs: "a 500 status code MUST be returned".
    pub(crate) fn of_gateway() -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, body: Bytes::new() }
    }

    /// Istio's warning about a large body.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        (self.body.len() > LARGE_BODY).then_some("large direct_responses may impact control plane performance")
    }
}

/// RFC 4648 section 4, with or without padding: how YAML carries a protobuf's bytes.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        // A last group of two digits is one byte, of three two; of one it is nothing.
        let (bytes, unused) = match group.len() {
            4 => (3, 0),
            3 => (2, 2),
            2 => (1, 4),
            _ => return None,
        };
        out.extend_from_slice(&(bits >> unused).to_be_bytes()[4 - bytes..]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648() {
        // RFC 4648 section 10
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(base64("-_8="), Some(vec![0xfb, 0xff]));
        assert!(base64("Z").is_none() && base64("Zm 9v").is_none());
    }

    #[test]
    fn sizes_and_statuses_are_istios() {
        let spec = |status, length: usize| DirectResponseSpec {
            status,
            body: Some(BodySpec { string: Some("x".repeat(length)), bytes: None }),
        };
        assert!(spec(200, 0).compile().unwrap().warning().is_none());
        assert!(spec(599, LARGE_BODY + 1).compile().unwrap().warning().is_some());
        assert!(spec(200, MAX_BODY + 1).compile().unwrap_err().1.ends_with("must be less than 1MB"));
        for status in [0, 199, 600, -1] {
            assert_eq!(
                spec(status, 0).compile().unwrap_err().1,
                format!("HTTP status {status} is not in range 200-599")
            );
        }
    }
}
