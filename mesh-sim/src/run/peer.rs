//! tower's balancer in the same harness.
//!
//! tower is asked as its documentation says: `poll_ready`, then `call`, and the future is polled when there is a response
//! or dropped when the client gives up. The services that it balances are always ready. It reads tokio's clock, which
//! the simulation holds and moves.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use tower::{
    Service,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwma},
    util::rng::Rng,
};

use super::End;

type Balanced = Balance<ServiceList<Vec<PeakEwma<Asked>>>, ()>;

pub(super) struct Peer {
    balance: Balanced,
    chosen: Rc<Cell<Option<Chosen>>>,
}

struct Chosen {
    server: usize,
    answer: Rc<Cell<Option<End>>>,
}

/// A server, as a service.
struct Asked {
    server: usize,
    chosen: Rc<Cell<Option<Chosen>>>,
}

/// Ready when the simulation says so.
struct Answer(Rc<Cell<Option<End>>>);

pub(super) struct Call {
    future: Pin<Box<<Balanced as Service<()>>::Future>>,
    answer: Rc<Cell<Option<End>>>,
}

struct Seeded(Xoshiro256PlusPlus);

impl Rng for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

impl Service<()> for Asked {
    type Response = End;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Answer {
        let answer = Rc::new(Cell::new(None));
        self.chosen.set(Some(Chosen { server: self.server, answer: Rc::clone(&answer) }));
        Answer(answer)
    }
}

impl Future for Answer {
    type Output = Result<End, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.get().map_or(Poll::Pending, |end| Poll::Ready(Ok(end)))
    }
}

impl Peer {
    pub(super) fn new(servers: Vec<usize>, default_rtt: Duration, decay: Duration, seed: u64) -> Self {
        let chosen = Rc::new(Cell::new(None));
        let asked = |server| Asked { server, chosen: Rc::clone(&chosen) };
        // tower takes nanoseconds here.
        let decay = decay.as_nanos() as f64;
        let load = |server| PeakEwma::new(asked(server), default_rtt, decay, CompleteOnResponse::default());
        let services = ServiceList::new(servers.into_iter().map(load).collect::<Vec<_>>());
        let balance = Balance::from_rng(services, Seeded(Xoshiro256PlusPlus::seed_from_u64(seed)));
        Self { balance, chosen }
    }

    pub(super) fn call(&mut self) -> (Call, usize) {
        let mut context = Context::from_waker(Waker::noop());
        let ready = self.balance.poll_ready(&mut context);
        assert!(matches!(ready, Poll::Ready(Ok(()))), "its services are always ready");
        let future = Box::pin(self.balance.call(()));
        let Chosen { server, answer } = self.chosen.take().expect("a call reaches one of the services");
        (Call { future, answer }, server)
    }
}

impl Call {
    /// The response has come, or nobody waits for it any more.
    pub(super) fn end(mut self, end: End) {
        if end != End::GivenUp {
            self.answer.set(Some(end));
            let polled = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_ready(), "it was answered");
        }
    }
}
