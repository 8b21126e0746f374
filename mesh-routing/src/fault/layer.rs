//! The shell: waits, then aborts or passes on.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use mesh_core::{BoxError, Error, Exchange, Progress, Reason, ResponseFlag, Routed, clock};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Roll, RoutePolicy};

/// Injects the faults of the route. Stands between [`RouteLayer`](crate::RouteLayer) and
/// [`TimeoutLayer`](crate::TimeoutLayer).
#[derive(Clone, Copy, Debug)]
pub struct FaultLayer {
    roll: Roll,
}

impl FaultLayer {
    /// Drawing from the thread's generator.
    #[must_use]
    pub fn new() -> Self {
        Self { roll: rand::random::<u64> }
    }

    /// Drawing from another source.
    #[must_use]
    pub fn with_roll(mut self, roll: Roll) -> Self {
        self.roll = roll;
        self
    }
}

impl Default for FaultLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = FaultInjector<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FaultInjector { inner, roll: self.roll }
    }
}

/// The service of [`FaultLayer`].
#[derive(Clone, Debug)]
pub struct FaultInjector<S> {
    inner: S,
    roll: Roll,
}

impl<B, C, S, R> Service<Routed<Request<B>, C, Arc<RoutePolicy<C>>>> for FaultInjector<S>
where
    S: Service<Routed<Request<B>, C, Arc<RoutePolicy<C>>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = FaultFuture<S, Routed<Request<B>, C, Arc<RoutePolicy<C>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::from_box(error.into()))
    }

    fn call(&mut self, routed: Routed<Request<B>, C, Arc<RoutePolicy<C>>>) -> Self::Future {
        let decision = routed.policy.fault().map(|fault| fault.decide(self.roll)).unwrap_or_default();
        let (delayed, state) = match (decision.delay, decision.abort) {
            (Some(delay), abort) => {
                Progress::note(routed.request.extensions(), |known| known.flag(ResponseFlag::DelayInjected));
                // A reservation must not be held while sleeping: the clone is asked for readiness afterwards.
                let next = abort.map_or_else(|| Next::Send { service: self.inner.clone(), routed }, Next::Abort);
                (true, State::Delay { sleep: sleep_until(clock::now() + delay), next: Some(next) })
            }
            (None, Some(reason)) => (false, State::Abort { reason }),
            (None, None) => (false, State::Call { future: self.inner.call(routed) }),
        };
        FaultFuture { delayed, state }
    }
}

#[derive(Debug)]
enum Next<S, R> {
    Abort(Reason),
    Send { service: S, routed: R },
}

pin_project! {
    /// The future of [`FaultInjector`].
    pub struct FaultFuture<S, R>
    where
        S: Service<R>,
    {
        delayed: bool,
        #[pin]
        state: State<S, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, R>
    where
        S: Service<R>,
    {
        Delay { #[pin] sleep: Sleep, next: Option<Next<S, R>> },
        Ready { service: S, routed: Option<R> },
        Abort { reason: Reason },
        Call { #[pin] future: S::Future },
    }
}

impl<S: Service<R>, R> std::fmt::Debug for FaultFuture<S, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultFuture").field("delayed", &self.delayed).finish_non_exhaustive()
    }
}

impl<S, R, B> Future for FaultFuture<S, R>
where
    S: Service<R, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<B>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            match this.state.as_mut().project() {
                StateProj::Delay { sleep, next } => {
                    ready!(sleep.poll(cx));
                    let next = match next.take().expect("polled after completion") {
                        Next::Abort(reason) => State::Abort { reason },
                        Next::Send { service, routed } => State::Ready { service, routed: Some(routed) },
                    };
                    this.state.set(next);
                }
                StateProj::Ready { service, routed } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        break Err(Error::from_box(error.into()));
                    }
                    let future = service.call(routed.take().expect("polled after completion"));
                    this.state.set(State::Call { future });
                }
                StateProj::Abort { reason } => break Err(Error::new(*reason)),
                StateProj::Call { future } => break ready!(future.poll(cx)).map_err(|e| Error::from_box(e.into())),
            }
        };
        Poll::Ready(if *this.delayed { mark_delayed(result) } else { result })
    }
}

/// measured on Envoy 1.40 (t4): a delayed request carries `DI`, an aborted one as well `FI`.
fn mark_delayed<B>(result: Result<Response<B>, Error>) -> Result<Response<B>, Error> {
    match result {
        Ok(mut response) => {
            Exchange::of(&mut response).flag(ResponseFlag::DelayInjected);
            Ok(response)
        }
        Err(mut error) => {
            error.exchange_mut().flag(ResponseFlag::DelayInjected);
            Err(error)
        }
    }
}
