//! An HTTP/1.1 connection: one request at a time, and an ear for whether its peer has said anything.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::client::conn::http1;
use mesh_lb::{ConnectionLimits, Upgraded};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::counted::Held;
use crate::{Body, network::BoxIo};

/// What one request at a time is sent on.
#[derive(Debug)]
pub(super) struct H1 {
    pub(super) sender: http1::SendRequest<Body>,
    /// Has it carried a request before?
    pub(super) used: bool,
    /// Where connections are limited: what it carried, and since when it is open and idle.
    pub(super) history: History,
    heard: Heard,
}

/// What a connection has behind it. Times only where somebody asks for them: a clock costs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct History {
    pub(super) carried: u32,
    pub(super) opened: Option<Instant>,
    pub(super) idle: Option<Instant>,
}

impl History {
    pub(super) fn may_go_on(&self, limits: &ConnectionLimits, now: Instant) -> bool {
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        limits.may_carry(self.carried, since(self.opened), since(self.idle))
    }
}

/// How much was read from a connection, and what it keeps when it is HTTP's no more.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    bytes: Arc<AtomicU64>,
    upgraded: Upgraded,
}

/// A stream that counts what is read from it.
pub(super) struct Listened {
    io: BoxIo,
    heard: Heard,
    /// As long as there are bytes to be read, an upgraded connection's included.
    _held: Option<Held>,
}

impl H1 {
    pub(super) fn new(sender: http1::SendRequest<Body>, history: History, heard: Heard) -> Self {
        Self { sender, used: false, history, heard }
    }

    /// Bytes of the peer's so far. When they are as many as before a request was sent, no answer to it has begun.
    pub(super) fn heard(&self) -> u64 {
        self.heard.bytes.load(Ordering::Acquire)
    }

    /// For the response that switches protocols: what it keeps goes with the stream of bytes.
    pub(super) fn upgraded(&self) -> Upgraded {
        self.heard.upgraded.clone()
    }
}

impl Listened {
    pub(super) fn new(io: BoxIo, held: Option<Held>) -> (Self, Heard) {
        let heard = Heard::default();
        (Self { io, heard: heard.clone(), _held: held }, heard)
    }
}

impl AsyncRead for Listened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        // One task reads: nothing is lost between load and store.
        let heard = &self.heard.bytes;
        heard.store(heard.load(Ordering::Relaxed) + (buf.filled().len() - before) as u64, Ordering::Release);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Listened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
