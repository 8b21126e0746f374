//! The end of an HTTP/2 connection.
//!
//! A server that has said GOAWAY for the last time and has no stream left closes. Streams that the client had queued
//! meanwhile are still on their way: closing the socket under them would reset the connection, and the client, which
//! fails at writing, would not read which of its streams were not processed. So the write side is closed, and what
//! comes is thrown away until the client closes too, or has had its time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::network::Io;

/// Envoy's delayed_close_timeout.
const PATIENCE: Duration = Duration::from_secs(1);

/// A stream whose shutdown waits for the peer's, where `wait` says so. Not for streams that somebody takes over.
pub(super) struct Closing<T> {
    io: T,
    wait: bool,
    patience: Option<Pin<Box<Sleep>>>,
}

impl<T> Closing<T> {
    pub(super) fn new(io: T, wait: bool) -> Self {
        Self { io, wait, patience: None }
    }
}

impl<T: Io> AsyncRead for Closing<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Io> AsyncWrite for Closing<T> {
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.patience.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.wait {
                return Poll::Ready(Ok(()));
            }
        }
        let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        let mut discarded = [0; 1024];
        while patience.as_mut().poll(cx).is_pending() {
            let mut discarded = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(&mut this.io).poll_read(cx, &mut discarded));
            if read.is_err() || discarded.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_the_peer_and_not_forever() {
        for (wait, peer_closes, expected) in [(false, false, 0), (true, true, 300), (true, false, 1000)] {
            let (server, mut client) = duplex(64);
            let start = Instant::now();
            client.write_all(b"on its way").await.unwrap();
            let peer = tokio::spawn(async move {
                assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "told at once");
                sleep(Duration::from_millis(if peer_closes { 300 } else { 5000 })).await;
            });
            Closing::new(server, wait).shutdown().await.unwrap();
            let took = u64::try_from(start.elapsed().as_millis()).unwrap();
            assert!((expected..expected + 5).contains(&took), "{took} ms, {expected} expected");
            peer.await.unwrap();
        }
    }
}
