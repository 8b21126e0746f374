//! The router: decides about a request once, and hands it inward with the decision.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{Request, Response};
use mesh_core::{BoxError, ClusterHandle, Error, Progress, Reason, Routed, clock};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    RequestHead, Roll, RoutePolicy, RouteTable,
    shape::Shape,
    table::Decision,
    taken::{self, Taken},
};

/// Routes requests by the table in force. See the [crate's documentation](crate).
#[derive(Debug)]
pub struct RouteLayer<C> {
    table: Arc<ArcSwap<RouteTable<C>>>,
    roll: Roll,
}

impl<C> RouteLayer<C> {
    /// By the table that `table` holds when a request comes: one load per request, never two.
    #[must_use]
    pub fn new(table: Arc<ArcSwap<RouteTable<C>>>) -> Self {
        Self { table, roll: rand::random::<u64> }
    }

    /// Draw destinations from another source.
    #[must_use]
    pub fn with_roll(mut self, roll: Roll) -> Self {
        self.roll = roll;
        self
    }
}

impl<C> Clone for RouteLayer<C> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table), roll: self.roll }
    }
}

impl<C, S> Layer<S> for RouteLayer<C> {
    type Service = Router<C, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Router { layer: self.clone(), inner }
    }
}

/// The service of [`RouteLayer`]: always ready; the inner service is waited for in the future.
#[derive(Debug)]
pub struct Router<C, S> {
    layer: RouteLayer<C>,
    inner: S,
}

impl<C, S: Clone> Clone for Router<C, S> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), inner: self.inner.clone() }
    }
}

impl<B, C, S, R> Service<Request<B>> for Router<C, S>
where
    C: ClusterHandle,
    S: Service<Routed<Request<B>, C, Arc<RoutePolicy<C>>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = RouterFuture<S, Routed<Request<B>, C, Arc<RoutePolicy<C>>>, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.layer.decide(request) {
            Ok((routed, taken)) => {
                let state = State::Ready { service: self.inner.clone(), routed: Some(routed) };
                RouterFuture { taken: Some(taken), state }
            }
            Err(Refused { error, after }) => {
                let delay = after.map(|after| sleep_until(clock::now() + after));
                RouterFuture { taken: None, state: State::Refused { error: Some(error), delay } }
            }
        }
    }
}

/// A routed request, with what its response is told.
type Decided<B, C> = (Routed<Request<B>, C, Arc<RoutePolicy<C>>>, Taken<C>);

impl<C: ClusterHandle> RouteLayer<C> {
    fn decide<B>(&self, mut request: Request<B>) -> Result<Decided<B, C>, Refused> {
        let table = self.table.load();
        let head = RequestHead::new(&request, table.path_normalization())
            .map_err(|error| Error::new(Reason::BadRequest("path")).with_source(error))?;
        let destination = match table.route(&head, self.roll)? {
            Decision::Forward(destination) => destination,
            Decision::Redirect(redirect, policy) => {
                let answer = taken::redirect(redirect, &head)?;
                return Err(self.answer(&Taken::new(policy, &request), || answer));
            }
            Decision::DirectResponse(response, policy) => {
                return Err(self.answer(&Taken::new(policy, &request), || taken::direct(response, &head)));
            }
        };
        let policy = destination.policy();
        let mut taken = Taken::new(policy, &request);
        taken.cluster = Some(Arc::clone(destination.name()));
        let Some(cluster) = destination.cluster().cloned() else {
            return Err(self.answer(&taken, || taken.without_cluster(&request)));
        };
        let shape = Shape::new(policy, &head);
        shape.apply(policy, &mut request)?;
        Progress::note(request.extensions(), |known| taken.note(known));
        Ok((Routed::new(request, cluster, Arc::clone(&taken.policy)), taken))
    }

    /// What is answered here. Faults come first.
    fn answer(&self, taken: &Taken<C>, answer: impl FnOnce() -> Error) -> Refused {
        let fault = taken.policy.fault().map(|fault| fault.decide(self.roll)).unwrap_or_default();
        Refused { error: taken.ended(fault, answer), after: fault.delay }
    }
}

/// A request that goes nowhere.
struct Refused {
    error: Error,
    /// An injected delay comes first.
    after: Option<Duration>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, after: None }
    }
}

pin_project! {
    /// The future of [`Router`].
    pub struct RouterFuture<S, R, C>
    where
        S: Service<R>,
    {
        taken: Option<Taken<C>>,
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
        Ready { service: S, routed: Option<R> },
        Call { #[pin] future: S::Future },
        Refused { error: Option<Error>, #[pin] delay: Option<Sleep> },
    }
}

impl<S: Service<R>, R, C> std::fmt::Debug for RouterFuture<S, R, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterFuture").finish_non_exhaustive()
    }
}

impl<S, R, B, C> Future for RouterFuture<S, R, C>
where
    S: Service<R, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<B>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            match this.state.as_mut().project() {
                StateProj::Refused { error, delay } => {
                    if let Some(delay) = delay.as_pin_mut() {
                        ready!(delay.poll(cx));
                    }
                    return Poll::Ready(Err(error.take().expect("polled after completion")));
                }
                StateProj::Ready { service, routed } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        break Err(Error::from_box(error.into()));
                    }
                    let future = service.call(routed.take().expect("polled after completion"));
                    this.state.set(State::Call { future });
                }
                StateProj::Call { future } => break ready!(future.poll(cx)).map_err(|e| Error::from_box(e.into())),
            }
        };
        let taken = this.taken.as_ref().expect("a request that was sent has its route");
        Poll::Ready(match result {
            Ok(mut response) => {
                taken.answered(&mut response);
                Ok(response)
            }
            Err(error) => Err(taken.failed(error)),
        })
    }
}
