//! Body wrappers: one counts what is sent, one notices how a response ends.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    recording::Recording,
    trace::{self, TraceContext},
};

pin_project! {
    /// A request body whose bytes are counted as they are sent.
    #[derive(Debug)]
    pub struct CountedBody<B> {
        #[pin]
        inner: B,
        // None for a body that has ended before it began: nothing to count, nothing to allocate.
        count: Option<Arc<AtomicU64>>,
    }
}

impl<B: Body> CountedBody<B> {
    pub(crate) fn new(inner: B) -> Self {
        let count = (!inner.is_end_stream()).then(Arc::default);
        Self { inner, count }
    }

    pub(crate) fn count(&self) -> Option<Arc<AtomicU64>> {
        self.count.clone()
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let (Some(count), Some(Ok(frame))) = (this.count, &frame)
            && let Some(data) = frame.data_ref()
        {
            count.fetch_add(data.remaining() as u64, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// A response body that records its request when it ends, fails or is dropped, whichever comes first.
    ///
    /// On the server's side its polls run in the trace context of the request, so that a streamed body can make calls
    /// of its own.
    #[derive(Debug)]
    pub struct RecordingBody<B> {
        #[pin]
        inner: B,
        recording: Option<Box<Recording>>,
        scope: Option<TraceContext>,
    }
}

impl<B: Body> RecordingBody<B> {
    pub(crate) fn new(inner: B, mut recording: Box<Recording>, scope: Option<TraceContext>) -> Self {
        // Nobody polls a body that has ended, or that the protocol will not send.
        if recording.is_bodyless() || inner.is_end_stream() {
            recording.complete();
            return Self { inner, recording: None, scope };
        }
        Self { inner, recording: Some(recording), scope }
    }
}

impl<B> Body for RecordingBody<B>
where
    B: Body,
    B::Error: 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let polled = {
            let _entered = this.recording.as_deref().map(Recording::enter);
            match this.scope {
                Some(context) => trace::enter(context.clone(), || this.inner.as_mut().poll_frame(cx)),
                None => this.inner.as_mut().poll_frame(cx),
            }
        };
        let frame = ready!(polled);
        let Some(recording) = this.recording else { return Poll::Ready(frame) };
        let ended = match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    recording.data(data.remaining());
                } else if let Some(trailers) = frame.trailers_ref() {
                    recording.trailers(trailers);
                }
                // A reader that knows the length does not ask again after the last byte. gRPC has trailers then.
                let all_read = !recording.is_grpc() && this.inner.size_hint().exact() == Some(0);
                frame.is_trailers() || all_read || this.inner.is_end_stream()
            }
            Some(Err(error)) => {
                recording.body_error(error);
                true
            }
            None => true,
        };
        if ended {
            recording.complete();
            *this.recording = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
