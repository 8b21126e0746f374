//! What each balancing policy does to a service, in virtual time.
//!
//! Two cores cannot show what a policy does to a hundred servers: everything would wait for the same processors. So
//! time is simulated here, and the policy is not: every choice is made by [`mesh_lb::Cluster::pick`], every request is
//! counted by [`mesh_lb::InFlight`], every failure recorded by [`mesh_lb::Cluster::record`], as the layer that ships
//! does it. There is no socket and no real clock, and a run is one thread: a seed gives the same run again, event by event.
//!
//! # The model
//!
//! Written before anything was tuned to it. What is not here is not simulated: no network, no connections, no health
//! checks; retries in [`storm`] only. What a scenario adds stands in its module.
//!
//! - **Time** is a [`Duration`](std::time::Duration) since the start, in nanoseconds. Events at the same time happen in
//!   the order in which they were planned. A cluster's epoch is the start.
//! - **Arrivals** are a Poisson process, of one rate after another, that ends at a given time; then every request is seen to
//!   its end, so that the slow ones are not cut off.
//! - **Demand**: each request brings along how long it takes to serve, from a given distribution. It is drawn when
//!   the request arrives. So requests, their times, their demands and their clients are the same ones for every policy under
//!   a seed.
//! - **A client** is one cluster: it knows the requests that it sent itself, what servers tell it when the policy asks, and
//!   nothing else of them. A request is in flight from the choice until the client has the response or gives up; it travels
//!   in no time.
//! - **A server** works in one of a few ways ([`Capacity`]). One at a time, first come first served: the queue of the
//!   supermarket model. All at once, each as if alone: a server far from its limit, whose time is spent elsewhere. Or all at
//!   once on a number of cores, fixed or what others leave of a machine: [`machine`].
//! - **A fault** makes servers take a fixed time for every request that arrives within a window, and answer it, or fail it.
//! - **Patience**: a client may give up after a fixed time. Then the request is no longer in flight, and it counts as
//!   [`NoResponse`](mesh_lb::Outcome::NoResponse) against the server, as a request's `timeout` does. The server is told,
//!   as it is when a connection or stream is closed, and stops. A response in time counts as what it says.
//! - **Probes**: a policy that asks servers is carried as its documentation says: after each pick, and every 250 ms without
//!   one. A probe is 250 µs on the way, and so is its answer, which is what the server's own
//!   [`LoadEstimator`](mesh_lb::LoadEstimator) reports. None is lost, and they cost servers nothing.
//! - **Randomness** has a stream for each use from one seed: arrivals, demands, clients, servers, and what policies draw. Where
//!   a round robin starts is up to the code that ships, which draws it from the system; the simulation turns it to a place
//!   that the seed says, by picks that send nothing.
//!
//! # What it is compared with
//!
//! A simulator says nothing until it has been right about something known: [`supermarket`]. Then, scenario by scenario:
//! [`ramp`], [`one_slow`], [`twenty`], [`storm`], [`subsets`], [`scale`]. Their tables and figures are in `docs/simulation`.

pub mod events;
pub mod machine;
pub mod one_slow;
pub mod plot;
pub mod ramp;
pub mod random;
pub mod run;
pub mod scale;
pub mod statistics;
pub mod storm;
pub mod subsets;
pub mod supermarket;
pub mod twenty;

pub use run::{Balancer, Capacity, Demand, End, Ended, Fault, Phase, Run, Symptom, Ties};
