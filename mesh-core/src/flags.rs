//! Response flags: Envoy's short words for why a request ended as it did.

use std::fmt;

/// One of Envoy's response flags (envoy `stream_info/utility.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ResponseFlag {
    /// `UH`: no healthy upstream host.
    NoHealthyUpstream = 0,
    /// `UF`: the upstream connection could not be made.
    UpstreamConnectionFailure,
    /// `UO`: a circuit breaker overflowed.
    UpstreamOverflow,
    /// `NR`: no route matched.
    NoRouteFound,
    /// `NC`: the route's cluster is not known.
    NoClusterFound,
    /// `URX`: the retry limit was reached.
    UpstreamRetryLimitExceeded,
    /// `UT`: the upstream took longer than the timeout.
    UpstreamRequestTimeout,
    /// `UC`: the upstream connection ended before the response did.
    UpstreamConnectionTermination,
    /// `UR`: the upstream reset the stream.
    UpstreamRemoteReset,
    /// `DC`: the caller went away.
    DownstreamConnectionTermination,
    /// `DI`: a delay was injected.
    DelayInjected,
    /// `FI`: an abort was injected.
    FaultInjected,
    /// `RL`: the local rate limit refused.
    RateLimited,
    /// `UAEX`: an external authorizer refused.
    UnauthorizedExternalService,
}

impl ResponseFlag {
    const ALL: [(Self, &'static str); 14] = [
        (Self::NoHealthyUpstream, "UH"),
        (Self::UpstreamConnectionFailure, "UF"),
        (Self::UpstreamOverflow, "UO"),
        (Self::NoRouteFound, "NR"),
        (Self::NoClusterFound, "NC"),
        (Self::UpstreamRetryLimitExceeded, "URX"),
        (Self::UpstreamRequestTimeout, "UT"),
        (Self::UpstreamConnectionTermination, "UC"),
        (Self::UpstreamRemoteReset, "UR"),
        (Self::DownstreamConnectionTermination, "DC"),
        (Self::DelayInjected, "DI"),
        (Self::FaultInjected, "FI"),
        (Self::RateLimited, "RL"),
        (Self::UnauthorizedExternalService, "UAEX"),
    ];
}

/// A set of response flags. Displays as Envoy logs it: comma-joined, `-` when empty.
///
/// ```
/// use mesh_core::{ResponseFlag, ResponseFlags};
/// let flags = ResponseFlags::from(ResponseFlag::DelayInjected) | ResponseFlag::FaultInjected.into();
/// assert_eq!(flags.to_string(), "DI,FI");
/// assert_eq!(ResponseFlags::default().to_string(), "-");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(u32);

impl ResponseFlags {
    /// Add a flag.
    pub fn insert(&mut self, flag: ResponseFlag) {
        self.0 |= 1 << flag as u8;
    }

    /// Is the flag in the set?
    #[must_use]
    pub fn contains(self, flag: ResponseFlag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    /// Is the set empty?
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits, stable within a process: for use as a key.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl From<ResponseFlag> for ResponseFlags {
    fn from(flag: ResponseFlag) -> Self {
        Self(1 << flag as u8)
    }
}

impl std::ops::BitOr for ResponseFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut separator = "";
        for (flag, short) in ResponseFlag::ALL {
            if self.contains(flag) {
                f.write_str(separator)?;
                f.write_str(short)?;
                separator = ",";
            }
        }
        Ok(())
    }
}
