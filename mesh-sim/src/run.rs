//! One run: arrivals, choices, service, ends.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
use mesh_lb::{Cluster, ClusterPolicy, Ended as EndedAs, InFlight, LoadBalancer, Member, Outcome};
use rand::rngs::Xoshiro256PlusPlus;
use tokio::time::Instant;

use crate::{
    events::Events,
    random::{Stream, exponential},
};

/// How a server works on what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// One request at a time, first come first served.
    One,
    /// All at once, each as if alone.
    Unlimited,
}

/// A server that is slow for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which one.
    pub server: usize,
    /// When.
    pub during: Range<Duration>,
    /// What every request takes that it begins to serve then.
    pub takes: Duration,
}

/// All that a run depends on: the same one gives the same events.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where its random numbers come from.
    pub seed: u64,
    /// The policy of the client's cluster.
    pub policy: ClusterPolicy,
    /// How many servers there are.
    pub servers: usize,
    /// How they work.
    pub capacity: Capacity,
    /// Mean time between two arrivals.
    pub interval: Duration,
    /// Mean demand of a request.
    pub demand: Duration,
    /// Which server is slow, if one is.
    pub fault: Option<Fault>,
    /// When the client gives up, if it does.
    pub patience: Option<Duration>,
    /// When the last request arrives.
    pub end: Duration,
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
    /// Was there a response before the client gave up?
    pub answered: bool,
}

impl Run {
    /// Run it; `observe` is told of every request, in the order in which they end.
    ///
    /// # Panics
    ///
    /// When there are no servers, or the policy refuses a request: the model has no word for these.
    pub fn observe(&self, observe: impl FnMut(Ended)) {
        let client = self.simulate(observe);
        debug_assert_eq!(client.cluster.in_flight(), 0, "every request was seen to its end");
    }

    fn simulate(&self, observe: impl FnMut(Ended)) -> Client {
        // The clock of a paused runtime stands still: the cluster begins when the simulation does.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime that only keeps time needs nothing of the system");
        let _clock = runtime.enter();
        let client = Client::new(self);
        Simulation {
            run: self,
            client,
            arrivals: Stream::Arrivals.of(self.seed),
            demands: Stream::Demands.of(self.seed),
            events: Events::default(),
            requests: Vec::new(),
            free: Vec::new(),
            queues: vec![VecDeque::new(); self.servers],
            observe,
        }
        .run()
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

/// The policy under test, with its counts.
struct Client {
    cluster: Cluster,
    start: Instant,
    rng: Xoshiro256PlusPlus,
}

/// What a member is called here.
struct Server(usize);

impl Client {
    fn new(run: &Run) -> Self {
        let service = ServiceName::of_host("service.default.svc.cluster.local", "default");
        let endpoint = |n: usize| {
            let address = format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250 + 1);
            Arc::new(Endpoint::new(EndpointAddress::new(&address, 80)))
        };
        let start = clock::now();
        let endpoints = (0..run.servers).map(endpoint).collect();
        let cluster = Cluster::new(ClusterName { service, port: 80, subset: None }, run.policy.clone(), endpoints);
        for (index, member) in cluster.members().iter().enumerate() {
            member.attachment(|| Arc::new(Server(index)));
        }
        let mut client = Self { cluster, start, rng: Stream::Policy.of(run.seed) };
        if run.policy.load_balancer == LoadBalancer::RoundRobin {
            let first = (run.seed % run.servers as u64) as usize;
            while server(&client.pick(Duration::ZERO)) != first {}
        }
        client
    }

    fn pick(&mut self, now: Duration) -> Arc<Member> {
        self.cluster.pick(self.start + now, &mut self.rng, &[]).expect("a cluster with endpoints has one to choose")
    }

    fn send(&mut self, now: Duration) -> InFlight {
        let member = self.pick(now);
        let in_flight = InFlight::enter(&self.cluster, &member).expect("the runs set no limit on requests");
        in_flight.sent_at(self.start + now)
    }

    fn record(&self, member: &Member, outcome: Outcome, now: Duration) {
        self.cluster.record(member, outcome, self.start + now);
    }
}

fn server(member: &Member) -> usize {
    member.attachment::<Server>(|| unreachable!("every member was given a number")).0
}

#[derive(Debug)]
enum Event {
    Arrives,
    Served(usize),
    GivenUp(usize),
}

struct Request {
    arrived: Duration,
    demand: Duration,
    server: usize,
    /// Until the client has a response or gives up.
    in_flight: Option<InFlight>,
    /// Events that still name it.
    named: u8,
}

struct Simulation<'a, F> {
    run: &'a Run,
    client: Client,
    arrivals: Xoshiro256PlusPlus,
    demands: Xoshiro256PlusPlus,
    events: Events<Event>,
    requests: Vec<Request>,
    free: Vec<usize>,
    queues: Vec<VecDeque<usize>>,
    observe: F,
}

impl<F: FnMut(Ended)> Simulation<'_, F> {
    fn run(mut self) -> Client {
        self.plan_arrival(Duration::ZERO);
        while let Some((now, event)) = self.events.next() {
            match event {
                Event::Arrives => {
                    self.arrive(now);
                    self.plan_arrival(now);
                }
                Event::Served(request) => self.served(request, now),
                Event::GivenUp(request) => {
                    self.end(request, now, false);
                    self.unname(request);
                }
            }
        }
        self.client
    }

    fn plan_arrival(&mut self, now: Duration) {
        let at = now + exponential(&mut self.arrivals, self.run.interval);
        if at < self.run.end {
            self.events.plan(at, Event::Arrives);
        }
    }

    fn arrive(&mut self, now: Duration) {
        let demand = exponential(&mut self.demands, self.run.demand);
        let in_flight = self.client.send(now);
        let server = server(in_flight.member());
        let named = 1 + u8::from(self.run.patience.is_some());
        let request = self.store(Request { arrived: now, demand, server, in_flight: Some(in_flight), named });
        if let Some(patience) = self.run.patience {
            self.events.plan(now + patience, Event::GivenUp(request));
        }
        match self.run.capacity {
            Capacity::Unlimited => self.serve(request, now),
            Capacity::One => {
                self.queues[server].push_back(request);
                if self.queues[server].len() == 1 {
                    self.serve(request, now);
                }
            }
        }
    }

    fn serve(&mut self, request: usize, now: Duration) {
        let Request { server, demand, .. } = self.requests[request];
        let fault = self.run.fault.as_ref().filter(|fault| fault.server == server && fault.during.contains(&now));
        let takes = fault.map_or(demand, |fault| fault.takes);
        self.events.plan(now + takes, Event::Served(request));
    }

    fn served(&mut self, request: usize, now: Duration) {
        if self.run.capacity == Capacity::One {
            let queue = &mut self.queues[self.requests[request].server];
            queue.pop_front();
            if let Some(&next) = queue.front() {
                self.serve(next, now);
            }
        }
        self.end(request, now, true);
        self.unname(request);
    }

    /// The client has a response, or gives up; what comes later changes nothing for it.
    fn end(&mut self, request: usize, now: Duration, answered: bool) {
        let Request { arrived, server, in_flight, .. } = &mut self.requests[request];
        let Some(mut in_flight) = in_flight.take() else { return };
        let (outcome, how) = match answered {
            true => (Outcome::Success, EndedAs::Answered),
            false => (Outcome::NoResponse, EndedAs::TimedOut),
        };
        in_flight.ended(self.client.start + now, how);
        self.client.record(in_flight.member(), outcome, now);
        (self.observe)(Ended { arrived: *arrived, took: now - *arrived, server: *server, answered });
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
