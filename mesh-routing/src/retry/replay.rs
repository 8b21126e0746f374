//! A request body that can be sent again.
//!
//! The attempts of one request share its source. The one that is current reads from it and leaves every chunk
//! behind, in the `Bytes` it came in; the next starts with those. An attempt that has been given up may still be
//! held by a connection: its body ends in an error, and never steals a chunk.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use mesh_core::BoxError;
use pin_project_lite::pin_project;

pin_project! {
    /// The body of one attempt.
    pub struct ReplayBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Empty,
        Replay { source: Arc<Mutex<Source<B>>>, attempt: u32, next: usize },
    }
}

/// The caller's body, and what was read from it.
struct Source<B> {
    body: Option<Pin<Box<B>>>,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    kept: usize,
    cap: usize,
    /// The attempt that may read.
    current: u32,
    /// May there be another? Not past the cap, and not once the answer has come.
    replayable: bool,
    reader: Option<Waker>,
}

/// A handle on the source of a request's bodies, held by the retry's future.
pub(super) struct Replay<B> {
    source: Option<Arc<Mutex<Source<B>>>>,
}

/// Chunks that may be kept whatever the cap: 32 kB beside their bytes.
const FEW: usize = 1024;

/// An attempt that has been given up was polled.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("attempt given up")]
struct Superseded;

impl<B: Body> Replay<B> {
    /// The first attempt's body, and the handle for later ones. Keeps up to `cap` bytes.
    pub(super) fn new(body: B, cap: usize) -> (Self, ReplayBody<B>) {
        if body.is_end_stream() {
            return (Self { source: None }, ReplayBody { kind: Kind::Empty });
        }
        let source = Arc::new(Mutex::new(Source {
            body: Some(Box::pin(body)),
            chunks: Vec::new(),
            trailers: None,
            kept: 0,
            cap,
            current: 0,
            replayable: true,
            reader: None,
        }));
        let first = Kind::Replay { source: Arc::clone(&source), attempt: 0, next: 0 };
        (Self { source: Some(source) }, ReplayBody { kind: first })
    }

    /// The body of the next attempt; `None` when too much has been sent to send it again.
    pub(super) fn again(&self) -> Option<ReplayBody<B>> {
        let Some(shared) = &self.source else { return Some(ReplayBody { kind: Kind::Empty }) };
        let mut source = lock(shared);
        if !source.replayable {
            return None;
        }
        source.current += 1;
        let attempt = source.current;
        // The reader that is waiting learns that it was given up.
        let waiting = source.reader.take();
        drop(source);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        Some(ReplayBody { kind: Kind::Replay { source: Arc::clone(shared), attempt, next: 0 } })
    }

    /// Could there be a next attempt?
    pub(super) fn is_possible(&self) -> bool {
        self.source.as_ref().is_none_or(|source| lock(source).replayable)
    }
}

/// The future is done: what is still to be sent need not be kept.
impl<B> Drop for Replay<B> {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            lock(source).replayable = false;
        }
    }
}

/// A panic of the caller's body while it was polled leaves the source as it was: it is read on.
fn lock<B>(source: &Mutex<Source<B>>) -> MutexGuard<'_, Source<B>> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Source<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    fn poll_next(&mut self, next: &mut usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(chunk) = self.chunks.get(*next) {
            let chunk = chunk.clone();
            *next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if !self.replayable && *next == self.chunks.len() {
            self.chunks = Vec::new();
            *next = 0;
        }
        let Some(body) = &mut self.body else {
            // After the end: a replay still owes its trailers, once.
            let owed = self.trailers.as_ref().filter(|_| *next == self.chunks.len()).cloned();
            *next = self.chunks.len() + 1;
            return Poll::Ready(owed.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let Poll::Ready(frame) = body.as_mut().poll_frame(cx) else {
            if !self.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                self.reader = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.replayable = false;
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                self.body = None;
                *next = self.chunks.len() + 1;
                return Poll::Ready(None);
            }
        };
        match frame.into_data() {
            Ok(mut data) => {
                let chunk = data.copy_to_bytes(data.remaining());
                self.keep(&chunk, next);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.body = None;
                    *next = self.chunks.len() + 1;
                    self.trailers = Some(trailers.clone());
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                // A kind of frame that we do not know could not be replayed.
                Err(_) => {
                    self.replayable = false;
                    Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
                }
            },
        }
    }

    fn keep(&mut self, chunk: &Bytes, next: &mut usize) {
        // Nobody misses it in a replay, and there is no end to how many fit below the cap.
        if chunk.is_empty() {
            return;
        }
        self.kept = self.kept.saturating_add(chunk.len());
        // What a list of small chunks takes beside their bytes is bounded as well.
        let most = (self.cap / size_of::<Bytes>()).max(FEW);
        if self.kept > self.cap || self.chunks.len() >= most {
            self.replayable = false;
        }
        if self.replayable {
            self.chunks.push(chunk.clone());
            *next = self.chunks.len();
        } else {
            self.chunks = Vec::new();
            *next = 0;
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProj::Empty => Poll::Ready(None),
            KindProj::Replay { source, attempt, next } => {
                let mut source = lock(source);
                if source.current != *attempt {
                    return Poll::Ready(Some(Err(Superseded.into())));
                }
                source.poll_next(next, cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Replay { source, attempt, next } => {
                let source = lock(source);
                let read = *next >= source.chunks.len();
                let owes_trailers = source.trailers.is_some() && *next == source.chunks.len();
                source.current == *attempt
                    && read
                    && !owes_trailers
                    && source.body.as_ref().is_none_or(|body| body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Replay { source, next, .. } => {
                let source = lock(source);
                let kept: usize = source.chunks.iter().skip(*next).map(Bytes::len).sum();
                let rest = source.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint());
                let mut hint = SizeHint::new();
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + kept as u64);
                }
                hint.set_lower(rest.lower() + kept as u64);
                hint
            }
        }
    }
}

impl<B> std::fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Empty => "ReplayBody(empty)",
            Kind::Replay { .. } => "ReplayBody(replay)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same frame for ever.
    struct Endless(&'static [u8]);

    impl Body for Endless {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.0)))))
        }
    }

    /// The cap bounds the memory that a body takes, however it is cut.
    #[test]
    fn a_body_in_many_pieces_is_bounded_too() {
        let cap = 2 * FEW * size_of::<Bytes>();
        for (piece, replayable) in [(&b""[..], true), (b"x", false)] {
            let (replay, mut body) = Replay::new(Endless(piece), cap);
            let mut most = 0;
            for _ in 0..cap / 2 {
                let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(polled, Poll::Ready(Some(Ok(_)))));
                most = most.max(lock(replay.source.as_ref().unwrap()).chunks.len());
            }
            assert!(most <= 2 * FEW, "{most} pieces kept");
            assert_eq!(replay.is_possible(), replayable, "{piece:?}");
        }
    }
}
