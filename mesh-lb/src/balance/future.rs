use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use mesh_core::{BoxError, Deadline, Error, Exchange, clock};
use pin_project_lite::pin_project;

use super::{InFlightBody, in_flight::InFlight};
use crate::Outcome;

pin_project! {
    /// The response of [`Balance`](super::Balance).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Called {
            #[pin]
            future: F,
            attempted: Attempted,
        },
        Refused { error: Option<Error> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn called(future: F, attempted: Attempted) -> Self {
        Self { state: State::Called { future, attempted } }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<F, RB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
    RB: Body,
{
    type Output = Result<Response<InFlightBody<RB>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future, attempted } => Poll::Ready(match ready!(future.poll(cx)) {
                Ok(response) => Ok(attempted.answered(response)),
                Err(error) => Err(attempted.failed(Error::from_box(error.into()))),
            }),
            StateProj::Refused { error } => {
                Poll::Ready(Err(error.take().expect("a future is not polled after it was ready")))
            }
        }
    }
}

/// A request that an endpoint has and has not answered yet.
#[derive(Debug)]
pub(super) struct Attempted {
    in_flight: Option<InFlight>,
    deadline: Option<Deadline>,
}

impl Attempted {
    pub(super) fn new(in_flight: InFlight, deadline: Option<Deadline>) -> Self {
        Self { in_flight: Some(in_flight), deadline }
    }

    fn answered<RB: Body>(&mut self, mut response: Response<RB>) -> Response<InFlightBody<RB>> {
        if let Some(in_flight) = &self.in_flight {
            record(in_flight, Outcome::of_response(response.status(), response.headers()));
            tell(in_flight, Exchange::of(&mut response));
        }
        let in_flight = self.in_flight.take();
        response.map(|body| InFlightBody::new(body, in_flight))
    }

    fn failed(&mut self, mut error: Error) -> Error {
        if let Some(in_flight) = self.in_flight.take() {
            // That a pooled connection ends is no failure of the endpoint's, though one request was lost with it.
            let faultless = error.resend().is_some_and(|resend| !resend.is_fault());
            if let Some(outcome) = Outcome::of_error(error.reason()).filter(|_| !faultless) {
                record(&in_flight, outcome);
            }
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
        {
            record(in_flight, Outcome::GatewayError);
        }
    }
}

fn record(in_flight: &InFlight, outcome: Outcome) {
    let cluster = in_flight.cluster();
    if cluster.policy().outlier_detection.is_some() {
        cluster.record(in_flight.member(), outcome, clock::now());
    }
}

fn tell(in_flight: &InFlight, exchange: &mut Exchange) {
    exchange.cluster = Some(Arc::clone(in_flight.cluster().name()));
    exchange.endpoint = Some(Arc::clone(in_flight.member().endpoint()));
}
