//! Pools: idle HTTP/1.1 connections and shared HTTP/2 ones, for one endpoint and one trust decision.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2;
use mesh_core::{ClusterName, EndpointAddress, clock};
use mesh_lb::{ConnectionLimits, Transport};
use mesh_tls::Alpn;
use tokio::time::Instant;

use super::{
    counted::Counted,
    h1::{H1, History},
    security::Security,
};
use crate::Body;

/// What must be equal for two requests to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) address: EndpointAddress,
    pub(crate) security: Security,
    /// Whose limits hold for the connections, where a cluster has any: those connections are its own.
    pub(crate) limits: Option<Arc<Limits>>,
    /// How its connections are made.
    pub(crate) transport: Transport,
}

/// A cluster that limits its connections, and how.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Limits {
    pub(crate) cluster: Arc<ClusterName>,
    pub(crate) limits: ConnectionLimits,
}

/// All pools of a mesh.
///
/// A pool belongs to those who use it: the endpoint whose requests go there (see `PoolSlot`), and requests in flight.
/// When they are gone its connections close. What no endpoint can hold, because the TLS name goes by each request's
/// host, is kept here, up to a number.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    state: Mutex<State>,
    generation: AtomicU64,
    clock: Arc<SweepClock>,
}

#[derive(Debug, Default)]
struct State {
    pools: HashMap<PoolKey, Weak<HostPool>>,
    kept: HashMap<PoolKey, Arc<HostPool>>,
    leaving: bool,
}

/// Time in sweeps: idleness needs no finer clock, and none is read on the way of a request.
#[derive(Debug, Default)]
struct SweepClock(AtomicU64);

/// How often connections that have been idle for too long are looked for.
pub(crate) const SWEEP: Duration = Duration::from_secs(30);
/// Envoy's default `idle_timeout` of upstream connections, one hour, in sweeps.
const IDLE_SWEEPS: u64 = 3600 / SWEEP.as_secs();
/// Pools kept for requests whose TLS name goes by their host; beyond it they are forgotten together.
const MAX_KEPT: usize = 256;

impl Pools {
    /// Changes whenever a cached choice of pool has to be made again: new config, or a new identity.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Config or identity changed.
    pub(crate) fn advance(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let mut state = self.state();
        state.kept.clear();
        state.pools.retain(|_, pool| pool.strong_count() > 0);
    }

    /// Close what has been idle for too long, and what was made with credentials of another generation.
    pub(crate) fn sweep(&self, identity: Option<u64>) {
        let now = self.clock.0.fetch_add(1, Ordering::Relaxed) + 1;
        let mut state = self.state();
        state.pools.retain(|_, pool| {
            pool.upgrade().is_some_and(|pool| {
                let stale =
                    matches!(pool.key.security, Security::Mesh { generation, .. } if Some(generation) != identity);
                pool.close_unused_since(if stale { u64::MAX } else { now.saturating_sub(IDLE_SWEEPS) });
                true
            })
        });
    }

    /// Stop keeping idle connections: the process is leaving.
    pub(crate) fn close_idle(&self) {
        let mut state = self.state();
        state.leaving = true;
        for pool in state.pools.values().filter_map(Weak::upgrade) {
            pool.close_idle();
        }
    }

    /// The pool of a key. `keep` it here when nobody else will.
    pub(crate) fn get(&self, key: PoolKey, keep: bool) -> Arc<HostPool> {
        let mut state = self.state();
        if let Some(pool) = state.pools.get(&key).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Arc::new(HostPool::new(key.clone(), Arc::clone(&self.clock)));
        if state.leaving {
            pool.close_idle();
        }
        if keep {
            if state.kept.len() >= MAX_KEPT {
                state.kept.clear();
                state.pools.retain(|_, pool| pool.strong_count() > 0);
            }
            state.kept.insert(key.clone(), Arc::clone(&pool));
        }
        state.pools.insert(key, Arc::downgrade(&pool));
        pool
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections to one endpoint under one trust decision.
#[derive(Debug)]
pub(crate) struct HostPool {
    pub(super) key: PoolKey,
    idle: Mutex<Idle>,
    h2: Mutex<Vec<Shared>>,
    clock: Arc<SweepClock>,
    /// Held while an HTTP/2 connection is being made, so that a burst makes one and shares it.
    pub(super) h2_connecting: Arc<tokio::sync::Mutex<()>>,
    /// How many streams the peer allowed on the last connection.
    allowed: Arc<AtomicUsize>,
    /// Where connections are limited: those of HTTP/1.1 and of HTTP/2, which are no use to each other's requests.
    counted: [Arc<Counted>; 2],
}

#[derive(Debug, Default)]
struct Idle {
    /// With the sweep at which each became idle; the latest last.
    connections: Vec<(H1, u64)>,
    closed: bool,
}

/// An HTTP/2 connection that many requests use.
#[derive(Clone, Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    /// Streams in use.
    streams: Arc<AtomicUsize>,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS, as the connection's task last saw it.
    limit: Arc<AtomicUsize>,
    /// The sweep at which it was last used.
    used: u64,
    history: History,
    /// Where connections are limited.
    counted: Option<Arc<Counted>>,
}

/// A connection taken from a pool, for one request.
#[derive(Debug)]
pub(super) enum Checkout {
    H1(H1),
    H2 {
        sender: http2::SendRequest<Body>,
        permit: StreamPermit,
        /// It was not made for this request.
        used: bool,
    },
}

/// A place among an HTTP/2 connection's streams.
#[derive(Debug)]
pub(super) struct StreamPermit {
    streams: Arc<AtomicUsize>,
    counted: Option<Arc<Counted>>,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::AcqRel);
        if let Some(counted) = &self.counted {
            counted.freed.notify_one();
        }
    }
}

/// RFC 9113 6.5.2: "It is recommended that this value be no smaller than 100, so as to not unnecessarily limit
/// parallelism." What a peer allows of which nothing is known.
const STREAMS: usize = 100;
/// hyper does not bound the HTTP/1.1 list; this does. More than Istio's default concurrency in practice.
const MAX_IDLE: usize = 1024;

impl HostPool {
    fn new(key: PoolKey, clock: Arc<SweepClock>) -> Self {
        Self {
            key,
            idle: Mutex::default(),
            h2: Mutex::default(),
            clock,
            h2_connecting: Arc::default(),
            allowed: Arc::new(AtomicUsize::new(STREAMS)),
            counted: Default::default(),
        }
    }

    /// Its connections of one version of HTTP, where they are limited.
    pub(super) fn counted(&self, protocol: Alpn) -> &Arc<Counted> {
        &self.counted[usize::from(protocol == Alpn::H2)]
    }

    /// Streams that a new connection may have before it has heard its peer's SETTINGS.
    pub(super) fn streams_allowed(&self) -> usize {
        self.allowed.load(Ordering::Relaxed).max(1)
    }

    /// Where a connection says what its peer allows.
    pub(super) fn allowed(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.allowed)
    }

    /// Are these the limits of its connections?
    pub(super) fn is_limited_by(&self, limits: &ConnectionLimits) -> bool {
        match &self.key.limits {
            Some(mine) => mine.limits == *limits,
            None => *limits == ConnectionLimits::default(),
        }
    }

    /// The limits and the time, where there are limits.
    fn limits(&self) -> Option<(&ConnectionLimits, Instant)> {
        self.key.limits.as_ref().map(|limits| (&limits.limits, clock::now()))
    }

    /// The history of a connection that opens now.
    pub(super) fn born(&self) -> History {
        History { opened: self.limits().map(|(_, now)| now), ..History::default() }
    }

    fn now(&self) -> u64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    /// A connection that is there already.
    pub(super) fn checkout(&self, protocol: Alpn) -> Option<Checkout> {
        match protocol {
            Alpn::H1 => {
                let limits = self.limits();
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                // The one used last: the rest may age out.
                while let Some((connection, _)) = idle.connections.pop() {
                    let young = limits.is_none_or(|(limits, now)| connection.history.may_go_on(limits, now));
                    if young && connection.sender.is_ready() {
                        return Some(Checkout::H1(connection));
                    }
                }
                None
            }
            Alpn::H2 => {
                let limits = self.limits();
                let mut shared = self.h2.lock().unwrap_or_else(PoisonError::into_inner);
                // One that is not kept here any more closes with the last of its streams.
                shared.retain(|connection| {
                    let young = limits.is_none_or(|(limits, now)| connection.history().may_go_on(limits, now));
                    young && !connection.sender.is_closed()
                });
                let now = self.now();
                shared.iter_mut().find_map(|connection| connection.take(now, limits.map(|(_, now)| now)))
            }
        }
    }

    /// A new HTTP/2 connection, to be shared from now on.
    pub(super) fn share(&self, sender: http2::SendRequest<Body>, limit: Arc<AtomicUsize>) -> Checkout {
        let history = History { carried: 1, ..self.born() };
        let counted = self.key.limits.is_some().then(|| Arc::clone(self.counted(Alpn::H2)));
        let streams = Arc::new(AtomicUsize::new(1));
        let shared = Shared { sender, streams, limit, used: self.now(), history, counted };
        let checkout = Checkout::H2 { sender: shared.sender.clone(), permit: shared.permit(), used: false };
        self.h2.lock().unwrap_or_else(PoisonError::into_inner).push(shared);
        checkout
    }

    /// Give an HTTP/1.1 connection back when its response has been read to the end.
    pub(super) fn give_back(self: Arc<Self>, mut connection: H1) {
        connection.used = true;
        connection.history.carried = connection.history.carried.saturating_add(1);
        if let Some((limits, now)) = self.limits() {
            connection.history.idle = Some(now);
            if !connection.history.may_go_on(limits, now) {
                return;
            }
        }
        self.keep_when_ready(connection);
    }

    /// A new connection whose request has gone.
    pub(super) fn welcome(self: &Arc<Self>, mut connection: H1) {
        connection.history.idle = self.limits().map(|(_, now)| now);
        Arc::clone(self).keep_when_ready(connection);
    }

    fn keep_when_ready(self: Arc<Self>, mut connection: H1) {
        if connection.sender.is_ready() {
            self.keep(connection);
        } else if !connection.sender.is_closed() {
            // The request body is still on its way, or the connection task has not come round yet.
            tokio::spawn(async move {
                if connection.sender.ready().await.is_ok() {
                    self.keep(connection);
                }
            });
        }
    }

    fn keep(&self, connection: H1) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !idle.closed && idle.connections.len() < MAX_IDLE {
            idle.connections.push((connection, self.now()));
            drop(idle);
            if self.key.limits.is_some() {
                self.counted(Alpn::H1).freed.notify_one();
            }
        }
    }

    /// Close what has not been used since that sweep. hyper closes an h2 connection when its last sender and stream are
    /// gone.
    fn close_unused_since(&self, sweep: u64) {
        let limits = self.limits();
        // Limits say themselves how long an idle connection is kept; a credential that is not used any more comes first.
        let sweep = if limits.is_some() && sweep < u64::MAX { 0 } else { sweep };
        let young = |history: History| limits.is_none_or(|(limits, now)| history.may_go_on(limits, now));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.connections.retain(|(connection, since)| {
            *since >= sweep && young(connection.history) && !connection.sender.is_closed()
        });
        let mut shared = self.h2.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|connection| {
            young(connection.history()) && (connection.used >= sweep || connection.streams.load(Ordering::Acquire) > 0)
        });
    }

    fn close_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.closed = true;
        idle.connections.clear();
        self.h2.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shared {
    /// It is idle while it has no stream.
    fn history(&self) -> History {
        let idle = self.history.idle.filter(|_| self.streams.load(Ordering::Acquire) == 0);
        History { idle, ..self.history }
    }

    fn permit(&self) -> StreamPermit {
        StreamPermit { streams: Arc::clone(&self.streams), counted: self.counted.clone() }
    }

    /// A stream, while the peer has room for one: hyper would queue beyond it.
    fn take(&mut self, now: u64, at: Option<Instant>) -> Option<Checkout> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.streams
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |streams| (streams < limit).then_some(streams + 1))
            .ok()?;
        self.used = now;
        self.history.carried = self.history.carried.saturating_add(1);
        self.history.idle = at;
        Some(Checkout::H2 { sender: self.sender.clone(), permit: self.permit(), used: true })
    }
}

#[cfg(test)]
mod tests;
