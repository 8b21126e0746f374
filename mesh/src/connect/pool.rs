//! Pools: idle HTTP/1.1 connections and shared HTTP/2 ones, for one endpoint and one trust decision.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use hyper::client::conn::{http1, http2};
use mesh_core::EndpointAddress;
use mesh_tls::Alpn;

use super::security::Security;
use crate::Body;

/// What must be equal for two requests to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) address: EndpointAddress,
    pub(crate) security: Security,
}

/// All pools of a mesh.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Mutex<HashMap<PoolKey, Arc<HostPool>>>,
    generation: AtomicU64,
    leaving: AtomicBool,
}

impl Pools {
    /// Changes whenever a cached choice of pool has to be made again: new config, or a new identity.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Config or identity changed. Pools that nobody holds any more close their idle connections.
    pub(crate) fn advance(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| Arc::strong_count(pool) > 1);
    }

    /// Stop keeping idle connections: the process is leaving.
    pub(crate) fn close_idle(&self) {
        self.leaving.store(true, Ordering::Release);
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in pools.values() {
            pool.close_idle();
        }
    }

    pub(crate) fn get(&self, key: PoolKey) -> Arc<HostPool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= MAX_UNHELD && !pools.contains_key(&key) {
            // Hosts outside the registry are whatever the application asks for: they are forgotten together.
            pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        }
        let pool = pools.entry(key).or_insert_with_key(|key| Arc::new(HostPool::new(key.clone())));
        if self.leaving.load(Ordering::Acquire) {
            pool.close_idle();
        }
        Arc::clone(pool)
    }
}

/// Connections to one endpoint under one trust decision.
#[derive(Debug)]
pub(crate) struct HostPool {
    pub(super) key: PoolKey,
    idle: Mutex<Idle>,
    h2: Mutex<Vec<Shared>>,
    /// Held while an HTTP/2 connection is being made, so that a burst makes one and shares it.
    pub(super) h2_connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<http1::SendRequest<Body>>,
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
}

/// A connection taken from a pool, for one request.
#[derive(Debug)]
pub(super) enum Checkout {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>, StreamPermit),
}

/// A place among an HTTP/2 connection's streams.
#[derive(Debug)]
pub(super) struct StreamPermit(Arc<AtomicUsize>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Pools kept beside those that endpoints of the registry hold, roughly.
const MAX_UNHELD: usize = 1024;

/// hyper does not bound the HTTP/1.1 list; this does. More than Istio's default concurrency in practice.
const MAX_IDLE: usize = 1024;

impl HostPool {
    fn new(key: PoolKey) -> Self {
        Self { key, idle: Mutex::default(), h2: Mutex::default(), h2_connecting: tokio::sync::Mutex::new(()) }
    }

    /// A connection that is there already.
    pub(super) fn checkout(&self, protocol: Alpn) -> Option<Checkout> {
        match protocol {
            Alpn::H1 => {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                // The one used last: the rest may age out.
                while let Some(connection) = idle.connections.pop() {
                    if connection.is_ready() {
                        return Some(Checkout::H1(connection));
                    }
                }
                None
            }
            Alpn::H2 => {
                let mut shared = self.h2.lock().unwrap_or_else(PoisonError::into_inner);
                shared.retain(|connection| !connection.sender.is_closed());
                shared.iter().find_map(Shared::take)
            }
        }
    }

    /// A new HTTP/2 connection, to be shared from now on.
    pub(super) fn share(&self, sender: http2::SendRequest<Body>, limit: Arc<AtomicUsize>) -> Checkout {
        let shared = Shared { sender, streams: Arc::new(AtomicUsize::new(1)), limit };
        let checkout = Checkout::H2(shared.sender.clone(), StreamPermit(Arc::clone(&shared.streams)));
        self.h2.lock().unwrap_or_else(PoisonError::into_inner).push(shared);
        checkout
    }

    /// Give an HTTP/1.1 connection back when its response has been read to the end.
    pub(super) fn give_back(self: Arc<Self>, mut connection: http1::SendRequest<Body>) {
        if connection.is_ready() {
            self.keep(connection);
        } else if !connection.is_closed() {
            // The request body is still on its way, or the connection task has not come round yet.
            tokio::spawn(async move {
                if connection.ready().await.is_ok() {
                    self.keep(connection);
                }
            });
        }
    }

    fn keep(&self, connection: http1::SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !idle.closed && idle.connections.len() < MAX_IDLE {
            idle.connections.push(connection);
        }
    }

    fn close_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.closed = true;
        idle.connections.clear();
        // hyper closes an h2 connection when its last sender and stream are gone.
        self.h2.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shared {
    /// A stream, while the peer has room for one: hyper would queue beyond it.
    fn take(&self) -> Option<Checkout> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.streams
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |streams| (streams < limit).then_some(streams + 1))
            .ok()?;
        Some(Checkout::H2(self.sender.clone(), StreamPermit(Arc::clone(&self.streams))))
    }
}
