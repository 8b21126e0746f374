//! Pingora's load balancer: round robin over the healthy ones. It counts no requests in flight.

use std::{
    collections::{BTreeSet, HashMap},
    hint::black_box,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use pingora_load_balancing::{Backend, Backends, LoadBalancer, discovery::ServiceDiscovery, selection::RoundRobin};

use crate::table::Table;

/// A set that changes.
struct Changing(Arc<Mutex<BTreeSet<Backend>>>);

#[async_trait]
impl ServiceDiscovery for Changing {
    async fn discover(&self) -> pingora_core::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.0.lock().unwrap_or_else(PoisonError::into_inner).clone(), HashMap::new()))
    }
}

pub(crate) fn round(table: &mut Table, endpoints: usize) -> Result<(), tower::BoxError> {
    let address = |n: usize| format!("10.{}.{}.{}:8080", n / 62_500, n / 250 % 250, n % 250 + 1);
    let all: BTreeSet<Backend> = (0..endpoints).map(|n| Backend::new(&address(n))).collect::<Result<_, _>>()?;
    let known = Arc::new(Mutex::new(all));
    let balancer = LoadBalancer::<RoundRobin>::from_backends(Backends::new(Box::new(Changing(Arc::clone(&known)))));
    let update = || balancer.update().now_or_never();
    update().ok_or("an update that waits")??;
    table.round("pingora: round robin", endpoints, 20_000, || {
        black_box(balancer.select(b"", 16));
    });
    let last = Backend::new(&address(endpoints - 1))?;
    let times = if endpoints > 1_000 { 5 } else { 50 };
    table.round("pingora: round robin: one goes and comes back", endpoints, times, || {
        known.lock().unwrap_or_else(PoisonError::into_inner).remove(&last);
        let _ = black_box(update());
        known.lock().unwrap_or_else(PoisonError::into_inner).insert(last.clone());
        let _ = black_box(update());
    });
    Ok(())
}
