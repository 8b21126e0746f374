//! What the parsers of all parts share: errors with their place, and the checks of the API's own definition.
//!
//! Messages are those of the rules (CEL) and limits in the CustomResourceDefinitions, so that a search finds them.

use std::{fmt::Display, time::Duration};

use http::HeaderValue;
use mesh_core::config::{Document, Issues, Topic, parse_duration};

/// Which of the two route kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Http,
    Grpc,
}

pub(super) struct Parser<'a> {
    pub(super) document: &'a Document,
    pub(super) issues: &'a mut Issues,
    pub(super) failed: bool,
    pub(super) kind: Kind,
}

impl Parser<'_> {
    pub(super) fn error(&mut self, path: impl Into<String>, message: impl Display) {
        self.failed = true;
        self.issues.push(self.document.error(path, message.to_string()));
    }

    pub(super) fn warning(&mut self, path: impl Into<String>, message: impl Display) {
        self.issues.push(self.document.warning(path, message.to_string()));
    }

    /// Good in a cluster, and without effect in-process.
    pub(super) fn not_enforced(&mut self, path: &str, message: &str) {
        self.issues.push(self.document.warning(path, message).about(Topic::NotEnforced));
    }

    /// Unwrap, or note the error at a path.
    pub(super) fn at<T>(&mut self, path: impl Into<String>, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|message| self.error(path, message)).ok()
    }

    pub(super) fn limit(&mut self, path: &str, length: usize, most: usize) {
        if length > most {
            self.error(path, format!("Too many: {length}: must have at most {most} items"));
        }
    }

    pub(super) fn port(&mut self, path: &str, number: i64) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() {
            self.error(path, format!("port number {number} must be in the range 1..65535"));
        }
        port
    }

    /// gateway API PreciseHostname: a DNS name in lower case, no wildcard.
    pub(super) fn hostname(&mut self, path: &str, name: &str) -> Option<HeaderValue> {
        if !is_dns_name(name) {
            self.error(path, format!("{name:?} is not a hostname (RFC 1123, lower case, no wildcard)"));
            return None;
        }
        HeaderValue::from_str(name).ok()
    }

    pub(super) fn duration(&mut self, path: String, text: Option<&str>) -> Option<Duration> {
        self.at(path, duration(text?))
    }
}

/// gateway API GEP-2257: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {text:?}: must match ^([0-9]{{1,5}}(h|m|s|ms)){{1,4}}$");
    let (mut rest, mut parts) = (text, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = &rest[digits..digits + letters];
        if !(1..=5).contains(&digits) || !matches!(unit, "h" | "m" | "s" | "ms") {
            return Err(invalid());
        }
        rest = &rest[digits + letters..];
        parts += 1;
    }
    if !(1..=4).contains(&parts) {
        return Err(invalid());
    }
    parse_duration(text).map_err(|error| error.to_string())
}

pub(super) fn is_dns_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-');
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_geps() {
        // gateway API GEP-2257: "Valid time units are h, m, s, ms"; no fractions, no signs
        for (text, millis) in
            [("0s", 0), ("1h30m", 5_400_000), ("10s", 10_000), ("500ms", 500), ("2h0m1s3ms", 7_201_003)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "1.5s", "-1s", "1us", "100000s", "1h1m1s1ms1s", "s", "1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
