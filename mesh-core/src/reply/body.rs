use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that came from upstream, or was made here.
    #[derive(Debug)]
    pub struct ReplyBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Upstream { #[pin] body: B },
        Local { body: Option<Bytes> },
    }
}

impl<B> ReplyBody<B> {
    /// A body that came from upstream.
    pub fn upstream(body: B) -> Self {
        Self { kind: Kind::Upstream { body } }
    }

    /// A body made here.
    #[must_use]
    pub fn local(body: Bytes) -> Self {
        Self { kind: Kind::Local { body: (!body.is_empty()).then_some(body) } }
    }
}

impl<B: Body<Data = Bytes>> Body for ReplyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Upstream { body } => body.poll_frame(cx),
            KindProj::Local { body } => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Upstream { body } => body.is_end_stream(),
            Kind::Local { body } => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Upstream { body } => body.size_hint(),
            Kind::Local { body } => SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}
