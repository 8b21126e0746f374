//! Replicas that die and replicas that leave, as processes under load.
//!
//! The load comes from this process, through a mesh client that shares registry and development CA with the replica
//! processes. Every request is recorded: when it began and ended, which endpoint its last attempt went to, and why it
//! failed. What must hold is then checked request by request, not by comparing sums: a request may have failed only if
//! it was in flight on the replica that died, at the moment it died.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers of tests; processes live in real time")]

mod load;
mod rolling;
mod world;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use http::Method;
use mesh::{Labels, Workload};

use crate::{
    load::{Load, Sent, TASKS, summary},
    world::{Death, Kind, World, builder},
};

/// Races differ from run to run.
const ROUNDS: usize = 3;

/// One of two replicas dies under load, round after round; every request is then judged.
async fn kill_one(kind: Kind, rules: &str, judge: impl Fn(&Sent, Death, &str) -> bool) {
    for round in 0..ROUNDS {
        let world = World::new(kind);
        let (mut dies, stays) = tokio::join!(world.replica(), world.replica());
        let client = world.client(rules).await;
        let load = Load::start(&client, &[kind.uri()], &[Method::GET]);
        load.reached([&dies, &stays]).await;
        let death = dies.kill().await;
        // Its WorkloadEntry stays: half of these go to where nobody listens, first.
        load.more(1500).await;
        let sent = load.stop().await;

        let total = sent.len();
        let in_flight = sent.iter().filter(|sent| sent.endpoint == dies.address && sent.in_flight_at(death)).count();
        let failed: Vec<_> = sent.iter().filter(|sent| sent.failure.is_some()).collect();
        let report = summary(failed.iter().copied(), death.signalled);
        println!(
            "{kind:?} round {round}: {total} requests, {in_flight} in flight on the one while it died, {} failed, {} retried\n{report}",
            failed.len(),
            sent.iter().filter(|sent| sent.attempts > 1).count(),
        );
        assert!(total >= 1900);
        let unforgiven = failed.iter().copied().filter(|sent| !judge(sent, death, &dies.address));
        let unforgiven = summary(unforgiven, death.signalled);
        assert!(unforgiven.is_empty(), "round {round}, of {total} requests:\n{unforgiven}");
        assert!(failed.len() <= TASKS, "round {round}: {report}");
        let retried = sent.iter().filter(|sent| sent.attempts > 1 && sent.endpoint == stays.address);
        assert!(retried.count() > 0, "somebody met the dead one and was served by the other");
    }
}

/// With Istio's default retries a request may fail only if it was in flight on the replica, when that died.
fn was_in_flight(sent: &Sent, death: Death, dead: &str) -> bool {
    sent.endpoint == dead && sent.in_flight_at(death)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_loses_what_was_in_flight_on_it_and_nothing_else() {
    kill_one(Kind::Bookinfo, "", was_in_flight).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_h2_replica_loses_what_was_in_flight_on_it_and_nothing_else() {
    kill_one(Kind::Http2, "", was_in_flight).await;
}

const RETRY_RESETS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: HOST}
spec:
  hosts: [HOST]
  http:
  - route: [{destination: {host: HOST}}]
    retries: {attempts: 2, retryOn: 'reset,connect-failure'}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: HOST}
spec:
  host: HOST
  trafficPolicy:
    retryBudget: {percent: 100}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_loses_nothing_where_resets_are_retried() {
    kill_one(Kind::Bookinfo, &RETRY_RESETS.replace("HOST", Kind::Bookinfo.host()), |_, _, _| false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_h2_replica_loses_nothing_where_resets_are_retried() {
    kill_one(Kind::Http2, &RETRY_RESETS.replace("HOST", Kind::Http2.host()), |_, _, _| false).await;
}

const NO_RETRIES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: HOST}
spec:
  hosts: [HOST]
  http:
  - route: [{destination: {host: HOST}}]
    retries: {attempts: 0}
";

/// One of two replicas is told to leave under load, round after round.
async fn terminate_one(kind: Kind, rules: &str) {
    for round in 0..ROUNDS {
        let world = World::new(kind);
        let (mut leaves, stays) = tokio::join!(world.replica(), world.replica());
        let client = world.client(rules).await;
        let load = Load::start(&client, &[kind.uri()], &[Method::GET, Method::POST]);
        load.reached([&leaves, &stays]).await;
        let signalled = Instant::now();
        leaves.terminate();
        let exit = async { (leaves.exit().await, Instant::now()) };
        let ((status, exited), ()) = tokio::join!(exit, load.more(1500));
        load.more(500).await;
        let sent = load.stop().await;

        let total = sent.len();
        let posts = sent.iter().filter(|sent| sent.method == Method::POST).count();
        let after = sent.iter().filter(|sent| sent.endpoint == leaves.address && sent.started > signalled).count();
        println!(
            "{kind:?} round {round}: {total} requests, {posts} of them POST, {after} answered by the leaving one after \
             the signal, which exited after {:?}",
            exited - signalled,
        );
        let failed = summary(sent.iter().filter(|sent| sent.failure.is_some()), signalled);
        assert!(failed.is_empty(), "round {round}, of {total} requests:\n{failed}");
        assert_eq!(status.code(), Some(0), "it ends by itself");
        assert!(total >= 2400 && posts.abs_diff(total - posts) <= TASKS);
        let late = sent.iter().filter(|sent| sent.endpoint == leaves.address && sent.started > exited).count();
        assert_eq!(late, 0, "it has left discovery");
    }
}

/// Nothing is retried: a leaving replica has to take in what still comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_told_to_leave_loses_nothing() {
    terminate_one(Kind::Bookinfo, &NO_RETRIES.replace("HOST", Kind::Bookinfo.host())).await;
}

/// With Istio's default retries: a stream that crosses with GOAWAY is refused, unprocessed, and sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_h2_replica_that_is_told_to_leave_loses_nothing() {
    terminate_one(Kind::Http2, "").await;
}

/// Set for a process that is to be a replica.
const REPLICA_STATE: &str = "REPLICAS_TEST_STATE";

/// Not a test: the service `slow`, when this binary is started as one of its replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_process() {
    let Some(state) = std::env::var_os(REPLICA_STATE).map(PathBuf::from) else { return };
    let workload = Workload::new("default", "slow-v1")
        .with_labels(Labels::from_iter([("app", "slow")]))
        .with_service_account("slow");
    let mesh = builder(&state, workload).linger(Duration::from_millis(500)).start().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let slow = async |body: String| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        body
    };
    let serving = mesh.clone();
    let server =
        tokio::spawn(async move { serving.serve(listener, Router::new().route("/", get(slow).post(slow))).await });
    mesh.register(state.join("workloads"), address).unwrap();
    assert!(mesh.shutdown_on_signal().await, "in-flight requests end within the grace period");
    server.await.unwrap().unwrap();
}
