//! The `traceparent` header: W3C Trace Context Level 2, section 3.2.

use super::{SpanId, TraceId};

/// A decoded `traceparent`.
///
/// ```
/// use mesh_telemetry::trace::Traceparent;
/// let header = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let parent = Traceparent::decode(header).unwrap();
/// assert!(parent.is_sampled());
/// assert_eq!(&parent.encode(), header);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traceparent {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span.
    pub parent_id: SpanId,
    /// The flags that this level knows; others are not passed on.
    pub flags: u8,
}

/// Why a header is not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTraceparent {
    /// Version 00 has exactly 55 characters; a later one has 55, or more after a dash.
    #[error("a traceparent has 55 characters")]
    Length,
    /// Fields are separated by dashes.
    #[error("the fields of a traceparent are separated by dashes")]
    Separator,
    /// Something else than `0-9a-f`; upper case is not allowed.
    #[error("a traceparent is written in lower-case hexadecimal")]
    Digit,
    /// "Version 255 is invalid."
    #[error("version ff is forbidden")]
    Version,
    /// "All bytes as zero is considered an invalid value."
    #[error("an id of zeros is forbidden")]
    ZeroId,
}

const LEN: usize = 55;
const HEX: &[u8; 16] = b"0123456789abcdef";

impl Traceparent {
    /// Flag: the caller may have recorded the trace.
    pub const SAMPLED: u8 = 0x01;
    /// Flag of Level 2: the last seven bytes of the trace id are random.
    pub const RANDOM: u8 = 0x02;

    /// Decode a header's value, without surrounding white space.
    ///
    /// # Errors
    /// When it is not one; the caller starts a trace of its own.
    pub fn decode(value: &[u8]) -> Result<Self, InvalidTraceparent> {
        if value.len() < LEN {
            return Err(InvalidTraceparent::Length);
        }
        if value[2] != b'-' || value[35] != b'-' || value[52] != b'-' {
            return Err(InvalidTraceparent::Separator);
        }
        let version = hex(&value[..2])?;
        if version == 0xff {
            return Err(InvalidTraceparent::Version);
        }
        // "If a higher version is detected, the implementation SHOULD try to parse it": the first 55 characters,
        // then a dash before whatever that version adds.
        if value.len() > LEN && (version == 0 || value[LEN] != b'-') {
            return Err(InvalidTraceparent::Length);
        }
        let trace_id = TraceId::new(hex(&value[3..35])?).ok_or(InvalidTraceparent::ZeroId)?;
        let parent_id = u64::try_from(hex(&value[36..52])?).ok().and_then(SpanId::new);
        let flags = u8::try_from(hex(&value[53..55])?).unwrap_or_default();
        Ok(Self {
            trace_id,
            parent_id: parent_id.ok_or(InvalidTraceparent::ZeroId)?,
            // "vendors MUST set [other bits] to zero".
            flags: flags & (Self::SAMPLED | Self::RANDOM),
        })
    }

    /// Encode as version 00.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [b'-'; LEN];
        write_hex(&mut out[..2], 0);
        write_hex(&mut out[3..35], self.trace_id.bits());
        write_hex(&mut out[36..52], self.parent_id.bits().into());
        write_hex(&mut out[53..], self.flags.into());
        out
    }

    /// May the caller have recorded the trace?
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }
}

fn hex(digits: &[u8]) -> Result<u128, InvalidTraceparent> {
    digits.iter().try_fold(0, |value: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(InvalidTraceparent::Digit),
        };
        Ok(value << 4 | u128::from(digit))
    })
}

fn write_hex(out: &mut [u8], mut value: u128) {
    for digit in out.iter_mut().rev() {
        *digit = HEX[(value & 0xf) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn w3c_level_2_section_3_2() {
        use InvalidTraceparent::{Digit, Length, Separator, Version, ZeroId};
        let zero_trace = "0".repeat(32);
        for (header, expected) in [
            (format!("00-{TRACE}-{SPAN}-01"), Ok(1)),
            (format!("00-{TRACE}-{SPAN}-00"), Ok(0)),
            (format!("00-{TRACE}-{SPAN}-03"), Ok(3)),
            (format!("00-{TRACE}-{SPAN}-ff"), Ok(3)),
            (format!("cc-{TRACE}-{SPAN}-01"), Ok(1)),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), Ok(1)),
            (format!("cc-{TRACE}-{SPAN}-01-"), Ok(1)),
            (format!("cc-{TRACE}-{SPAN}-01.what"), Err(Length)),
            (format!("00-{TRACE}-{SPAN}-01-"), Err(Length)),
            (format!("00-{TRACE}-{SPAN}-01-x"), Err(Length)),
            (format!("00-{TRACE}-{SPAN}-0"), Err(Length)),
            (format!("00-{TRACE}-{SPAN}-"), Err(Length)),
            (String::new(), Err(Length)),
            ("00".into(), Err(Length)),
            (format!("ff-{TRACE}-{SPAN}-01"), Err(Version)),
            (format!("0F-{TRACE}-{SPAN}-01"), Err(Digit)),
            (format!(".0-{TRACE}-{SPAN}-01"), Err(Digit)),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), Err(Digit)),
            (format!("00-{TRACE}-{}-01", SPAN.to_uppercase()), Err(Digit)),
            (format!("00-.{}-{SPAN}-01", &TRACE[1..]), Err(Digit)),
            (format!("00-{TRACE}-.{}-01", &SPAN[1..]), Err(Digit)),
            (format!("00-{TRACE}-{SPAN}-.0"), Err(Digit)),
            (format!("00-{TRACE}-{SPAN}-+1"), Err(Digit)),
            (format!("00-{zero_trace}-{SPAN}-01"), Err(ZeroId)),
            (format!("00-{TRACE}-0000000000000000-01"), Err(ZeroId)),
            (format!("00-{}-{SPAN}-01-0", &TRACE[1..]), Err(Separator)),
            (format!("00-0{TRACE}-{SPAN}-01"), Err(Separator)),
            (format!("00-{TRACE}-0{SPAN}-01"), Err(Separator)),
            (format!("000-{TRACE}-{SPAN}-01"), Err(Separator)),
            (format!("00_{TRACE}_{SPAN}_01"), Err(Separator)),
            (format!(" 00-{TRACE}-{SPAN}-01"), Err(Separator)),
        ] {
            let decoded = Traceparent::decode(header.as_bytes());
            assert_eq!(decoded.map(|parent| parent.flags), expected, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(trace in 1u128.., span in 1u64.., flags in 0u8..4) {
            let (Some(trace_id), Some(parent_id)) = (TraceId::new(trace), SpanId::new(span)) else { unreachable!() };
            let parent = Traceparent { trace_id, parent_id, flags };
            let text = format!("00-{trace_id}-{parent_id}-{flags:02x}");
            prop_assert_eq!(&parent.encode()[..], text.as_bytes());
            prop_assert_eq!(Traceparent::decode(&parent.encode()), Ok(parent));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            let _ = Traceparent::decode(&bytes);
        }

        #[test]
        fn one_changed_byte_is_refused_or_another_value(at in 0usize..55, byte in any::<u8>()) {
            let original = format!("00-{TRACE}-{SPAN}-01").into_bytes();
            let mut changed = original.clone();
            changed[at] = byte;
            let same = Traceparent::decode(&changed) == Traceparent::decode(&original);
            // The version and the unknown flags do not make another parent.
            prop_assert!(!same || changed == original || !(2..53).contains(&at));
        }
    }
}
