//! The bodies of a request and of its mirrors.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use mesh_core::BoxError;
use pin_project_lite::pin_project;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pin_project! {
    /// The body of a request that may have mirrors, or of a mirror.
    pub struct MirrorBody<B>
    where
        B: Body,
    {
        #[pin]
        kind: Kind<B>,
    }

    impl<B> PinnedDrop for MirrorBody<B>
    where
        B: Body,
    {
        fn drop(this: Pin<&mut Self>) {
            this.tell_the_rest();
        }
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B>
    where
        B: Body,
    {
        // The request's own, told on to its mirrors while it is read.
        Own { #[pin] body: B, mirrors: Vec<Teller> },
        Mirror { told: Told },
        Empty,
    }
}

enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// The way to one mirror.
struct Teller {
    parts: UnboundedSender<Part>,
    behind: Arc<AtomicUsize>,
    cap: usize,
}

/// What is read for mirrors alone when the request needs its body no more.
const REST: usize = 1 << 20;

/// What a mirror reads.
struct Told {
    parts: UnboundedReceiver<Part>,
    behind: Arc<AtomicUsize>,
    ended: bool,
    /// Bytes to come, where the request's body knew how many.
    left: Option<u64>,
}

/// The request's body ended early, or the mirror was too slow.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("mirror given up")]
struct GivenUp;

impl<B: Body> MirrorBody<B> {
    /// A request's own body, without mirrors.
    pub(super) fn alone(body: B) -> Self {
        Self { kind: Kind::Own { body, mirrors: Vec::new() } }
    }

    /// A request's own body, and those of `count` mirrors, each up to `cap` bytes behind it.
    pub(super) fn told_on(body: B, count: usize, cap: usize) -> (Self, Vec<Self>) {
        if body.is_end_stream() {
            return (Self::alone(body), (0..count).map(|_| Self { kind: Kind::Empty }).collect());
        }
        let left = body.size_hint().exact();
        let (mirrors, bodies) = (0..count).map(|_| channel(cap, left)).unzip();
        let bodies: Vec<Told> = bodies;
        let bodies = bodies.into_iter().map(|told| Self { kind: Kind::Mirror { told } }).collect();
        (Self { kind: Kind::Own { body, mirrors } }, bodies)
    }
}

impl<B: Body> MirrorBody<B> {
    /// measured on Envoy 1.40 (interop): the mirror of a request whose own upstream refuses the connection gets the whole
    /// body. What of it is there already is told when nobody reads it any more; nothing is waited for.
    fn tell_the_rest(self: Pin<&mut Self>) {
        let KindProj::Own { mut body, mirrors } = self.project().kind.project() else { return };
        // It may be the body that panics: a second time, while the first unwinds, would end the process.
        if std::thread::panicking() {
            return;
        }
        let (mut cx, mut told) = (Context::from_waker(Waker::noop()), 0);
        while !mirrors.is_empty() && told <= REST {
            match body.as_mut().poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                    // A frame without data counts too, so that there is an end to them.
                    told += frame.data_ref().map_or(0, Bytes::len).max(1);
                    tell(mirrors, &frame, body.is_end_stream());
                }
                Poll::Ready(None) => end(mirrors),
                Poll::Ready(Some(Err(_))) | Poll::Pending => return,
            }
        }
    }
}

/// Pass a frame on; a reader that knows that it was the last does not come back for the end.
fn tell(mirrors: &mut Vec<Teller>, frame: &Frame<Bytes>, last: bool) {
    if let Some(chunk) = frame.data_ref() {
        mirrors.retain(|mirror| mirror.data(chunk));
    } else if let Some(trailers) = frame.trailers_ref() {
        mirrors.retain(|mirror| mirror.parts.send(Part::Trailers(trailers.clone())).is_ok());
    }
    if last || frame.is_trailers() {
        end(mirrors);
    }
}

fn channel(cap: usize, left: Option<u64>) -> (Teller, Told) {
    let (sender, receiver) = unbounded_channel();
    let behind = Arc::new(AtomicUsize::new(0));
    let teller = Teller { parts: sender, behind: Arc::clone(&behind), cap };
    (teller, Told { parts: receiver, behind, ended: false, left })
}

impl Teller {
    /// Tell on; `false` when the mirror is gone or too far behind, and is to be given up.
    fn data(&self, chunk: &Bytes) -> bool {
        // Nobody misses it, and there is no end to how many fit below the cap.
        if chunk.is_empty() {
            return true;
        }
        let behind = self.behind.fetch_add(chunk.len(), Ordering::AcqRel);
        behind.saturating_add(chunk.len()) <= self.cap && self.parts.send(Part::Data(chunk.clone())).is_ok()
    }
}

/// The end of the request's body is the end of its mirrors'. Dropped without one, they fail.
fn end(mirrors: &mut Vec<Teller>) {
    for mirror in mirrors.drain(..) {
        let _ = mirror.parts.send(Part::End);
    }
}

impl Told {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.parts.poll_recv(cx)) {
            Some(Part::Data(chunk)) => {
                self.behind.fetch_sub(chunk.len(), Ordering::AcqRel);
                self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
                Some(Ok(Frame::data(chunk)))
            }
            Some(Part::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Part::End) => {
                self.ended = true;
                None
            }
            // A connection drops a body once it has written as many bytes as were announced.
            None if self.left == Some(0) => {
                self.ended = true;
                None
            }
            None => Some(Err(GivenUp.into())),
        })
    }
}

impl<B> Body for MirrorBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (mut body, mirrors) = match self.project().kind.project() {
            KindProj::Own { body, mirrors } => (body, mirrors),
            KindProj::Mirror { told } => return told.poll_next(cx),
            KindProj::Empty => return Poll::Ready(None),
        };
        let frame = match ready!(body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => frame.map_data(|mut data| data.copy_to_bytes(data.remaining())),
            Some(Err(error)) => {
                mirrors.clear();
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                end(mirrors);
                return Poll::Ready(None);
            }
        };
        if !mirrors.is_empty() {
            tell(mirrors, &frame, body.is_end_stream());
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own { body, .. } => body.is_end_stream(),
            Kind::Mirror { told } => told.ended,
            Kind::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own { body, .. } => body.size_hint(),
            Kind::Mirror { told } => told.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Empty => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body> std::fmt::Debug for MirrorBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Kind::Own { mirrors, .. } => f.debug_struct("MirrorBody").field("mirrors", &mirrors.len()).finish(),
            Kind::Mirror { .. } => f.write_str("MirrorBody(mirror)"),
            Kind::Empty => f.write_str("MirrorBody(empty)"),
        }
    }
}
