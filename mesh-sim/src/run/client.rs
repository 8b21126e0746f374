//! Clients: whoever chooses a server for a request.

use std::{sync::Arc, time::Duration};

use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
use mesh_lb::{Cluster, ClusterPolicy, Ended, InFlight, LoadBalancer, LoadReport, Member, Outcome, ProbeTargets};
use rand::{RngExt, rngs::Xoshiro256PlusPlus};
use tokio::time::Instant;

use super::{
    Run,
    peer::{Call, Peer},
};

/// How a client chooses.
#[derive(Clone, Debug)]
pub enum Balancer {
    /// As a cluster that ships does.
    Shipped(ClusterPolicy),
    /// The same, and servers tell their load with every response.
    Told(ClusterPolicy),
    /// Baseline, exists in the simulator only: of all servers one to which this client has the fewest requests in flight.
    LeastLoaded(Ties),
    /// Baseline, exists in the simulator only: a round robin in which servers have turns in proportion to `q/u`, requests
    /// answered in the last second over core seconds used for them, which all clients are told every second.
    Weighted,
    /// The peer: `tower::balance::p2c` with `tower::load::PeakEwma`, tower's own code.
    Tower {
        /// What a server is taken to need before it has answered.
        default_rtt: Duration,
        /// In which time a peak is forgotten.
        decay: Duration,
    },
}

/// Which of several least loaded servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// The next one after that chosen last: "tried in turn", as NGINX's `least_conn` has it.
    Next,
    /// The first one from a random place.
    Random,
}

impl From<LoadBalancer> for Balancer {
    fn from(load_balancer: LoadBalancer) -> Self {
        Self::Shipped(ClusterPolicy::default().with_load_balancer(load_balancer))
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With success.
    Answered,
    /// With a 503.
    Failed,
    /// Without a response, when the client had waited long enough.
    GivenUp,
}

impl Balancer {
    /// Do clients ask servers for their load?
    pub(super) fn probes(&self) -> bool {
        match self {
            Self::Shipped(policy) | Self::Told(policy) => matches!(policy.load_balancer, LoadBalancer::Prequal(_)),
            _ => false,
        }
    }
}

/// What a client keeps of a request while it is in flight.
pub(super) enum Ticket {
    Counted(InFlight),
    Peer(Call),
}

pub(super) struct Client {
    chooser: Chooser,
}

enum Chooser {
    Cluster(Cluster),
    LeastLoaded { cluster: Cluster, members: Arc<[Arc<Member>]>, ties: Ties, last: usize },
    Weighted(Cluster, Arc<[Arc<Member>]>, Turns),
    Peer(Peer),
}

/// What a member is called here.
pub(super) struct Server(usize);

pub(crate) fn server(member: &Member) -> usize {
    member.attachment::<Server>(|| unreachable!("every member was given a number")).0
}

/// The address of a server.
pub(crate) fn endpoint(server: usize) -> Arc<Endpoint> {
    let address = format!("10.{}.{}.{}", server / 62_500, server / 250 % 250, server % 250 + 1);
    Arc::new(Endpoint::new(EndpointAddress::new(&address, 80)))
}

/// A cluster of these servers of all.
pub(crate) fn cluster(policy: &ClusterPolicy, servers: &[Arc<Endpoint>], known: &[usize]) -> Cluster {
    let service = ServiceName::of_host("service.default.svc.cluster.local", "default");
    let endpoints = known.iter().map(|server| Arc::clone(&servers[*server])).collect();
    let cluster = Cluster::new(ClusterName { service, port: 80, subset: None }, policy.clone(), endpoints);
    for (member, server) in cluster.members().iter().zip(known) {
        member.attachment(|| Arc::new(Server(*server)));
    }
    cluster
}

impl Client {
    /// Client number `index`, which knows these servers.
    pub(super) fn new(run: &Run, index: usize, servers: &[Arc<Endpoint>], rng: &mut Xoshiro256PlusPlus) -> Self {
        let known: Vec<usize> = match &run.subsets {
            Some(subsets) => subsets[index].clone(),
            None => (0..servers.len()).collect(),
        };
        let of = |policy: &ClusterPolicy| cluster(policy, servers, &known);
        let chooser = match &run.balancer {
            Balancer::Shipped(policy) | Balancer::Told(policy) => {
                let cluster = of(policy);
                if policy.load_balancer == LoadBalancer::RoundRobin {
                    // Where it starts is drawn from the system; the seed says it here.
                    let first = known[(run.seed as usize + index) % known.len()];
                    while server(&cluster.pick(clock::now(), rng, &[]).expect("there are servers")) != first {}
                }
                Chooser::Cluster(cluster)
            }
            Balancer::LeastLoaded(ties) => {
                let cluster = of(&ClusterPolicy::default());
                let members = cluster.members();
                let last = rng.random_range(0..members.len());
                Chooser::LeastLoaded { cluster, members, ties: *ties, last }
            }
            Balancer::Weighted => {
                let cluster = of(&ClusterPolicy::default());
                let members = cluster.members();
                Chooser::Weighted(cluster, members, Turns::new(known.len(), rng))
            }
            Balancer::Tower { default_rtt, decay } => {
                Chooser::Peer(Peer::new(known, *default_rtt, *decay, rng.random()))
            }
        };
        Self { chooser }
    }

    /// Choose a server.
    pub(super) fn send(&mut self, now: Instant, rng: &mut Xoshiro256PlusPlus) -> (Ticket, usize) {
        let (cluster, member) = match &mut self.chooser {
            Chooser::Cluster(cluster) => {
                let member = cluster.pick(now, rng, &[]).expect("a cluster with endpoints has one to choose");
                (cluster, member)
            }
            Chooser::LeastLoaded { cluster, members, ties, last } => {
                let first = match ties {
                    Ties::Next => *last + 1,
                    Ties::Random => rng.random_range(0..members.len()),
                };
                let places = (first..first + members.len()).map(|place| place % members.len());
                *last = places.min_by_key(|place| members[*place].in_flight()).expect("there are servers");
                (cluster, Arc::clone(&members[*last]))
            }
            Chooser::Weighted(cluster, members, turns) => (cluster, Arc::clone(&members[turns.next()])),
            Chooser::Peer(peer) => {
                let (call, server) = peer.call();
                return (Ticket::Peer(call), server);
            }
        };
        let in_flight = InFlight::enter(cluster, &member).expect("the runs set no limit on requests").sent_at(now);
        let server = server(&member);
        (Ticket::Counted(in_flight), server)
    }

    /// A request has ended.
    pub(super) fn end(&mut self, ticket: Ticket, end: End, report: Option<LoadReport>, now: Instant) {
        match ticket {
            Ticket::Counted(mut in_flight) => {
                if let Some(report) = report {
                    self.report(in_flight.member(), report, now);
                }
                let (outcome, ended) = match end {
                    End::Answered => (Outcome::Success, Ended::Answered),
                    End::Failed => (Outcome::GatewayError, Ended::Failed),
                    End::GivenUp => (Outcome::NoResponse, Ended::TimedOut),
                };
                in_flight.ended(now, ended);
                in_flight.cluster().record(in_flight.member(), outcome, now);
            }
            Ticket::Peer(call) => call.end(end),
        }
    }

    /// Servers that it wants to ask now.
    pub(super) fn probes(&self, now: Instant, rng: &mut Xoshiro256PlusPlus) -> ProbeTargets {
        match &self.chooser {
            Chooser::Cluster(cluster) => cluster.probes_due(now, rng),
            _ => ProbeTargets::default(),
        }
    }

    /// A server told its load.
    pub(super) fn report(&self, member: &Arc<Member>, report: LoadReport, now: Instant) {
        if let Chooser::Cluster(cluster) = &self.chooser {
            cluster.report(member, report, now);
        }
    }

    /// All are told what servers can do.
    pub(super) fn told(&mut self, weights: &[f64]) {
        if let Chooser::Weighted(_, members, turns) = &mut self.chooser {
            turns.weigh(members.iter().map(|member| weights[server(member)]));
        }
    }

    /// Requests in flight.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> (u32, u32) {
        match &self.chooser {
            Chooser::Cluster(cluster) | Chooser::LeastLoaded { cluster, .. } | Chooser::Weighted(cluster, ..) => {
                (cluster.in_flight(), cluster.members().iter().map(|member| member.in_flight()).sum())
            }
            Chooser::Peer(_) => (0, 0),
        }
    }
}

/// A weighted round robin: whoever's turn comes first, and then again one over its weight later.
struct Turns {
    next: Vec<f64>,
    every: Vec<f64>,
    now: f64,
}

impl Turns {
    fn new(servers: usize, rng: &mut Xoshiro256PlusPlus) -> Self {
        let next = (0..servers).map(|_| rng.random()).collect();
        Self { next, every: vec![1.0; servers], now: 0.0 }
    }

    fn next(&mut self) -> usize {
        let first = self.next.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        let (index, now) = first.map(|(index, now)| (index, *now)).expect("there are servers");
        self.now = now;
        self.next[index] += self.every[index];
        index
    }

    /// The part of a turn that is left is as long in the new turn.
    fn weigh(&mut self, weights: impl Iterator<Item = f64>) {
        for ((next, every), weight) in self.next.iter_mut().zip(&mut self.every).zip(weights) {
            *next = self.now + (*next - self.now) / *every / weight;
            *every = 1.0 / weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn turns_are_in_proportion_to_weights_also_when_these_change() {
        let mut turns = Turns::new(3, &mut Stream::Policy.of(1));
        for weights in [[1.0, 2.0, 5.0], [4.0, 2.0, 2.0]] {
            turns.weigh(weights.into_iter());
            let mut counts = [0_i32; 3];
            (0..800).for_each(|_| counts[turns.next()] += 1);
            for (count, weight) in counts.into_iter().zip(weights) {
                assert!((count - weight as i32 * 100).abs() <= 2, "{counts:?} for {weights:?}, seed 1");
            }
        }
    }
}
