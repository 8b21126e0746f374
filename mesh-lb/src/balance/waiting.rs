use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use mesh_core::{Attempt, BoxError, Error, clock};
use pin_project_lite::pin_project;
use tokio::{
    sync::futures::OwnedNotified,
    time::{Sleep, sleep_until},
};
use tower_service::Service;

use super::{Balance, Picked, future::Attempted, no_endpoint};
use crate::Cluster;

pin_project! {
    /// A request whose cluster has no endpoint yet, because a source of them has not answered: the first requests to a
    /// service wait, rather than fail because they are the first.
    ///
    /// It waits until an endpoint is known or every source has answered, at most for the cluster's connect timeout, counted
    /// from the first request: then 503 `UH`.
    pub struct Waiting<S, B> {
        #[pin]
        news: Option<OwnedNotified>,
        #[pin]
        sleep: Sleep,
        balance: Balance<S>,
        held: Option<Held<B>>,
    }
}

struct Held<B> {
    request: Request<B>,
    cluster: Cluster,
    attempt: Attempt,
}

impl<S, B> fmt::Debug for Waiting<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = self.held.as_ref().map(|held| &held.cluster);
        f.debug_struct("Waiting").field("cluster", &cluster).finish_non_exhaustive()
    }
}

impl<S, B> Waiting<S, B> {
    pub(super) fn new(balance: Balance<S>, request: Request<B>, cluster: Cluster, attempt: Attempt) -> Self {
        let now = clock::now();
        let until = cluster.awaited_until(now).unwrap_or(now);
        let held = Some(Held { request, cluster, attempt });
        Self { news: None, sleep: sleep_until(until), balance, held }
    }
}

impl<S, B, RB> Future for Waiting<S, B>
where
    S: Service<Picked<Request<B>>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<(S::Future, Attempted), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        ready!(this.balance.inner.poll_ready(cx)).map_err(|error| Error::from_box(error.into()))?;
        loop {
            let held = this.held.as_ref().expect("a future is not polled after it was ready");
            // Listening begins before looking: what comes in between is heard.
            if this.news.is_none() {
                this.news.set(held.cluster.news());
            }
            // Before looking too: with the last answer there may be endpoints.
            let over = this.sleep.as_mut().poll(cx).is_ready() || held.cluster.awaited_until(clock::now()).is_none();
            let chosen = this.balance.choose(&held.request, &held.cluster, &held.attempt);
            if chosen.is_some() || over {
                let held = this.held.take().expect("it was there a moment ago");
                return Poll::Ready(match chosen {
                    Some(chosen) => this.balance.send(chosen, held.request, held.cluster, &held.attempt),
                    None => Err(no_endpoint(&held.cluster)),
                });
            }
            match this.news.as_mut().as_pin_mut() {
                Some(news) => ready!(news.poll(cx)),
                None => return Poll::Pending,
            }
            this.news.set(None);
        }
    }
}
