//! What each balancing policy does to a service, in virtual time.
//!
//! Two cores cannot show what a policy does to a hundred servers: everything would wait for the same processors. So
//! time is simulated here, and the policy is not: every choice is made by [`mesh_lb::Cluster::pick`], every request is
//! counted by [`mesh_lb::InFlight`], every failure recorded by [`mesh_lb::Cluster::record`], as the layer that ships
//! does it. There is no socket and no real clock, and a run is one thread: a seed gives the same run again, event by event.
//!
//! # The model
//!
//! Written before anything was tuned to it. What is not here is not simulated: no network, no connections, no retries,
//! no health checks, no processors that requests share.
//!
//! - **Time** is a [`Duration`](std::time::Duration) since the start, in nanoseconds. Events at the same time happen in
//!   the order in which they were planned. The cluster's epoch is the start.
//! - **Arrivals** are a Poisson process of a fixed rate that ends at a given time; then every request is seen to its
//!   end, so that the slow ones are not cut off.
//! - **Demand**: each request brings along how long it takes to serve, exponential with a given mean. It is drawn when
//!   the request arrives. So requests, their times and their demands are the same ones for every policy under a seed.
//! - **A client** is one cluster: it knows the requests that it sent itself, and nothing else of the servers. There is
//!   one. A request is in flight from the choice until the client has the response or gives up; it travels in no time.
//! - **A server** works in one of two ways ([`Capacity`]). One at a time, first come first served: the queue of the
//!   supermarket model. Or all at once, each as if alone: a server far from its limit, whose time is spent elsewhere.
//! - **A fault** makes one server take a fixed time for every request that it begins to serve within a window. It still
//!   answers, and with success: it is slow, not broken.
//! - **Patience**: a client may give up after a fixed time. Then the request is no longer in flight, and it counts as
//!   [`NoResponse`](mesh_lb::Outcome::NoResponse) against the server, as a request's `timeout` does. The server is not
//!   told and goes on. A response in time counts as a success.
//! - **Randomness** has three streams from one seed: arrivals, demands, and what the policy draws. Where a round robin
//!   starts is up to the code that ships, which draws it from the system; the simulation turns it to a place that the
//!   seed says, by picks that send nothing.
//!
//! # What it is compared with
//!
//! A simulator says nothing until it has been right about something known: [`supermarket`].

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
