use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Response, StatusCode, header::SET_COOKIE};
use http_body::Body;
use mesh_core::{BoxError, Deadline, Error, Exchange, Reason, clock};
use pin_project_lite::pin_project;

use super::{InFlightBody, Upgraded, in_flight::InFlight};
use crate::{Ended, Outcome, OutlierDetection, Queued};

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
        if let Some(in_flight) = &mut self.in_flight {
            record(in_flight, None, |policy| Some(policy.outcome(response.status(), response.headers())));
            tell(in_flight, Exchange::of(&mut response));
        }
        if let Some(cookie) = self.set_cookie.take() {
            response.headers_mut().append(SET_COOKIE, *cookie);
        }
        let mut in_flight = self.in_flight.take();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(upgraded) = response.extensions_mut().remove::<Upgraded>()
            && let Some(in_flight) = in_flight.take()
        {
            upgraded.keep(in_flight);
        }
        response.map(|body| InFlightBody::new(body, in_flight))
    }

    fn failed(&mut self, mut error: Error) -> Error {
        if let Some(mut in_flight) = self.in_flight.take() {
            // That a pooled connection ends is no failure of the endpoint's, though one request was lost with it.
            let faultless = error.resend().is_some_and(|resend| !resend.is_fault());
            let timed_out = matches!(error.reason(), Reason::Timeout | Reason::PerTryTimeout);
            let ended = timed_out.then_some(Ended::TimedOut);
            record(&mut in_flight, ended, |_| Outcome::of_error(error.reason()).filter(|_| !faultless));
            tell(&in_flight, error.exchange_mut());
        }
        error
    }
}

impl Drop for Attempted {
    /// Given up before it was answered. A timeout is the endpoint's failure (measured on Envoy 1.40, t8), a
    /// caller that went away is not: the deadline tells them apart. Both say that the answer takes at least this long,
    /// unless the request had not left.
    fn drop(&mut self) {
        let Some(in_flight) = &mut self.in_flight else { return };
        if self.queued.as_ref().is_some_and(Queued::waits) || (self.deadline.is_none() && !in_flight.is_measured()) {
            return;
        }
        let now = clock::now();
        if self.deadline.is_some_and(|deadline| deadline.remaining(now).is_zero()) {
            in_flight.ended(now, Ended::TimedOut);
            in_flight.cluster().record(in_flight.member(), Outcome::NoResponse, now);
        } else {
            in_flight.ended(now, Ended::Abandoned);
        }
    }
}

/// Tell those who want to know what became of it; the clock is read where anybody does. `ended`, where that is not as the
/// outcome has it.
fn record(in_flight: &mut InFlight, ended: Option<Ended>, outcome: impl FnOnce(&OutlierDetection) -> Option<Outcome>) {
    let detection = in_flight.cluster().policy().outlier_detection.as_ref();
    if detection.is_none() && !in_flight.is_measured() {
        return;
    }
    let outcome = match detection {
        Some(policy) => outcome(policy),
        None => outcome(&OutlierDetection::default()),
    };
    let Some(outcome) = outcome else { return };
    let now = clock::now();
    in_flight.cluster().record(in_flight.member(), outcome, now);
    let as_outcome = if outcome == Outcome::Success { Ended::Answered } else { Ended::Failed };
    in_flight.ended(now, ended.unwrap_or(as_outcome));
}

fn tell(in_flight: &InFlight, exchange: &mut Exchange) {
    exchange.cluster = Some(Arc::clone(in_flight.cluster().name()));
    exchange.endpoint = Some(Arc::clone(in_flight.member().endpoint()));
}
