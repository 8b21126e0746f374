//! How much a bucket holds and how fast it fills.

use std::{num::NonZeroU32, time::Duration};

use governor::Quota;

/// Envoy's TokenBucket (type.v3): it starts full and holds `max_tokens`; in every `fill_interval` come
/// `tokens_per_fill`. They come one by one over the interval, not all at its end (measured on Envoy 1.40: of 4 tokens
/// in 2 s, one every 0.5 s).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    max_tokens: NonZeroU32,
    /// Time for one token, rounded up, so that it never gives more than it should.
    per_token: Duration,
}

/// Why there is no such bucket. Displays as a sentence about the field that [`field`](Self::field) names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTokenBucket {
    /// envoy TokenBucket.max_tokens: greater than 0.
    #[error("maxTokens must be in the range 1..4294967295")]
    MaxTokens,
    /// envoy TokenBucket.tokens_per_fill: greater than 0.
    #[error("tokensPerFill must be in the range 1..4294967295")]
    TokensPerFill,
    /// envoy TokenBucket.fill_interval: greater than 0.
    #[error("fillInterval must be greater than 0")]
    FillInterval,
    /// Times are kept in nanoseconds, in 64 bits.
    #[error("a bucket of {0} tokens that fills so slowly takes more than 100 years to fill")]
    TooSlow(NonZeroU32),
}

const CENTURY: u128 = 100 * 365 * 24 * 3600 * 1_000_000_000;

impl InvalidTokenBucket {
    /// The field of Envoy's TokenBucket that is wrong, as YAML has it.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::MaxTokens => "maxTokens",
            Self::TokensPerFill => "tokensPerFill",
            Self::FillInterval | Self::TooSlow(_) => "fillInterval",
        }
    }
}

impl TokenBucket {
    /// A bucket of `max_tokens` that gets `tokens_per_fill` in every `fill_interval`.
    ///
    /// # Errors
    /// When one of them is zero, or filling the bucket takes more than a hundred years.
    pub fn new(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Result<Self, InvalidTokenBucket> {
        let max_tokens = NonZeroU32::new(max_tokens).ok_or(InvalidTokenBucket::MaxTokens)?;
        let tokens_per_fill = NonZeroU32::new(tokens_per_fill).ok_or(InvalidTokenBucket::TokensPerFill)?;
        if fill_interval.is_zero() {
            return Err(InvalidTokenBucket::FillInterval);
        }
        let per_token = fill_interval.as_nanos().div_ceil(u128::from(tokens_per_fill.get()));
        let whole = per_token.saturating_mul(u128::from(max_tokens.get()));
        let per_token = u64::try_from(per_token).ok().filter(|_| whole <= CENTURY);
        let per_token = Duration::from_nanos(per_token.ok_or(InvalidTokenBucket::TooSlow(max_tokens))?);
        Ok(Self { max_tokens, per_token })
    }

    /// Requests let through at once when the bucket is full.
    #[must_use]
    pub fn max_tokens(self) -> u32 {
        self.max_tokens.get()
    }

    /// Time in which one token comes.
    #[must_use]
    pub fn per_token(self) -> Duration {
        self.per_token
    }

    pub(super) fn quota(self) -> Quota {
        let quota = Quota::with_period(self.per_token).expect("the interval is not zero, and it was rounded up");
        quota.allow_burst(self.max_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bucket_may_be() {
        let second = Duration::from_secs(1);
        for (max, per_fill, interval, expected) in [
            (1, 1, second, Ok(1_000_000_000)),
            (5, 3, second, Ok(333_333_334)),
            (1, u32::MAX, Duration::from_nanos(1), Ok(1)),
            (0, 1, second, Err("maxTokens")),
            (1, 0, second, Err("tokensPerFill")),
            (1, 1, Duration::ZERO, Err("fillInterval")),
            (u32::MAX, 1, second, Err("fillInterval")),
            (1, 1, Duration::MAX, Err("fillInterval")),
        ] {
            let bucket = TokenBucket::new(max, per_fill, interval);
            let found = bucket.map(|bucket| bucket.per_token().as_nanos()).map_err(InvalidTokenBucket::field);
            assert_eq!(found, expected, "{max} {per_fill} {interval:?}");
        }
    }
}
