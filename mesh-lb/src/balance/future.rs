use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Response, header::SET_COOKIE};
use http_body::Body;
use mesh_core::{BoxError, Deadline, Error, Exchange, clock};
use pin_project_lite::pin_project;

use super::{InFlightBody, in_flight::InFlight};
use crate::{Outcome, OutlierDetection, Queued};

pin_project! {
    /// The response of [`Balance`](super::Balance).
    #[derive(Debug)]
    pub struct ResponseFuture<F, W> {
        #[pin]
        state: State<F, W>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F, W> {
        Called {
            #[pin]
            future: F,
            attempted: Attempted,
        },
        Refused { error: Option<Error> },
        // Boxed where a request waits, so that the others are no larger for it.
        Waiting { waiting: Pin<Box<W>> },
    }
}

impl<F, W> ResponseFuture<F, W> {
    pub(super) fn called(future: F, attempted: Attempted) -> Self {
        Self { state: State::Called { future, attempted } }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    pub(super) fn waiting(waiting: W) -> Self {
        Self { state: State::Waiting { waiting: Box::pin(waiting) } }
    }
}

impl<F, W, RB, E> Future for ResponseFuture<F, W>
where
    F: Future<Output = Result<Response<RB>, E>>,
    W: Future<Output = Result<(F, Attempted), Error>>,
    E: Into<BoxError>,
    RB: Body,
{
    type Output = Result<Response<InFlightBody<RB>>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let (future, attempted) = match self.as_mut().project().state.project() {
                StateProj::Called { future, attempted } => {
                    return Poll::Ready(match ready!(future.poll(cx)) {
                        Ok(response) => Ok(attempted.answered(response)),
                        Err(error) => Err(attempted.failed(Error::from_box(error.into()))),
                    });
                }
                StateProj::Refused { error } => {
                    return Poll::Ready(Err(error.take().expect("a future is not polled after it was ready")));
                }
                StateProj::Waiting { waiting } => ready!(waiting.as_mut().poll(cx))?,
            };
            self.as_mut().project().state.set(State::Called { future, attempted });
        }
    }
}

/// A request that an endpoint has and has not answered yet.
#[derive(Debug)]
pub struct Attempted {
    in_flight: Option<InFlight>,
    deadline: Option<Deadline>,
    queued: Option<Queued>,
    set_cookie: Option<Box<HeaderValue>>,
}

impl Attempted {
    pub(super) fn new(
        in_flight: InFlight,
        deadline: Option<Deadline>,
        queued: Option<Queued>,
        set_cookie: Option<Box<HeaderValue>>,
    ) -> Self {
        Self { in_flight: Some(in_flight), deadline, queued, set_cookie }
    }

    fn answered<RB: Body>(&mut self, mut response: Response<RB>) -> Response<InFlightBody<RB>> {
        if let Some(in_flight) = &self.in_flight {
            record(in_flight, |policy| Some(policy.outcome(response.status(), response.headers())));
            tell(in_flight, Exchange::of(&mut response));
        }
        if let Some(cookie) = self.set_cookie.take() {
            response.headers_mut().append(SET_COOKIE, *cookie);
        }
        let in_flight = self.in_flight.take();
        response.map(|body| InFlightBody::new(body, in_flight))
    }

    fn failed(&mut self, mut error: Error) -> Error {
        if let Some(in_flight) = self.in_flight.take() {
            // That a pooled connection ends is no failure of the endpoint's, though one request was lost with it.
            let faultless = error.resend().is_some_and(|resend| !resend.is_fault());
            record(&in_flight, |_| Outcome::of_error(error.reason()).filter(|_| !faultless));
            tell(&in_flight, error.exchange_mut());
        }
        error
    }
}

impl Drop for Attempted {
    /// Given up before it was answered. A timeout is the endpoint's failure (measured on Envoy 1.40, t8), a
    /// caller that went away is not: the deadline tells them apart.
    fn drop(&mut self) {
        if let (Some(in_flight), Some(deadline)) = (&self.in_flight, self.deadline)
            && deadline.remaining(clock::now()).is_zero()
            && !self.queued.as_ref().is_some_and(Queued::waits)
        {
            record(in_flight, |_| Some(Outcome::NoResponse));
        }
    }
}

fn record(in_flight: &InFlight, outcome: impl FnOnce(&OutlierDetection) -> Option<Outcome>) {
    let cluster = in_flight.cluster();
    if let Some(policy) = &cluster.policy().outlier_detection
        && let Some(outcome) = outcome(policy)
    {
        cluster.record(in_flight.member(), outcome, clock::now());
    }
}

fn tell(in_flight: &InFlight, exchange: &mut Exchange) {
    exchange.cluster = Some(Arc::clone(in_flight.cluster().name()));
    exchange.endpoint = Some(Arc::clone(in_flight.member().endpoint()));
}
