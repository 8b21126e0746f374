//! Durations as Istio's YAML writes them.

use std::{fmt, ops::Deref, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// Why a string is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid duration {0:?}: a number with a unit is needed, as in 250ms, 1.5s or 1h30m (units: h, m, s, ms, us, ns)"
)]
pub struct InvalidDuration(String);

/// Read a duration: `7s`, `250ms`, `1.5s`, `1h30m`. A bare number is refused, except `0`.
///
/// # Errors
/// When it has no unit, is negative, or is not a number.
///
/// ```
/// use {mesh_core::config::parse_duration, std::time::Duration};
/// assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
/// assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
/// assert!(parse_duration("5").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(|b| b.is_ascii_lowercase()).count();
        let (unit, tail) = tail.split_at(letters);
        let nanos: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            _ => return Err(invalid()),
        };
        let part = scaled(number, nanos).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = tail;
    }
    Ok(total)
}

/// A duration as it stands in a document, still text: what it has to be differs from field to field.
///
/// Decoding anything but a string says that a unit is needed: `timeout: 5` is the usual slip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationText(String);

impl Deref for DurationText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration, which is a number with a unit, as in 5s or 250ms")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DurationText, E> {
                Ok(DurationText(text.to_owned()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A decimal number times a unit, exactly.
fn scaled(number: &str, unit: u128) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 15 || fraction.contains('.') {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let nanos = parse(whole)?.checked_mul(unit)?.checked_add(parse(fraction)?.checked_mul(unit)? / scale)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    // Protobuf's Duration ends at 10,000 years.
    (seconds <= 315_576_000_000).then(|| Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_has_no_unit_or_sign() {
        for text in ["", "5", "s", "-1s", "1 s", "1.2.3s", "1S", "99999999999999999999h", "1d"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
