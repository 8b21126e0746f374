//! A stream with bytes in front that were read from it before.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// An accepted connection whose first bytes were looked at: they are read again first.
#[derive(Debug)]
pub struct Prefixed<IO> {
    head: [u8; 2],
    start: u8,
    end: u8,
    io: IO,
}

impl<IO> Prefixed<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { head: [0; 2], start: 0, end: 0, io }
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head[usize::from(self.start)..usize::from(self.end)]
    }

    /// The connection below.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + Unpin> Prefixed<IO> {
    /// Read more of the first two bytes; 0 is the end of the stream.
    pub(super) async fn read_head(&mut self) -> io::Result<usize> {
        let read = self.io.read(&mut self.head[usize::from(self.end)..]).await?;
        // At most two, so it fits.
        self.end += read as u8;
        Ok(read)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head().is_empty() || buf.remaining() == 0 {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let taken = self.head().len().min(buf.remaining());
        buf.put_slice(&self.head()[..taken]);
        // At most two, so it fits.
        self.start += taken as u8;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
}
