use std::fmt;

use mesh_core::{Error, Reason};

/// Why a request has no single reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCanonical {
    /// A method with a lower-case letter: methods are case-sensitive, and many readers forget it.
    Method,
    /// More than one `Host`.
    TwoHosts,
    /// HTTP/1.1 without `Host`, or HTTP/2 without `:authority`.
    NoHost,
    /// `Host` and the URI's authority name different places.
    HostMismatch,
    /// Not `host` or `host:port`: user information, an impossible port, a character that no host has.
    Host,
    /// A character that RFC 3986 has no place for, so that readers differ on it.
    NonAscii,
    /// `%` without two hex digits.
    Escape,
    /// `%00`.
    Nul,
    /// `\`, plain or encoded.
    Backslash,
    /// `%2F`.
    EncodedSlash,
    /// `..` above the root.
    EscapesRoot,
}

impl NotCanonical {
    /// In the words of the log; the reply has no body.
    fn what(self) -> &'static str {
        match self {
            Self::Method => "method is not upper-case",
            Self::TwoHosts => "more than one Host header",
            Self::NoHost => "no Host",
            Self::HostMismatch => "Host differs from the URI's authority",
            Self::Host => "Host is not a host with an optional port",
            Self::NonAscii => "path has a byte outside ASCII",
            Self::Escape => "path has a malformed escape",
            Self::Nul => "path has %00",
            Self::Backslash => "path has a backslash",
            Self::EncodedSlash => "path has an encoded slash",
            Self::EscapesRoot => "path leaves the root",
        }
    }
}

impl fmt::Display for NotCanonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

impl std::error::Error for NotCanonical {}

impl From<NotCanonical> for Error {
    fn from(why: NotCanonical) -> Self {
        Self::new(Reason::BadRequest(why.what())).with_source(why)
    }
}
