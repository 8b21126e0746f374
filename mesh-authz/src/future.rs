use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use mesh_core::{BoxError, Error};
use pin_project_lite::pin_project;

pin_project! {
    /// The inner service's response, or the refusal that kept the request from it.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        Inner { #[pin] future: F },
        Refused { error: Option<Error> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(future: F) -> Self {
        Self { state: State::Inner { future } }
    }

    pub(crate) fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
{
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Inner { future } => {
                Poll::Ready(ready!(future.poll(cx)).map_err(|error| Error::from_box(error.into())))
            }
            StateProjection::Refused { error } => {
                Poll::Ready(Err(error.take().expect("a future is not polled after it ended")))
            }
        }
    }
}
