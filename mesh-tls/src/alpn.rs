//! The HTTP version agreed in the handshake (ALPN, RFC 7301).

/// HTTP over TLS: which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `http/1.1`
    H1,
    /// `h2`
    H2,
}

/// What Istio's sidecars offer before the real protocol, so that a PERMISSIVE sidecar tells mesh TLS from an
/// application's own (istio pilot/pkg/networking/core/listener.go: allIstioMtlsALPNs).
pub(crate) const ISTIO: &[u8] = b"istio";

impl Alpn {
    /// The protocol's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::H1 => "http/1.1",
            Self::H2 => "h2",
        }
    }

    pub(crate) fn from_wire(name: &[u8]) -> Option<Self> {
        [Self::H1, Self::H2].into_iter().find(|alpn| alpn.name().as_bytes() == name)
    }

    pub(crate) fn wire(self) -> Vec<u8> {
        self.name().as_bytes().to_vec()
    }
}
