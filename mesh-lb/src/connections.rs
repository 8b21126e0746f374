//! What `connectionPool` says about connections: how many, how old, and how many requests may wait for one.
//!
//! The counts are a cluster's and survive changes of configuration. Whoever makes connections asks for a [place](ConnectionPlace)
//! for each and keeps it as long as the connection is open; a request that finds no connection asks for a
//! [place in the queue](PendingPlace).

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// `connectionPool`, what it says about connections. Defaults are Istio's: no limits, an hour of idleness.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// `tcp.maxConnections`, to all endpoints of the cluster together. Default unlimited (2^32 - 1).
    pub max_connections: u32,
    /// `http.http1MaxPendingRequests`: requests that wait for a connection, of either version of HTTP. Default unlimited.
    pub max_pending: u32,
    /// `http.maxRequestsPerConnection`; 1 turns keep-alive off. Default unlimited.
    pub max_requests: Option<NonZeroU32>,
    /// `http.idleTimeout`, else `tcp.idleTimeout`. Default 1 h; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `tcp.maxConnectionDuration`: from then on a connection takes no request. Default never.
    pub max_duration: Option<Duration>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            max_pending: u32::MAX,
            max_requests: None,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_duration: None,
        }
    }
}

impl ConnectionLimits {
    /// Can a request have to wait until a connection comes free?
    pub(crate) fn has_queue(&self) -> bool {
        self.max_connections < u32::MAX
    }

    /// May a connection that carried so many requests, is so old and has been idle for so long take another request?
    ///
    /// ```
    /// use std::time::Duration;
    /// let mut limits = mesh_lb::ConnectionLimits::default();
    /// limits.max_requests = std::num::NonZeroU32::new(1);
    /// let (age, idle) = (Duration::from_secs(9), Duration::ZERO);
    /// assert!(limits.may_carry(0, age, idle));
    /// assert!(!limits.may_carry(1, age, idle));
    /// ```
    #[must_use]
    pub fn may_carry(&self, carried: u32, age: Duration, idle: Duration) -> bool {
        self.max_requests.is_none_or(|max| carried < max.get())
            && self.max_duration.is_none_or(|max| age < max)
            && self.idle_timeout.is_none_or(|max| idle < max)
    }
}

/// A cluster's counts.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: AtomicU32,
    pending: AtomicU32,
    closed: Notify,
}

/// A place among a cluster's connections, until it is dropped.
#[derive(Debug)]
pub struct ConnectionPlace(Arc<Connections>);

/// A place among the requests that wait for a connection, until it is dropped.
#[derive(Debug)]
pub struct PendingPlace(Arc<Connections>);

/// Says whether a request waits for a connection to come free: as long as it does, its endpoint has nothing to answer for.
///
/// envoy Router::Filter::updateOutlierDetection: a request that has no connection yet has no host, and its timeout is
/// counted against none.
#[derive(Clone, Debug, Default)]
pub struct Queued(Arc<AtomicBool>);

impl Queued {
    /// It waits, or no longer.
    pub fn set(&self, waits: bool) {
        self.0.store(waits, Ordering::Release);
    }

    pub(crate) fn waits(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Connections {
    /// envoy ConnPoolImplBase::tryCreateNewConnection: an endpoint without any connection gets one past the limit, "to
    /// prevent pending streams being queued to this upstream with no way to be processed".
    pub(crate) fn open(self: &Arc<Self>, limits: &ConnectionLimits, first: bool) -> Option<ConnectionPlace> {
        let max = if first { u32::MAX } else { limits.max_connections };
        take(&self.open, max).then(|| ConnectionPlace(Arc::clone(self)))
    }

    pub(crate) fn wait(self: &Arc<Self>, limits: &ConnectionLimits) -> Option<PendingPlace> {
        take(&self.pending, limits.max_pending).then(|| PendingPlace(Arc::clone(self)))
    }

    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.open.load(Ordering::Relaxed), self.pending.load(Ordering::Relaxed))
    }

    /// Ready when a connection closes after this was called.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send {
        self.closed.notified()
    }
}

fn take(count: &AtomicU32, max: u32) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1)).is_ok()
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_waiters();
    }
}

impl Drop for PendingPlace {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// istio.md 1.4: "connectionPool.tcp.maxConnections | 2^32-1"
    #[test]
    fn places_are_given_back() {
        let (counts, limits) = (
            Arc::new(Connections::default()),
            ConnectionLimits { max_connections: 1, max_pending: 1, ..Default::default() },
        );
        let first = counts.open(&limits, false).unwrap();
        assert!(counts.open(&limits, false).is_none());
        let past = counts.open(&limits, true).expect("an endpoint's first is always given");
        drop(first);
        assert!(counts.open(&limits, false).is_none(), "the other one is still open");
        drop(past);
        assert!(counts.open(&limits, false).is_some());
        let waiting = counts.wait(&limits).unwrap();
        assert!(counts.wait(&limits).is_none());
        drop(waiting);
        assert!(counts.wait(&limits).is_some());
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_connection_that_closes_before_it_is_asked() {
        let counts = Arc::new(Connections::default());
        let place = counts.open(&ConnectionLimits::default(), false).unwrap();
        let closed = counts.closed();
        drop(place);
        closed.await;
    }

    #[test]
    fn age_and_idleness() {
        let second = Duration::from_secs;
        let limits =
            ConnectionLimits { max_duration: Some(second(10)), idle_timeout: Some(second(2)), ..Default::default() };
        for (carried, age, idle, expected) in [(0, 0, 0, true), (99, 9, 1, true), (0, 10, 0, false), (0, 5, 2, false)] {
            assert_eq!(limits.may_carry(carried, second(age), second(idle)), expected);
        }
        let never = ConnectionLimits { idle_timeout: None, ..Default::default() };
        assert!(never.may_carry(u32::MAX, second(1 << 30), second(1 << 30)));
    }
}
