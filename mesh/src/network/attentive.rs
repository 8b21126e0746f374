//! A client's TCP stream that does not believe old news.
//!
//! Whether a socket has something to read, the runtime knows from events that it collects now and then: a busy one
//! milliseconds late. A request written meanwhile to a connection that its peer has closed is lost, and who may not
//! send it twice has to fail it. So after a pause, when the owner looks for input once more (hyper does, before it
//! writes a request), the socket itself is asked. That is one system call for each request on a reused connection, and
//! none while data flow.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Attentive {
    stream: TcpStream,
    pause: Pause,
}

/// Where the conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Something was written and waits for its answer.
    No,
    /// Something was read; more may follow.
    MayBegin,
    /// Nothing followed.
    Yes,
}

impl Attentive {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, pause: Pause::No }
    }
}

/// The end of the stream or its error, when the socket has one by now.
fn ended(stream: &TcpStream) -> Option<io::Result<()>> {
    match SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
        Ok(0) => Some(Ok(())),
        // The event for this is on its way.
        Ok(_) => None,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        Err(error) => Some(Err(error)),
    }
}

impl AsyncRead for Attentive {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match (self.pause, read.is_ready()) {
            (_, true) => self.pause = Pause::MayBegin,
            (Pause::MayBegin, false) => self.pause = Pause::Yes,
            (Pause::Yes, false) => return ended(&self.stream).map_or(Poll::Pending, Poll::Ready),
            (Pause::No, false) => {}
        }
        read
    }
}

impl AsyncWrite for Attentive {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.pause = Pause::No;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pause = Pause::No;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Read as _, io::Write as _};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn poll_once(stream: &mut Attentive) -> Poll<io::Result<usize>> {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        poll_fn(|cx| {
            let polled = Pin::new(&mut *stream).poll_read(cx, &mut buf);
            Poll::Ready(polled.map_ok(|()| buf.filled().len()))
        })
        .await
    }

    /// One thread that never parks: the runtime collects no event between the peer's close and the second look.
    #[tokio::test]
    async fn an_end_during_a_pause_is_seen_before_the_runtime_hears_of_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut stream = Attentive::new(stream);

        stream.write_all(b"request").await.unwrap();
        peer.read_exact(&mut [0; 7]).unwrap();
        assert!(poll_once(&mut stream).await.is_pending(), "no answer yet");
        peer.write_all(b"answer").unwrap();
        stream.read_exact(&mut [0; 6]).await.unwrap();
        assert!(poll_once(&mut stream).await.is_pending(), "a pause begins");
        assert!(poll_once(&mut stream).await.is_pending(), "the peer is there");
        drop(peer);
        assert!(matches!(poll_once(&mut stream).await, Poll::Ready(Ok(0))));
    }
}
