//! One request through its attempts.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use mesh_core::{
    Attempt, BoxError, ClusterHandle, Deadline, Endpoint, Error, Exchange, Progress, RETRIES_EXHAUSTED, Reason, Resent,
    ResponseFlag, RetryPermit, Routed, clock,
};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::{ReplayBody, RetryPolicy, Verdict, replay::Replay};
use crate::{Roll, RoutePolicy, timeout};

/// istio sets `include_request_attempt_count` on outbound virtual hosts.
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

type Inner<B, C> = Routed<Request<ReplayBody<B>>, C, Arc<RoutePolicy<C>>>;

pin_project! {
    /// The future of [`Retry`](super::Retry).
    pub struct RetryFuture<S, B, C>
    where
        S: Service<Inner<B, C>>,
    {
        service: S,
        attempts: u32,
        // When the attempt under way has taken too long; a resend of it gets no further time.
        attempt_ends: Option<Instant>,
        // What another attempt is made of; `None` when the answer is out.
        again: Option<Again<B, C>>,
        #[pin]
        state: State<S::Future, B, C>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B, C> {
        Ready { routed: Option<Inner<B, C>> },
        Call { #[pin] future: F, #[pin] limit: Option<Sleep> },
        Wait { #[pin] sleep: Sleep, routed: Option<Inner<B, C>> },
    }
}

/// The request's head as it was, the body's source and where it has been.
struct Again<B, C> {
    head: Request<()>,
    replay: Replay<B>,
    cluster: C,
    policy: Arc<RoutePolicy<C>>,
    tried: Vec<Arc<Endpoint>>,
    leaving: Vec<Arc<Endpoint>>,
    /// Held while a retry is under way.
    permit: Option<RetryPermit>,
    /// Was it sent again already, outside of the policy?
    resent: bool,
    roll: Roll,
}

impl<S, B, C> RetryFuture<S, B, C>
where
    S: Service<Inner<B, C>>,
    B: Body,
    C: ClusterHandle,
{
    pub(super) fn new(service: S, routed: Routed<Request<B>, C, Arc<RoutePolicy<C>>>, cap: usize, roll: Roll) -> Self {
        let Routed { request, cluster, policy, attempt } = routed;
        let (mut head, body) = request.into_parts();
        let (replay, body) = Replay::new(body, cap);
        if policy.retry().is_some() {
            // An attempt that is cut off cannot say where it went: the balancer notes it here.
            head.extensions.get_or_insert_default::<Progress>();
        }
        let again = Again {
            head: Request::from_parts(head.clone(), ()),
            replay,
            cluster: cluster.clone(),
            policy: Arc::clone(&policy),
            tried: Vec::new(),
            leaving: Vec::new(),
            permit: None,
            resent: false,
            roll,
        };
        let mut request = Request::from_parts(head, body);
        count_attempt(&mut request, 1);
        let routed = Some(Routed { request, cluster, policy, attempt });
        Self { service, attempts: 1, attempt_ends: None, again: Some(again), state: State::Ready { routed } }
    }
}

impl<B, C> Again<B, C> {
    fn policy(&self) -> Option<&RetryPolicy> {
        self.policy.retry()
    }
}

/// Why a retry that the policy allows is not made.
enum Refused {
    /// The cluster has no place for it.
    NoBudget,
    /// Too much of the body was sent to send it again.
    NoBody,
}

impl<B: Body, C: ClusterHandle> Again<B, C> {
    /// The same attempt once more, where the outcome allows it outside of the policy: neither counted nor asked of the
    /// budget, and somewhere else if it can be, since who closes connections may be leaving.
    ///
    /// RFC 9110 9.2.2: "A client SHOULD NOT automatically retry a failed automatic retry." So once for each request;
    /// what fails after that is the policy's.
    fn resend<R>(&mut self, attempts: u32, outcome: &Result<Response<R>, Error>) -> Option<Inner<B, C>> {
        let failed = outcome.as_ref().err().filter(|error| error.resend().is_some())?;
        if self.resent {
            return None;
        }
        let body = self.replay.again()?;
        self.resent = true;
        let mut request = self.head.clone().map(|()| body);
        request.extensions_mut().insert(Resent);
        count_attempt(&mut request, attempts);
        let tried = self.tried.iter().chain(&failed.exchange().endpoint).cloned().collect();
        // A key's endpoint stays its endpoint: it is a connection that ended.
        let attempt = Attempt { number: attempts - 1, tried, ..Attempt::default() };
        Some(Routed { request, cluster: self.cluster.clone(), policy: Arc::clone(&self.policy), attempt })
    }

    fn next<R>(
        &mut self,
        attempts: u32,
        outcome: &Result<Response<R>, Error>,
    ) -> Result<(Duration, Inner<B, C>), Refused> {
        let Some(policy) = self.policy.retry() else { return Err(Refused::NoBody) };
        if !self.replay.is_possible() {
            return Err(Refused::NoBody);
        }
        // A retry that ended gives its place back before the next asks for one.
        self.permit = None;
        self.permit = self.cluster.retry_permit(outcome.as_ref().err().map(Error::reason));
        if self.permit.is_none() {
            return Err(Refused::NoBudget);
        }
        // From here on the attempt that failed reads no more of the body, whoever still holds it.
        let Some(body) = self.replay.again() else { return Err(Refused::NoBody) };
        if policy.avoids_previous() {
            self.tried.extend(endpoint(outcome).cloned());
        }
        if policy.leaves_localities() {
            self.leaving.extend(endpoint(outcome).cloned());
        }
        let mut request = self.head.clone().map(|()| body);
        count_attempt(&mut request, attempts + 1);
        let insists = policy.insists_on_others();
        let attempt = Attempt { number: attempts, tried: self.tried.clone(), insists, leaving: self.leaving.clone() };
        let (cluster, policy_of) = (self.cluster.clone(), Arc::clone(&self.policy));
        let after = policy.backoff().wait(attempts, (self.roll)());
        Ok((after, Routed { request, cluster, policy: policy_of, attempt }))
    }
}

fn count_attempt<B>(request: &mut Request<B>, attempts: u32) {
    let value = match attempts {
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        3 => HeaderValue::from_static("3"),
        more => HeaderValue::from(more),
    };
    request.headers_mut().insert(ATTEMPT_COUNT, value);
}

/// Whoever sees the attempt dropped can tell from the deadline that it took too long.
fn shorten_deadline<B>(request: &mut Request<B>, attempt: Instant) {
    let whole = request.extensions().get::<Deadline>().map_or(attempt, |deadline| deadline.0);
    request.extensions_mut().insert(Deadline(whole.min(attempt)));
}

/// An attempt's outcome and the decision about it.
fn judge<B, C, R>(again: Option<&Again<B, C>>, attempts: u32, outcome: &Result<Response<R>, Error>) -> Verdict {
    let Some(policy) = again.and_then(Again::policy) else { return Verdict::Accept };
    match outcome {
        // Whoever is nearer to the failure has retried: doing so again here would multiply the load on it.
        Ok(response) if response.headers().contains_key(RETRIES_EXHAUSTED) => Verdict::Accept,
        Ok(response) => policy.after_response(attempts, response.status(), response.headers()),
        Err(error) => policy.after_error(attempts, error.reason()),
    }
}

/// The caller gets this outcome because retries came to an end.
fn exhausted<R>(outcome: &mut Result<Response<R>, Error>, flag: ResponseFlag, by: &'static str) {
    exchange(outcome).flag(flag);
    let by = HeaderValue::from_static(by);
    match outcome {
        Ok(response) => drop(response.headers_mut().insert(RETRIES_EXHAUSTED, by)),
        Err(error) => error.edit_reply(move |headers| drop(headers.insert(RETRIES_EXHAUSTED, by.clone()))),
    }
}

fn exchange<R>(outcome: &mut Result<Response<R>, Error>) -> &mut Exchange {
    match outcome {
        Ok(response) => Exchange::of(response),
        Err(error) => error.exchange_mut(),
    }
}

fn endpoint<R>(outcome: &Result<Response<R>, Error>) -> Option<&Arc<Endpoint>> {
    let exchange = match outcome {
        Ok(response) => response.extensions().get::<Exchange>()?,
        Err(error) => error.exchange(),
    };
    exchange.endpoint.as_ref()
}

impl<S, B, C, R> Future for RetryFuture<S, B, C>
where
    S: Service<Inner<B, C>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body,
    C: ClusterHandle,
{
    type Output = Result<Response<R>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let mut outcome = match this.state.as_mut().project() {
                StateProj::Wait { sleep, routed } => {
                    ready!(sleep.poll(cx));
                    let routed = routed.take();
                    *this.attempts += 1;
                    *this.attempt_ends = None;
                    this.state.set(State::Ready { routed });
                    continue;
                }
                StateProj::Ready { routed } => match ready!(this.service.poll_ready(cx)) {
                    Ok(()) => {
                        let mut routed = routed.take().expect("polled after completion");
                        let limit = this.again.as_ref().and_then(Again::policy).and_then(RetryPolicy::per_try_timeout);
                        let whole = routed.request.extensions().get::<Deadline>().copied();
                        let now = clock::now();
                        timeout::tell(routed.request.headers_mut(), whole.map(|whole| whole.remaining(now)), limit);
                        // A time that the clock does not reach is none.
                        let ends = limit.and_then(|timeout| now.checked_add(timeout));
                        let limit = ends.map(|ends| {
                            let deadline = *this.attempt_ends.get_or_insert(ends);
                            shorten_deadline(&mut routed.request, deadline);
                            sleep_until(deadline)
                        });
                        let future = this.service.call(routed);
                        if let Some(permit) = this.again.as_mut().and_then(|again| again.permit.as_mut()) {
                            permit.sent();
                        }
                        this.state.set(State::Call { future, limit });
                        continue;
                    }
                    Err(error) => Err(Error::from_box(error.into())),
                },
                StateProj::Call { future, limit } => match future.poll(cx) {
                    Poll::Ready(outcome) => outcome.map_err(|error| Error::from_box(error.into())),
                    Poll::Pending => {
                        let Some(limit) = limit.as_pin_mut() else { return Poll::Pending };
                        ready!(limit.poll(cx));
                        let mut error = Error::new(Reason::PerTryTimeout);
                        let progress = this.again.as_ref().and_then(|again| again.head.extensions().get::<Progress>());
                        if let Some(so_far) = progress.map(Progress::so_far) {
                            let exchange = error.exchange_mut();
                            (exchange.cluster, exchange.endpoint) = (so_far.cluster, so_far.endpoint);
                        }
                        Err(error)
                    }
                },
            };
            let attempts = *this.attempts;
            if let Some(routed) = this.again.as_mut().and_then(|again| again.resend(attempts, &outcome)) {
                this.state.set(State::Ready { routed: Some(routed) });
                continue;
            }
            match judge(this.again.as_ref(), attempts, &outcome) {
                Verdict::Accept => {}
                Verdict::LimitReached => {
                    exhausted(&mut outcome, ResponseFlag::UpstreamRetryLimitExceeded, "limit");
                }
                Verdict::Retry => {
                    let again = this.again.as_mut().expect("judged by its policy");
                    match again.next(attempts, &outcome) {
                        Ok((after, routed)) => {
                            let sleep = sleep_until(clock::now() + after);
                            this.state.set(State::Wait { sleep, routed: Some(routed) });
                            continue;
                        }
                        // Envoy marks a retry that the budget refused as an overflow.
                        Err(Refused::NoBudget) => exhausted(&mut outcome, ResponseFlag::UpstreamOverflow, "budget"),
                        Err(Refused::NoBody) => {}
                    }
                }
            }
            exchange(&mut outcome).attempts = attempts;
            // The body still to be sent is no longer kept.
            *this.again = None;
            return Poll::Ready(outcome);
        }
    }
}

impl<S, B, C> std::fmt::Debug for RetryFuture<S, B, C>
where
    S: Service<Inner<B, C>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetryFuture").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}
