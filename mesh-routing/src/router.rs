//! The router: decides about a request once, and hands it inward with the decision.

use std::{
    borrow::Cow,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header, uri::PathAndQuery};
use mesh_core::{BoxError, ClusterHandle, ClusterName, Error, Exchange, Progress, Reason, ResponseFlag, Routed, clock};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use crate::{RequestHead, Roll, RoutePolicy, RouteTable, cors::Grant, header_ops, table::Decision};

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
                let location = HeaderValue::from_maybe_shared(Bytes::from(redirect.location(&head)));
                let location = location.map_err(|error| bad_path(error.into()))?;
                let mut answer = Error::answer(redirect.status(), Bytes::new());
                answer.edit_reply(move |headers| {
                    headers.insert(header::LOCATION, location.clone());
                });
                return Err(self.answer(&Taken::new(policy, &request), || answer));
            }
            Decision::DirectResponse(response, policy) => {
                let answer = Error::answer(response.status, response.body.clone());
                return Err(self.answer(&Taken::new(policy, &request), || answer));
            }
        };
        let mut taken = Taken::new(destination.policy(), &request);
        taken.cluster = Some(Arc::clone(destination.name()));
        let Some(cluster) = destination.cluster().cloned() else {
            return Err(self.no_cluster(&taken, &request));
        };
        let policy = destination.policy();
        // Upstream sees the path that was matched: otherwise it could read another one out of it.
        let path = match &policy.rewrite {
            Some(rewrite) => Some(with_query(&rewrite.apply(&head.path), head.query)),
            None => matches!(head.path, Cow::Owned(_)).then(|| with_query(head.path.as_bytes(), head.query)),
        };
        // envoy finalizePathHeader, measured (t2): with its query, and even where the rewrite changes nothing.
        let original_path = policy.rewrite.as_ref().map(|_| with_query(head.path.as_bytes(), head.query));
        // envoy updateAuthority, measured (t2, `/lh`): the one before, its port included.
        let original_host = policy.authority.as_ref().filter(|_| policy.tells_authority);
        let original_host = original_host.map(|_| HeaderValue::from_str(head.authority));
        if let Some(ops) = &policy.request_headers {
            header_ops::apply(ops, request.headers_mut());
        }
        if let Some(authority) = &policy.authority {
            let headers = request.headers_mut();
            headers.insert(header::HOST, authority.clone());
            headers.extend(original_host.and_then(Result::ok).map(|host| (ORIGINAL_HOST, host)));
        }
        if let Some(path) = path {
            set_path(&mut request, path)?;
        }
        if let Some(Ok(path)) = original_path.map(HeaderValue::from_maybe_shared) {
            request.headers_mut().insert(ORIGINAL_PATH, path);
        }
        Progress::note(request.extensions(), |known| taken.note(known));
        Ok((Routed::new(request, cluster, Arc::clone(&taken.policy)), taken))
    }

    /// measured on Envoy 1.40 (t4): 503, empty body, NC. But preflights are answered (interop): Envoy's CORS filter stands
    /// before its router, which is what misses the cluster.
    fn no_cluster<B>(&self, taken: &Taken<C>, request: &Request<B>) -> Refused {
        let preflight = || taken.policy.cors().and_then(|cors| cors.preflight(request.method(), request.headers()));
        self.answer(taken, || preflight().unwrap_or_else(|| Error::new(taken.policy.missing)))
    }

    /// The answer of a route that goes nowhere. Faults come first, measured on Envoy 1.40 (interop): its fault filter stands
    /// before its router. A redirect has one where it is a delegate's and the fault its root's.
    fn answer(&self, taken: &Taken<C>, answer: impl FnOnce() -> Error) -> Refused {
        let fault = taken.policy.fault().map(|fault| fault.decide(self.roll)).unwrap_or_default();
        let mut error = taken.failed(fault.abort.map_or_else(answer, Error::new));
        if fault.delay.is_some() {
            error.exchange_mut().flag(ResponseFlag::DelayInjected);
        }
        Refused { error, after: fault.delay }
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

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

fn with_query(path: &[u8], query: Option<&str>) -> Bytes {
    let mut whole = path.to_vec();
    if let Some(query) = query {
        whole.push(b'?');
        whole.extend_from_slice(query.as_bytes());
    }
    whole.into()
}

fn bad_path(error: http::Error) -> Error {
    Error::new(Reason::BadRequest("path")).with_source(error)
}

fn set_path<B>(request: &mut Request<B>, path: Bytes) -> Result<(), Error> {
    let path = PathAndQuery::from_maybe_shared(path).map_err(|error| bad_path(error.into()))?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(path);
    *request.uri_mut() = http::Uri::from_parts(parts).map_err(|error| bad_path(error.into()))?;
    Ok(())
}

/// The route that was taken.
#[derive(Debug)]
struct Taken<C> {
    /// `None` where the route answers by itself.
    cluster: Option<Arc<ClusterName>>,
    policy: Arc<RoutePolicy<C>>,
    /// The origin that may read the answer.
    grant: Option<Grant>,
}

impl<C> Taken<C> {
    fn new<B>(policy: &Arc<RoutePolicy<C>>, request: &Request<B>) -> Self {
        let grant = policy.cors().and_then(|cors| cors.grant(request.headers()));
        Self { cluster: None, policy: Arc::clone(policy), grant }
    }

    fn note(&self, exchange: &mut Exchange) {
        if let Some(cluster) = &self.cluster {
            exchange.cluster.get_or_insert_with(|| Arc::clone(cluster));
        }
        exchange.route = self.policy.name().cloned();
    }

    fn answered<B>(&self, response: &mut Response<B>) {
        self.note(Exchange::of(response));
        if let Some(ops) = &self.policy.response_headers {
            header_ops::apply(ops, response.headers_mut());
        }
        // After the operations: Envoy's CORS filter stands outside of its router.
        if let Some(grant) = &self.grant {
            grant.apply(response.headers_mut());
        }
    }

    /// What a rule says about responses, it says about replies made here. measured on Envoy 1.40: redirects, direct
    /// responses, 503, 504 and injected aborts carry the rule's headers, the answer to a preflight does not; an abort,
    /// which comes from outside of the CORS filter, says nothing about origins. And one in front of a redirect or a direct
    /// response has no rule's headers (interop): to Envoy's filters only a route that forwards has an entry.
    fn failed(&self, mut error: Error) -> Error {
        self.note(error.exchange_mut());
        let reason = error.reason();
        let abort = matches!(reason, Reason::FaultAbort(_) | Reason::FaultAbortGrpc(_));
        let told = reason != Reason::Preflight && !(abort && self.cluster.is_none());
        if let Some(ops) = self.policy.response_headers.as_ref().filter(|_| told) {
            let ops = Arc::clone(ops);
            error.edit_reply(move |headers| header_ops::apply(&ops, headers));
        }
        let outside_cors = abort || reason == Reason::RateLimited;
        if let Some(grant) = self.grant.clone().filter(|_| !outside_cors) {
            error.edit_reply(move |headers| grant.apply(headers));
        }
        error
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
