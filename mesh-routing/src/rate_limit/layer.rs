//! The shell: asks, then passes on or refuses.

use std::{
    borrow::Cow,
    error, fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwap;
use http::{Extensions, Request};
use mesh_core::{BoxError, ClusterHandle, Connection, Error, HostPattern, Reason, Routed, clock};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{RateLimits, Side};
use crate::RequestHead;

/// Refuses requests that go beyond the [limits](RateLimits) in force, with [`Reason::RateLimited`]. There is no state
/// in it: limits bring their buckets along, so services made by several calls of `layer` share them.
///
/// Inbound it stands inside authorization, so that a caller who may not ask takes nobody's tokens. Outbound it stands
/// between the router and the fault injection, on a [`Routed`] request; alone, on any `http::Request`, whose
/// destination is then its own host.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use arc_swap::ArcSwap;
/// use http::{Request, Response};
/// use mesh_core::LocalReplyLayer;
/// use mesh_routing::{KeyBy, RateLimit, RateLimitLayer, RateLimits, TokenBucket};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// let all = TokenBucket::new(1000, 1000, Duration::from_secs(1)).unwrap();
/// let each = TokenBucket::new(1, 1, Duration::from_secs(60)).unwrap();
/// let limits = RateLimits::default()
///     .with_inbound(RateLimit::new(all))
///     .with_inbound(RateLimit::keyed(each, KeyBy::header(http::HeaderName::from_static("x-user"))));
///
/// let service = ServiceBuilder::new()
///     .layer(LocalReplyLayer)
///     .layer(RateLimitLayer::inbound(Arc::new(ArcSwap::from_pointee(limits))))
///     .service(service_fn(async |_: Request<String>| Ok::<_, mesh_core::Error>(Response::new(String::new()))));
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let request = |user| Request::get("/").header("x-user", user).body(String::new()).unwrap();
/// assert_eq!(service.clone().oneshot(request("jason")).await.unwrap().status(), 200);
/// assert_eq!(service.clone().oneshot(request("jason")).await.unwrap().status(), 429);
/// assert_eq!(service.oneshot(request("jane")).await.unwrap().status(), 200);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    limits: Arc<ArcSwap<RateLimits>>,
    side: Side,
}

impl RateLimitLayer {
    /// By the inbound limits that `limits` holds when a request arrives.
    #[must_use]
    pub fn inbound(limits: Arc<ArcSwap<RateLimits>>) -> Self {
        Self { limits, side: Side::Inbound }
    }

    /// By the outbound limits.
    #[must_use]
    pub fn outbound(limits: Arc<ArcSwap<RateLimits>>) -> Self {
        Self { limits, side: Side::Outbound }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimited<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimited { layer: self.clone(), inner }
    }
}

/// The service of [`RateLimitLayer`].
#[derive(Clone, Debug)]
pub struct RateLimited<S> {
    layer: RateLimitLayer,
    inner: S,
}

/// What can be limited: a request, routed or not.
pub trait Limitable: sealed::Sealed {}

mod sealed {
    pub trait Sealed {
        type Body;
        fn request(&self) -> &http::Request<Self::Body>;
        /// The service it was routed to, where it is one of the mesh's, and its port.
        fn service(&self) -> Option<(&str, u16)>;
    }
}

impl<B> Limitable for Request<B> {}

impl<B> sealed::Sealed for Request<B> {
    type Body = B;

    fn request(&self) -> &Self {
        self
    }

    fn service(&self) -> Option<(&str, u16)> {
        None
    }
}

impl<B, C: ClusterHandle, P> Limitable for Routed<Request<B>, C, P> {}

impl<B, C: ClusterHandle, P> sealed::Sealed for Routed<Request<B>, C, P> {
    type Body = B;

    fn request(&self) -> &Request<B> {
        &self.request
    }

    fn service(&self) -> Option<(&str, u16)> {
        let name = self.cluster.name();
        (!name.is_passthrough()).then_some((&*name.service.host, name.port))
    }
}

/// What limits look at.
pub(super) struct Asked<'a> {
    pub(super) head: RequestHead<'a>,
    pub(super) extensions: &'a Extensions,
    /// Where it goes.
    pub(super) host: &'a str,
}

impl<'a> Asked<'a> {
    /// The path is in the form that the router or the canonicalisation gave it.
    pub(super) fn new<R: Limitable>(limited: &'a R, side: Side) -> Self {
        let request = limited.request();
        let mut head = RequestHead::as_is(request);
        // The workload's port, and not one that the caller names.
        if side == Side::Inbound
            && let Some(connection) = request.extensions().get::<Connection>()
        {
            head.port = connection.local.port();
        }
        let host = match limited.service() {
            // Host and port are of the same service: what was dialled, or a rewrite made of it, is no way around.
            Some((host, port)) => {
                head.port = port;
                host
            }
            None => head.host(),
        };
        Self { head, extensions: request.extensions(), host }
    }

    /// Is it for one of these hosts?
    ///
    /// RFC 9110 4.2.3: "The scheme and host are case-insensitive": a caller's spelling is no way around a limit.
    pub(super) fn is_for(&self, hosts: &[HostPattern]) -> bool {
        let host = match self.host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(self.host.to_ascii_lowercase()),
            false => Cow::Borrowed(self.host),
        };
        hosts.iter().any(|pattern| pattern.matches(&host))
    }
}

impl<R, S> Service<R> for RateLimited<S>
where
    R: Limitable,
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = RateLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::from_box(error.into()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let RateLimitLayer { limits, side } = &self.layer;
        let refused = limits.load().admit(*side, &request, clock::now).err().map(|limit| {
            let by = limit.name();
            Error::new(Reason::RateLimited).with_source(OverLimit { by })
        });
        let state = match refused {
            Some(error) => State::Refused { error: Some(error) },
            None => State::Call { future: self.inner.call(request) },
        };
        RateLimitFuture { state }
    }
}

/// The cause below a refusal, for logs: which limit. The caller is not told.
#[derive(Debug)]
struct OverLimit {
    by: String,
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "over the limit {}", self.by)
    }
}

impl error::Error for OverLimit {}

pin_project! {
    /// The future of [`RateLimited`].
    #[derive(Debug)]
    pub struct RateLimitFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Call { #[pin] future: F },
        Refused { error: Option<Error> },
    }
}

impl<F, T, E> Future for RateLimitFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProj::Call { future } => ready!(future.poll(cx)).map_err(|error| Error::from_box(error.into())),
            StateProj::Refused { error } => Err(error.take().expect("polled after completion")),
        })
    }
}
