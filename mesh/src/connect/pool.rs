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
use mesh_core::EndpointAddress;
use mesh_tls::Alpn;

use super::{h1::H1, security::Security};
use crate::Body;

/// What must be equal for two requests to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) address: EndpointAddress,
    pub(crate) security: Security,
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
    pub(super) h2_connecting: tokio::sync::Mutex<()>,
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
pub(super) struct StreamPermit(Arc<AtomicUsize>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// hyper does not bound the HTTP/1.1 list; this does. More than Istio's default concurrency in practice.
const MAX_IDLE: usize = 1024;

impl HostPool {
    fn new(key: PoolKey, clock: Arc<SweepClock>) -> Self {
        Self { key, idle: Mutex::default(), h2: Mutex::default(), clock, h2_connecting: tokio::sync::Mutex::new(()) }
    }

    fn now(&self) -> u64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    /// A connection that is there already.
    pub(super) fn checkout(&self, protocol: Alpn) -> Option<Checkout> {
        match protocol {
            Alpn::H1 => {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                // The one used last: the rest may age out.
                while let Some((connection, _)) = idle.connections.pop() {
                    if connection.sender.is_ready() {
                        return Some(Checkout::H1(connection));
                    }
                }
                None
            }
            Alpn::H2 => {
                let mut shared = self.h2.lock().unwrap_or_else(PoisonError::into_inner);
                shared.retain(|connection| !connection.sender.is_closed());
                let now = self.now();
                shared.iter_mut().find_map(|connection| connection.take(now))
            }
        }
    }

    /// A new HTTP/2 connection, to be shared from now on.
    pub(super) fn share(&self, sender: http2::SendRequest<Body>, limit: Arc<AtomicUsize>) -> Checkout {
        let shared = Shared { sender, streams: Arc::new(AtomicUsize::new(1)), limit, used: self.now() };
        let checkout = Checkout::H2 {
            sender: shared.sender.clone(),
            permit: StreamPermit(Arc::clone(&shared.streams)),
            used: false,
        };
        self.h2.lock().unwrap_or_else(PoisonError::into_inner).push(shared);
        checkout
    }

    /// Give an HTTP/1.1 connection back when its response has been read to the end.
    pub(super) fn give_back(self: Arc<Self>, mut connection: H1) {
        connection.used = true;
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
        }
    }

    /// Close what has not been used since that sweep. hyper closes an h2 connection when its last sender and stream are
    /// gone.
    fn close_unused_since(&self, sweep: u64) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.connections.retain(|(connection, since)| *since >= sweep && !connection.sender.is_closed());
        let mut shared = self.h2.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|connection| connection.used >= sweep || connection.streams.load(Ordering::Acquire) > 0);
    }

    fn close_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.closed = true;
        idle.connections.clear();
        self.h2.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shared {
    /// A stream, while the peer has room for one: hyper would queue beyond it.
    fn take(&mut self, now: u64) -> Option<Checkout> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.streams
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |streams| (streams < limit).then_some(streams + 1))
            .ok()?;
        self.used = now;
        Some(Checkout::H2 { sender: self.sender.clone(), permit: StreamPermit(Arc::clone(&self.streams)), used: true })
    }
}

#[cfg(test)]
mod tests;
