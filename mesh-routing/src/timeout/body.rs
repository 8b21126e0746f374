//! A response body that ends at the deadline.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use mesh_core::{BoxError, Error, Reason};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

pin_project! {
    /// The body of a response under a timeout: past the deadline it ends in an error.
    #[derive(Debug)]
    pub struct TimeoutBody<B> {
        #[pin]
        body: B,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<B: Body> TimeoutBody<B> {
    /// A body that may run until `deadline`, if there is one.
    pub(super) fn new(body: B, deadline: Option<Instant>) -> Self {
        // The timer registers itself when it is first polled: a body that never waits costs none.
        let sleep = deadline.filter(|_| !body.is_end_stream()).map(sleep_until);
        Self { body, sleep }
    }
}

impl<B> Body for TimeoutBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match this.sleep.as_pin_mut().map(|sleep| sleep.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Some(Err(Error::new(Reason::Timeout).into()))),
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
