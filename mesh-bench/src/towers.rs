//! tower's P2C balance with pending requests as the load, alone and behind its Buffer.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
    time::Instant,
};

use futures_util::FutureExt as _;
use tower::{
    BoxError, Service, ServiceExt as _,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
};

use crate::table::Table;

/// An endpoint that answers at once.
#[derive(Clone, Copy, Debug)]
struct Instantly;

impl Service<()> for Instantly {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

type Balanced = Balance<ServiceList<Vec<PendingRequests<Instantly>>>, ()>;

fn balance(endpoints: usize) -> Balanced {
    let counted = |_| PendingRequests::new(Instantly, CompleteOnResponse::default());
    Balance::new(ServiceList::new((0..endpoints).map(counted).collect::<Vec<_>>()))
}

pub(crate) fn round(table: &mut Table, endpoints: usize) -> Result<(), BoxError> {
    let mut balanced = balance(endpoints);
    table.round("tower: P2C", endpoints, 20_000, || {
        let _ = black_box(async { balanced.ready().await?.call(()).await }.now_or_never());
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let nanos = runtime.block_on(async {
        let mut buffered = Buffer::new(balance(endpoints), 1024);
        const CALLS: u32 = 5_000;
        for _ in 0..CALLS / 4 {
            buffered.ready().await?.call(()).await?;
        }
        let start = Instant::now();
        for _ in 0..CALLS {
            buffered.ready().await?.call(()).await?;
        }
        Ok::<_, BoxError>(start.elapsed().as_nanos() as f64 / f64::from(CALLS))
    })?;
    table.add("tower: P2C behind Buffer", endpoints, nanos);
    Ok(())
}
