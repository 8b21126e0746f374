//! How a cluster's connections are made: what `connectionPool` and `proxyProtocol` say beyond how many there may be.
//!
//! Nothing here makes one. Whoever does keeps connections apart that would be made differently.

use std::{num::NonZeroU32, time::Duration};

/// How connections are made. By default as the operating system and the port's protocol have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Transport {
    /// `tcp.tcpKeepalive`; `None`: the system's default, which is off.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `http.h2UpgradePolicy` and `http.useClientProtocol`.
    pub http_version: HttpVersion,
    /// `http.maxConcurrentStreams`: on an HTTP/2 connection, at most what the peer allows. Default what it allows.
    pub max_concurrent_streams: Option<NonZeroU32>,
    /// `http.http2KeepAlive`; `None`: no PINGs.
    pub http2_keep_alive: Option<Http2KeepAlive>,
    /// `proxyProtocol`: what is said before anything else, TLS included; `None`: nothing.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// `tcpKeepalive`. What is not given is the system's default.
///
/// istio ConnectionPoolSettings.TCPSettings.TcpKeepalive: "If set then set SO_KEEPALIVE on the socket to enable TCP
/// Keepalives."
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TcpKeepalive {
    /// "The time duration a connection needs to be idle before keep-alive probes start being sent." In whole seconds.
    pub time: Option<Duration>,
    /// "The time duration between keep-alive probes." In whole seconds.
    pub interval: Option<Duration>,
    /// "Maximum number of keepalive probes to send without response before deciding the connection is dead."
    pub probes: Option<u32>,
}

/// `http2KeepAlive`: PINGs, on idle connections too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Http2KeepAlive {
    /// From one PING to the next.
    pub interval: Duration,
    /// A connection whose PING is not answered in this time is closed.
    pub timeout: Duration,
}

/// Which version of HTTP requests travel in.
///
/// gRPC needs HTTP/2 and an upgrade (of a WebSocket) HTTP/1.1, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpVersion {
    /// The port's protocol; where it has none, the request's version. `h2UpgradePolicy` DEFAULT and DO_NOT_UPGRADE.
    #[default]
    Declared,
    /// HTTP/2. `h2UpgradePolicy: UPGRADE`.
    Http2,
    /// The version of the request. `useClientProtocol`: "client protocol will be preserved while initiating connection to
    /// backend."
    Requests,
}

/// The version of the PROXY protocol that `proxyProtocol` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// A line of text. "The default is V1".
    #[default]
    V1,
    /// Binary.
    V2,
}
