//! Percentages of fault injection: counted in millionths, as Envoy counts them.

use serde::Deserialize;

/// `percentage: {value: 0.1}`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct PercentSpec {
    pub(crate) value: f64,
}

/// A share of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Percent(u32);

impl Percent {
    pub(crate) const ALL: Self = Self(1_000_000);

    /// istio validation: "neither 0.0, nor in range [0.0001, 100.0]". Translated as `int(p * 10000) / 1e6`.
    pub(crate) fn new(value: f64) -> Result<Self, String> {
        if value != 0.0 && !(0.0001..=100.0).contains(&value) {
            return Err(format!("percentage {value} is neither 0.0, nor in range [0.0001, 100.0]"));
        }
        Ok(Self::truncated(value))
    }

    /// The same of a value between 0 and 100 that may have more digits than Envoy counts.
    pub(crate) fn truncated(value: f64) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
        Self((value * 10_000.0) as u32)
    }

    /// Of nothing?
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// In percent, as far as it is counted.
    pub(crate) fn value(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Is this draw within the share?
    pub(crate) fn hit(self, roll: u64) -> bool {
        self == Self::ALL || roll % 1_000_000 < u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // istio.md 1.2: "percentage double -> int(p*10000)/1e6"
    #[test]
    fn counts_in_millionths() {
        assert!(Percent::new(100.0).unwrap().hit(u64::MAX));
        assert!(!Percent::new(0.0).unwrap().hit(0));
        assert!(Percent::new(0.0001).unwrap().hit(0));
        assert!(!Percent::new(0.0001).unwrap().hit(1));
        assert!(Percent::new(50.0).unwrap().hit(499_999));
        assert!(!Percent::new(50.0).unwrap().hit(500_000));
        for value in [-1.0, 0.00001, 100.1, f64::NAN] {
            assert!(Percent::new(value).is_err(), "{value}");
        }
    }
}
