use http::HeaderMap;
use mesh_core::Reason;

/// What a request says about the health of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Any response below 500.
    Success,
    /// A 5xx that an application makes itself: 500, 501, 505 and above.
    ServerError,
    /// 502, 503, 504.
    GatewayError,
    /// No connection could be made.
    NotConnected,
    /// There was a connection, but no response: reset, timeout.
    NoResponse,
}

impl Outcome {
    /// What an error says; `None` when it is not the endpoint's doing.
    ///
    /// measured on Envoy 1.40 (t8): connect failure, reset and local timeout count for both counters.
    #[must_use]
    pub fn of_error(reason: Reason) -> Option<Self> {
        match reason {
            Reason::ConnectFailure => Some(Self::NotConnected),
            Reason::RefusedStream | Reason::Reset { .. } | Reason::Timeout | Reason::PerTryTimeout => {
                Some(Self::NoResponse)
            }
            _ => None,
        }
    }

    pub(super) fn of_status(status: u16) -> Self {
        match status {
            502..=504 => Self::GatewayError,
            500.. => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// envoy Grpc::Utility::grpcToHttpStatus; only its 5xx tell the two kinds of error apart.
    pub(super) fn of_grpc(headers: &HeaderMap) -> Option<Self> {
        Some(Self::of_status(match headers.get("grpc-status")?.as_bytes() {
            b"2" | b"13" | b"15" => 500,
            b"12" => 501,
            b"14" => 503,
            b"4" => 504,
            _ => 200,
        }))
    }

    /// Did it end on this side of the endpoint's HTTP?
    pub(super) fn is_local_origin(self) -> bool {
        matches!(self, Self::NotConnected | Self::NoResponse)
    }
}
