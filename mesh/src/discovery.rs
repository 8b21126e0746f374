//! Follows sources of endpoints for the services that requests want.
//!
//! What a source says and when it is asked is decided elsewhere ([`mesh_core::discover`], [`mesh_lb::Clusters`]). A task for
//! each service carries it from the one to the other, without a timer in between: a change is in effect for the next pick.

use std::{sync::Arc, task::Poll, time::Duration};

use mesh_core::{
    clock,
    discover::{Discover, IDLE, Interest, Subscription, Update, Updates, Wanted},
};
use mesh_lb::{Clusters, Origin, SubsetClient, Want, Wants};
use tokio::task::JoinSet;

/// Where endpoints come from, beside the registry.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    /// In the order of precedence.
    given: Vec<Arc<dyn Discover>>,
    /// Looks up the names among the registry's endpoints.
    names: Option<Arc<dyn Discover>>,
    idle: Duration,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { given: Vec::new(), names: None, idle: IDLE }
    }
}

impl Discovery {
    /// Another source, below those that were given before.
    pub(crate) fn push(&mut self, source: impl Discover) {
        self.given.push(Arc::new(source));
    }

    /// Who looks up names.
    pub(crate) fn set_names(&mut self, source: impl Discover) {
        self.names = Some(Arc::new(source));
    }

    /// So long after its last use a service is followed.
    pub(crate) fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
    }

    /// Clusters whose endpoints come from these sources too, and who wants them.
    pub(crate) fn clusters(&self, client: SubsetClient) -> (Clusters, Wants) {
        Clusters::discovering(client, self.given.len(), self.names.is_some())
    }

    /// Follow what is wanted, until the mesh ends it.
    pub(crate) async fn run(self, clusters: Clusters, mut wants: Wants) {
        let mut following = JoinSet::new();
        loop {
            tokio::select! {
                want = wants.next() => match want {
                    Some(want) => drop(following.spawn(self.clone().follow(clusters.clone(), want))),
                    None => return,
                },
                Some(ended) = following.join_next() => if let Err(error) = ended {
                    tracing::error!(target: "mesh::discovery", %error, "a source failed: what it said stays");
                },
            }
        }
    }

    /// One service, from its first use until it is idle or gone.
    async fn follow(self, clusters: Clusters, want: Want) {
        let Some(mut wanted) = clusters.wanted(&want) else { return };
        let _guard = Guard(Arc::clone(&want.interest));
        let (host, port) = want.service();
        tracing::debug!(target: "mesh::discovery", host, port, "followed");
        let mut streams = Streams::new(self.sources());
        let mut subscription = Subscription::new(streams.len(), self.idle, clock::now());
        loop {
            while let Some(source) = subscription.due(clock::now()) {
                streams.subscribe(source, &wanted);
            }
            tokio::select! {
                (source, update) = streams.next() => match update {
                    Some(update) => {
                        clusters.tell(&want, streams.origin(source), update);
                        if subscription.heard(source) {
                            want.interest.answered();
                        }
                    }
                    None => {
                        tracing::warn!(target: "mesh::discovery", host, port, source = ?streams.source(source),
                            "source lost: what it said stays, and it is asked again");
                        subscription.lost(source, rand::random(), clock::now());
                    }
                },
                () = want.interest.asked_otherwise() => {
                    let Some(now) = clusters.wanted(&want) else { return };
                    wanted = now;
                    subscription.ask_otherwise(clock::now());
                }
                () = tokio::time::sleep_until(subscription.next()) => {
                    let now = clock::now();
                    if subscription.looks(now)
                        && subscription.looked(want.interest.look(), now)
                        && want.interest.end()
                    {
                        tracing::debug!(target: "mesh::discovery", host, port, "idle: followed no more");
                        return;
                    }
                }
            }
        }
    }

    fn sources(&self) -> Vec<(Origin, Arc<dyn Discover>)> {
        let given = self.given.iter().enumerate().map(|(index, source)| (Origin::Given(index), Arc::clone(source)));
        given.chain(self.names.iter().map(|source| (Origin::Names, Arc::clone(source)))).collect()
    }
}

/// A source that panics takes down what follows its service, but not for good.
struct Guard(Arc<Interest>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandoned();
        }
    }
}

/// What the sources of one service say.
struct Streams {
    sources: Vec<(Origin, Arc<dyn Discover>)>,
    streams: Vec<Option<Updates>>,
    /// Who is heard first next time: none keeps the others from being heard.
    first: usize,
}

impl Streams {
    fn new(sources: Vec<(Origin, Arc<dyn Discover>)>) -> Self {
        Self { streams: sources.iter().map(|_| None).collect(), sources, first: 0 }
    }

    fn len(&self) -> usize {
        self.sources.len()
    }

    fn origin(&self, source: usize) -> Origin {
        self.sources[source].0
    }

    fn source(&self, source: usize) -> &dyn Discover {
        &*self.sources[source].1
    }

    fn subscribe(&mut self, source: usize, wanted: &Wanted) {
        // The new one before the old one ends: what they share goes on.
        let stream = self.sources[source].1.subscribe(wanted);
        self.streams[source] = Some(stream);
    }

    /// What a source says next, or that it has been lost.
    async fn next(&mut self) -> (usize, Option<Update>) {
        std::future::poll_fn(|cx| {
            let count = self.streams.len();
            for index in (self.first..count).chain(0..self.first) {
                let Some(stream) = &mut self.streams[index] else { continue };
                if let Poll::Ready(update) = stream.as_mut().poll_next(cx) {
                    if update.is_none() {
                        self.streams[index] = None;
                    }
                    self.first = (index + 1) % count;
                    return Poll::Ready((index, update));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests;
