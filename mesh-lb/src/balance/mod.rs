//! The layer that turns a routed request into one with an endpoint.
//!
//! It is thin: [`Cluster`] decides. What it adds is bookkeeping that cannot be forgotten. A request counts as in
//! flight from the pick until its response body ends, is dropped, or the call is given up; a failure is
//! recorded against the endpoint whichever of these comes first.

mod affinity;
mod body;
mod future;
mod in_flight;
mod upgraded;
mod waiting;

use std::{
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use mesh_core::{Attempt, BoxError, Deadline, Error, Progress, Reason, Routed, clock};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use self::{affinity::Affinity, future::Attempted};
pub use self::{body::InFlightBody, future::ResponseFuture, in_flight::InFlight, upgraded::Upgraded, waiting::Waiting};
use crate::{Cluster, ConsistentHash, Member, Queued, SourceIp, random::Source};

/// A request and the endpoint chosen for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Picked<R> {
    /// The request.
    pub request: R,
    /// The member it goes to.
    pub member: Arc<Member>,
    /// The cluster it was chosen from.
    pub cluster: Cluster,
    /// Where connections are limited, whoever makes them says here while the request waits for one.
    pub queued: Option<Queued>,
}

impl<R> Picked<R> {
    /// A request with its endpoint.
    pub fn new(request: R, member: Arc<Member>, cluster: Cluster) -> Self {
        Self { request, member, cluster, queued: None }
    }

    /// The same choice for another form of the request.
    pub fn map_request<T>(self, map: impl FnOnce(R) -> T) -> Picked<T> {
        Picked { request: map(self.request), member: self.member, cluster: self.cluster, queued: self.queued }
    }
}

/// Chooses an endpoint of the routed cluster for every request.
///
/// There is no state in the layer: it is in the cluster that the request brings along, so services made by
/// several calls of `layer` share it.
#[derive(Clone, Debug)]
pub struct BalanceLayer {
    random: Source,
    /// The hash of this process as the source of requests.
    source: Option<u64>,
}

impl Default for BalanceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl BalanceLayer {
    /// With the thread's random generator.
    #[must_use]
    pub fn new() -> Self {
        Self { random: Source::Thread, source: None }
    }

    /// With choices that can be replayed: the same seed and the same order of requests choose the same.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { random: Source::seeded(seed), source: Some(seed) }
    }

    /// With the address that requests come from which carry no [`SourceIp`]: this pod's, for `useSourceIp` to choose
    /// what the pod's sidecar would.
    #[must_use]
    pub fn with_source_ip(mut self, ip: IpAddr) -> Self {
        self.source = Some(SourceIp(ip).hash());
        self
    }
}

impl<S> Layer<S> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Balance { random: self.random.clone(), source: self.source, inner }
    }
}

/// The service of [`BalanceLayer`].
#[derive(Clone, Debug)]
pub struct Balance<S> {
    random: Source,
    source: Option<u64>,
    inner: S,
}

impl<B, P, S, RB> Service<Routed<Request<B>, Cluster, P>> for Balance<S>
where
    S: Service<Picked<Request<B>>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    RB: http_body::Body,
{
    type Response = Response<InFlightBody<RB>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, Waiting<S, B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::from_box(error.into()))
    }

    fn call(&mut self, routed: Routed<Request<B>, Cluster, P>) -> Self::Future {
        let Routed { request, cluster, attempt, .. } = routed;
        let Some(chosen) = self.choose(&request, &cluster, &attempt) else {
            return match cluster.is_discovered() {
                false => ResponseFuture::refused(no_endpoint(&cluster)),
                true => ResponseFuture::waiting(Waiting::new(self.clone(), request, cluster, attempt)),
            };
        };
        match self.send(chosen, request, cluster, &attempt) {
            Ok((future, attempted)) => ResponseFuture::called(future, attempted),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

/// Where a request goes.
struct Chosen {
    member: Arc<Member>,
    /// What makes the caller's next one find the same.
    affinity: Affinity,
    now: Instant,
}

fn no_endpoint(cluster: &Cluster) -> Error {
    Error::new(Reason::NoHealthyUpstream).with_cluster(cluster.name())
}

impl<S> Balance<S> {
    /// A member for a request; `None` when there is nobody.
    fn choose<B>(&self, request: &Request<B>, cluster: &Cluster, attempt: &Attempt) -> Option<Chosen> {
        let now = clock::now();
        if cluster.is_passthrough() {
            let member = cluster.member_of(request.uri(), request.headers())?;
            return Some(Chosen { member, affinity: Affinity::default(), now });
        }
        let mut affinity = Affinity::default();
        let mut rng = self.random.rng();
        let key = cluster.policy().load_balancer.consistent_hash().and_then(ConsistentHash::key);
        if let Some(key) = key {
            affinity = Affinity::of(key, request, self.source, &mut rng);
        }
        // istio retry.go ConvertPolicy: "When Consistent Hashing is enabled, we don't want to use other hosts
        // during retries", unless the route says so.
        let tried = if key.is_none() || attempt.insists { &attempt.tried[..] } else { &[] };
        let member = cluster.pick_leaving(affinity.hash, now, &mut rng, tried, &attempt.leaving)?;
        Some(Chosen { member, affinity, now })
    }

    /// On its way, and in flight from here on.
    fn send<B>(
        &mut self,
        Chosen { member, affinity, now }: Chosen,
        request: Request<B>,
        cluster: Cluster,
        attempt: &Attempt,
    ) -> Result<(S::Future, Attempted), Error>
    where
        S: Service<Picked<Request<B>>>,
    {
        let Some(in_flight) = InFlight::enter(&cluster, &member) else {
            let mut error = Error::new(Reason::Overflow).with_cluster(cluster.name());
            error.exchange_mut().endpoint = Some(Arc::clone(member.endpoint()));
            return Err(error);
        };
        let in_flight = in_flight.sent_at(now);
        Progress::note(request.extensions(), |known| {
            known.endpoint = Some(Arc::clone(member.endpoint()));
            known.mutual_tls = false;
            known.attempts = attempt.number + 1;
        });
        let deadline = request.extensions().get::<Deadline>().copied();
        let queued = cluster.connection_limits().has_queue().then(Queued::default);
        let attempted = Attempted::new(in_flight, deadline, queued.clone(), affinity.set_cookie);
        Ok((self.inner.call(Picked { request, member, cluster, queued }), attempted))
    }
}

#[cfg(test)]
mod tests;
