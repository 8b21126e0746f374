//! One run: arrivals, choices, service, ends.

mod client;
mod peer;
mod servers;

use std::{sync::Arc, time::Duration};

use mesh_core::clock;
use mesh_lb::{InHand, LoadReport, Member};
use rand::{RngExt, rngs::Xoshiro256PlusPlus};
use tokio::{runtime::Runtime, time::Instant};

pub(crate) use self::client::{cluster, endpoint, server};
pub use self::{
    client::{Balancer, End, Ties},
    servers::{Capacity, Fault, Symptom},
};
use self::{
    client::{Client, Ticket, server as number},
    servers::Servers,
};
use crate::{
    events::{Delay, Events},
    machine::Left,
    random::{Stream, exponential, normal},
};

/// A part of a run in which requests arrive at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Mean time between two arrivals.
    pub interval: Duration,
    /// It begins where the one before ends, and ends here.
    pub until: Duration,
}

/// How long requests take to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Exponential, with this mean.
    Exponential(Duration),
    /// Normal, with this mean and a standard deviation equal to it; what is below zero is zero.
    Normal(Duration),
}

impl Demand {
    fn draw(self, rng: &mut Xoshiro256PlusPlus) -> Duration {
        match self {
            Self::Exponential(mean) => exponential(rng, mean),
            Self::Normal(mean) => mean.mul_f64((1.0 + normal(rng)).max(0.0)),
        }
    }

    /// The mean.
    ///
    /// Of `max(0, N(μ, μ))` that is `μ (Φ(1) + φ(1))`.
    ///
    /// ```
    /// # use {mesh_sim::Demand, std::time::Duration};
    /// let mean = Demand::Normal(Duration::from_millis(80)).mean();
    /// assert!((mean.as_secs_f64() * 1e3 - 86.66).abs() < 0.01);
    /// ```
    #[must_use]
    pub fn mean(self) -> Duration {
        match self {
            Self::Exponential(mean) => mean,
            Self::Normal(mean) => mean.mul_f64(0.841_344_746 + 0.241_970_725),
        }
    }
}

/// All that a run depends on: the same one gives the same events.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where its random numbers come from.
    pub seed: u64,
    /// How clients choose.
    pub balancer: Balancer,
    /// How many clients there are. Each request arrives at one of them, all alike.
    pub clients: usize,
    /// How many servers there are.
    pub servers: usize,
    /// The servers that each client knows; without it, all.
    pub subsets: Option<Arc<[Vec<usize>]>>,
    /// How servers work.
    pub capacity: Capacity,
    /// When requests arrive. After the last phase none does.
    pub arrivals: Vec<Phase>,
    /// How long they take to serve.
    pub demand: Demand,
    /// What is wrong with servers, if something is.
    pub fault: Option<Fault>,
    /// When a client gives up, if it does.
    pub patience: Option<Duration>,
}

/// What became of a request, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it arrived.
    pub arrived: Duration,
    /// How long the client waited.
    pub took: Duration,
    /// Where it was sent.
    pub server: usize,
    /// How it ended.
    pub end: End,
}

impl Run {
    /// Run it; `observe` is told of every request, in the order in which they end.
    ///
    /// # Panics
    ///
    /// When there are no servers, or the policy refuses a request: the model has no word for these.
    pub fn observe(&self, observe: impl FnMut(Ended)) {
        self.simulate(observe);
    }

    fn simulate(&self, observe: impl FnMut(Ended)) -> Vec<Client> {
        // The clock of a paused runtime stands still: clusters begin when the simulation does.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime that only keeps time needs nothing of the system");
        let _clock = runtime.enter();
        let mut policy = Stream::Policy.of(self.seed);
        let mut hosts = Stream::Servers.of(self.seed);
        let endpoints: Vec<_> = (0..self.servers).map(endpoint).collect();
        let mut events = Events::default();
        let clock = Clock::new(&runtime, matches!(self.balancer, Balancer::Tower { .. }));
        Simulation {
            run: self,
            clients: (0..self.clients).map(|index| Client::new(self, index, &endpoints, &mut policy)).collect(),
            servers: Servers::new(self, clock.start, &mut hosts),
            clock,
            policy,
            hosts,
            arrivals: Stream::Arrivals.of(self.seed),
            demands: Stream::Demands.of(self.seed),
            arrives_at: Stream::Clients.of(self.seed),
            phase: 0,
            gives_up: self.patience.map(|patience| events.delay(patience)),
            on_the_way: events.delay(ON_THE_WAY),
            looks: events.delay(LOOK),
            events,
            requests: Vec::new(),
            free: Vec::new(),
            ended: 0,
            observe,
        }
        .run()
    }

    fn end(&self) -> Duration {
        self.arrivals.last().map_or(Duration::ZERO, |phase| phase.until)
    }
}

/// Something for each seed, in the order of seeds. Runs share nothing: each has a thread of its own, and only one.
pub fn each<T: Send>(seeds: &[u64], of: impl Fn(&u64) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let of = &of;
        let runs: Vec<_> = seeds.iter().map(|seed| scope.spawn(move || of(seed))).collect();
        let result = |run: std::thread::ScopedJoinHandle<'_, T>| run.join();
        runs.into_iter().map(result).map(|run| run.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The simulation's time as tokio's.
struct Clock<'a> {
    runtime: &'a Runtime,
    start: Instant,
    /// Does anybody read tokio's clock, rather than take what it is told?
    read: bool,
    moved: Duration,
}

impl<'a> Clock<'a> {
    fn new(runtime: &'a Runtime, read: bool) -> Self {
        Self { runtime, start: clock::now(), read, moved: Duration::ZERO }
    }

    fn at(&mut self, now: Duration) -> Instant {
        if self.read && now > self.moved {
            self.runtime.block_on(tokio::time::advance(now - self.moved));
            self.moved = now;
        }
        self.start + now
    }
}

#[derive(Debug)]
enum Event {
    Arrives,
    Served(usize),
    GivenUp(usize),
    /// Something may be done on a server.
    Due(usize),
    /// A server's antagonists change.
    Turns(usize),
    /// Servers say what they can do.
    Tells,
    /// A client looks whether it wants to ask servers, though it has no request.
    Looks(usize),
    /// A probe is with its server.
    Asked(usize, Arc<Member>),
    /// Its answer is with the client.
    Heard(usize, Arc<Member>, LoadReport),
}

struct Request {
    arrived: Duration,
    demand: Duration,
    client: usize,
    server: usize,
    /// Until the client has a response or gives up.
    ticket: Option<Ticket>,
    /// Until the server is done with it.
    in_hand: Option<InHand>,
    fails: bool,
    /// Has it been taken off its machine?
    stopped: bool,
    /// What still names it: events, machines.
    named: u8,
}

struct Simulation<'a, F> {
    run: &'a Run,
    clock: Clock<'a>,
    clients: Vec<Client>,
    servers: Servers,
    policy: Xoshiro256PlusPlus,
    hosts: Xoshiro256PlusPlus,
    arrivals: Xoshiro256PlusPlus,
    demands: Xoshiro256PlusPlus,
    arrives_at: Xoshiro256PlusPlus,
    phase: usize,
    gives_up: Option<Delay>,
    on_the_way: Delay,
    looks: Delay,
    events: Events<Event>,
    requests: Vec<Request>,
    free: Vec<usize>,
    ended: u64,
    observe: F,
}

/// How long a probe travels, and its answer.
const ON_THE_WAY: Duration = Duration::from_micros(250);
/// How often a client without requests looks whether it wants to ask.
const LOOK: Duration = Duration::from_millis(250);
/// How often servers say what they can do.
const TELL: Duration = Duration::from_secs(1);

impl<F: FnMut(Ended)> Simulation<'_, F> {
    fn run(mut self) -> Vec<Client> {
        self.plan_arrival(Duration::ZERO);
        for server in 0..self.run.servers {
            if let Some(holds) = self.servers.turn(server, Duration::ZERO, &mut self.hosts) {
                self.events.plan(holds, Event::Turns(server));
            }
        }
        if matches!(self.run.balancer, Balancer::Weighted) {
            self.events.plan(TELL, Event::Tells);
        }
        if self.run.balancer.probes() {
            (0..self.run.clients)
                .for_each(|client| self.events.plan_after(self.looks, Duration::ZERO, Event::Looks(client)));
        }
        while let Some((now, event)) = self.events.next() {
            match event {
                Event::Arrives => {
                    self.arrive(now);
                    self.plan_arrival(now);
                }
                Event::Served(request) => self.served(request, now),
                Event::GivenUp(request) => self.give_up(request, now),
                Event::Due(server) => {
                    if self.servers.machine(server).due(now) {
                        self.settle(server, now);
                    }
                }
                Event::Turns(server) => {
                    if let Some(holds) = self.servers.turn(server, now, &mut self.hosts).filter(|_| self.goes_on(now)) {
                        self.events.plan(now + holds, Event::Turns(server));
                    }
                    self.settle(server, now);
                }
                Event::Looks(client) => {
                    self.probe(client, now);
                    if self.goes_on(now) {
                        self.events.plan_after(self.looks, now, Event::Looks(client));
                    }
                }
                Event::Asked(client, member) => {
                    let report = self.servers.report(number(&member), self.clock.at(now));
                    self.events.plan_after(self.on_the_way, now, Event::Heard(client, member, report));
                }
                Event::Heard(client, member, report) => {
                    self.clients[client].report(&member, report, self.clock.at(now));
                }
                Event::Tells => {
                    let weights = self.servers.weights(now);
                    self.clients.iter_mut().for_each(|client| client.told(&weights));
                    if self.goes_on(now) {
                        self.events.plan(now + TELL, Event::Tells);
                    }
                }
            }
        }
        self.clients
    }

    /// Will a request arrive, or end, after this time?
    fn goes_on(&self, now: Duration) -> bool {
        now < self.run.end() || self.free.len() < self.requests.len()
    }

    /// A Poisson process forgets: what would be after the end of a phase is drawn again from there, at the next rate.
    fn plan_arrival(&mut self, now: Duration) {
        let mut from = now;
        while let Some(phase) = self.run.arrivals.get(self.phase) {
            let at = from + exponential(&mut self.arrivals, phase.interval);
            if at < phase.until {
                self.events.plan(at, Event::Arrives);
                return;
            }
            from = phase.until;
            self.phase += 1;
        }
    }

    fn arrive(&mut self, now: Duration) {
        let demand = self.run.demand.draw(&mut self.demands);
        let client = match self.run.clients {
            1 => 0,
            clients => self.arrives_at.random_range(0..clients),
        };
        let instant = self.clock.at(now);
        let (ticket, server) = self.clients[client].send(instant, &mut self.policy);
        let in_hand = self.servers.begin(server, instant);
        if self.run.balancer.probes() {
            self.probe(client, now);
        }
        let named = 1 + u8::from(self.gives_up.is_some());
        let ticket = Some(ticket);
        let request = self.store(Request {
            arrived: now,
            demand,
            client,
            server,
            ticket,
            in_hand,
            fails: false,
            stopped: false,
            named,
        });
        if let Some(delay) = self.gives_up {
            self.events.plan_after(delay, now, Event::GivenUp(request));
        }
        if let Some(fault) = self.run.fault.as_ref().filter(|fault| fault.hits(server, now)) {
            self.requests[request].fails = fault.symptom == Symptom::Fails;
            // The machine has nothing to do with it.
            self.requests[request].stopped = true;
            self.events.plan(now + fault.takes, Event::Served(request));
            return;
        }
        match self.run.capacity {
            Capacity::Unlimited => self.events.plan(now + demand, Event::Served(request)),
            Capacity::One => {
                if self.servers.join(server, request) {
                    self.events.plan(now + demand, Event::Served(request));
                }
            }
            Capacity::Cores(_) | Capacity::Shared => {
                self.servers.machine(server).begin(now, request, demand);
                self.settle(server, now);
            }
        }
    }

    fn probe(&mut self, client: usize, now: Duration) {
        let instant = self.clock.at(now);
        for member in self.clients[client].probes(instant, &mut self.policy) {
            self.events.plan_after(self.on_the_way, now, Event::Asked(client, member));
        }
    }

    /// What is done on a machine leaves it, and when more will be is planned.
    fn settle(&mut self, server: usize, now: Duration) {
        while let Some(left) = self.servers.machine(server).done(now, |request| self.requests[request].stopped) {
            let (Left::Stopped(request) | Left::Done(request)) = left;
            if let Left::Done(request) = left {
                self.end(request, now, End::Answered);
            }
            self.unname(request);
        }
        if let Some(at) = self.servers.machine(server).plan() {
            self.events.plan(at, Event::Due(server));
        }
    }

    fn served(&mut self, request: usize, now: Duration) {
        let Request { server, fails, stopped, .. } = self.requests[request];
        if self.run.capacity == Capacity::One
            && !stopped
            && let Some(next) = self.servers.leave(server)
        {
            let demand = self.requests[next].demand;
            self.events.plan(now + demand, Event::Served(next));
        }
        self.end(request, now, if fails { End::Failed } else { End::Answered });
        self.unname(request);
    }

    /// Nobody waits any more: the server is told, and stops.
    fn give_up(&mut self, request: usize, now: Duration) {
        let Request { server, ref ticket, stopped, .. } = self.requests[request];
        if ticket.is_some() {
            self.end(request, now, End::GivenUp);
            if self.servers.is_machine() && !stopped {
                self.requests[request].stopped = true;
                self.servers.machine(server).stop(now);
                self.settle(server, now);
            }
        }
        self.unname(request);
    }

    /// The client has a response, or gives up; what comes later changes nothing for it.
    fn end(&mut self, request: usize, now: Duration, end: End) {
        let Request { arrived, client, server, ticket, in_hand, .. } = &mut self.requests[request];
        let Some(ticket) = ticket.take() else { return };
        let instant = self.clock.at(now);
        match in_hand.take() {
            Some(in_hand) if end == End::GivenUp => in_hand.abandoned(instant),
            Some(in_hand) => in_hand.answered(instant),
            None => {}
        }
        let tells = end != End::GivenUp && matches!(self.run.balancer, Balancer::Told(_));
        let report = tells.then(|| self.servers.report(*server, instant));
        self.clients[*client].end(ticket, end, report, instant);
        self.servers.ended(*server, end);
        self.ended += 1;
        (self.observe)(Ended { arrived: *arrived, took: now - *arrived, server: *server, end });
    }

    fn store(&mut self, request: Request) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.requests[index] = request;
                index
            }
            None => {
                self.requests.push(request);
                self.requests.len() - 1
            }
        }
    }

    fn unname(&mut self, request: usize) {
        self.requests[request].named -= 1;
        if self.requests[request].named == 0 {
            self.free.push(request);
        }
    }
}

#[cfg(test)]
mod tests;
