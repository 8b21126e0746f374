//! What must hold whichever way threads run, tried in every way by loom: up to three times a thread is interrupted where it
//! would have gone on, and every write may be seen as late as the memory model allows.

use std::{sync::Arc, time::Duration};

use loom::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};
use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
use tokio::time::Instant;

use crate::{
    Cluster, ClusterPolicy, ConnectionLimits, FailurePercentage, InFlight, LoadBalancer, Outcome, OutlierDetection,
    OutlierDetector, connections::Connections, random::SplitMix64,
};

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// Both at once, each in a thread of its own.
fn both<A: 'static, B: 'static>(one: impl FnOnce() -> A + 'static, other: impl FnOnce() -> B + 'static) -> (A, B) {
    let one = thread::spawn(one);
    let other = thread::spawn(other);
    let done = "what a thread asserts, the model reports";
    (one.join().expect(done), other.join().expect(done))
}

fn cluster(endpoints: u8, policy: ClusterPolicy) -> Cluster {
    let service = ServiceName::of_host("a.default.svc.cluster.local", "default");
    let endpoint = |n: u8| Arc::new(Endpoint::new(EndpointAddress::new(&format!("10.0.0.{n}"), 80)));
    Cluster::new(ClusterName { service, port: 80, subset: None }, policy, (1..=endpoints).map(endpoint).collect())
}

fn detecting(change: impl FnOnce(&mut OutlierDetection)) -> ClusterPolicy {
    let mut detection = OutlierDetection { consecutive_5xx: 1, ..OutlierDetection::default() };
    change(&mut detection);
    ClusterPolicy::default().with_load_balancer(LoadBalancer::Random).with_outlier_detection(detection)
}

fn ejected(cluster: &Cluster, now: Instant) -> Vec<usize> {
    let members = cluster.members();
    (0..members.len()).filter(|index| cluster.is_ejected(&members[*index], now)).collect()
}

/// Is a pick ever of one of these?
fn picks_any(cluster: &Cluster, now: Instant, members: &[usize]) -> bool {
    let (mut rng, all) = (SplitMix64(7), cluster.members());
    (0..8)
        .filter_map(|_| cluster.pick(now, &mut rng, &[]))
        .any(|picked| members.iter().any(|index| Arc::ptr_eq(&picked, &all[*index])))
}

/// Envoy: maxConnections, http1MaxPendingRequests; an endpoint's first connection is given past the limit.
#[test]
fn places_are_never_more_than_there_are_and_all_come_back() {
    model(|| {
        let limits = ConnectionLimits { max_connections: 1, max_pending: 1, ..ConnectionLimits::default() };
        let (counts, inside) = (Arc::new(Connections::default()), Arc::new([AtomicU32::new(0), AtomicU32::new(0)]));
        let go = |first: bool| {
            let (counts, inside, limits) = (Arc::clone(&counts), Arc::clone(&inside), limits.clone());
            move || {
                if let Some(place) = counts.open(&limits, false) {
                    assert_eq!(inside[0].fetch_add(1, Ordering::Relaxed), 0, "one at a time");
                    inside[0].fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                }
                if let Some(place) = counts.wait(&limits) {
                    assert_eq!(inside[1].fetch_add(1, Ordering::Relaxed), 0, "one at a time");
                    inside[1].fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                }
                assert!(!first || counts.open(&limits, true).is_some(), "the first is always given");
            }
        };
        both(go(false), go(false));
        assert_eq!(counts.counts(), (0, 0));
        both(go(false), {
            let (counts, limits) = (Arc::clone(&counts), limits.clone());
            move || assert!(counts.open(&limits, true).is_some(), "the first is always given")
        });
        assert_eq!(counts.counts(), (0, 0));
    });
}

/// envoy: http2MaxRequests; what is counted is given back.
#[test]
fn requests_in_flight_are_never_more_than_allowed_and_all_leave() {
    model(|| {
        let cluster = cluster(1, ClusterPolicy::default().with_max_requests(1));
        let inside = Arc::new(AtomicU32::new(0));
        let go = || {
            let (cluster, inside) = (cluster.clone(), Arc::clone(&inside));
            move || {
                let member = Arc::clone(&cluster.members()[0]);
                let Some(request) = InFlight::enter(&cluster, &member) else { return 0 };
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
                inside.fetch_sub(1, Ordering::Relaxed);
                drop(request);
                1
            }
        };
        let (one, other) = both(go(), go());
        assert!(one + other >= 1, "not both are refused");
        assert_eq!((cluster.in_flight(), cluster.members()[0].in_flight()), (0, 0));
    });
}

/// envoy OutlierDetection.max_ejection_percent: whoever comes first.
#[test]
fn the_ejection_cap_holds() {
    model(|| {
        let (cluster, now) = (cluster(2, detecting(|policy| policy.max_ejection_percent = 50)), clock::now());
        let fail = |index: usize| {
            let cluster = cluster.clone();
            move || {
                cluster.record(&cluster.members()[index], Outcome::ServerError, now);
                ejected(&cluster, now).len()
            }
        };
        let (one, other) = both(fail(0), fail(1));
        assert!(one <= 1 && other <= 1);
        assert_eq!(ejected(&cluster, now).len(), 1);
    });
}

/// A pick may miss an ejection that happens beside it. One that knows of it does not choose the endpoint, and neither does any
/// pick after it, whatever was worked out meanwhile of an earlier ejection.
#[test]
fn who_knows_of_an_ejection_picks_nobody_who_is_ejected() {
    for min_health_percent in [0, 1] {
        model(move || {
            let policy = detecting(|policy| {
                (policy.max_ejection_percent, policy.min_health_percent) = (100, min_health_percent);
            });
            let (cluster, now) = (cluster(3, policy), clock::now());
            cluster.record(&cluster.members()[0], Outcome::ServerError, now);
            assert!(!picks_any(&cluster, now, &[0]));
            let (one, other) = (cluster.clone(), cluster.clone());
            both(
                move || one.record(&one.members()[1], Outcome::ServerError, now),
                move || {
                    let known = other.known_ejections(now).expect("the first one is ejected");
                    assert!(known == 1 || ejected(&other, now) == [0, 1], "the count comes after the fact");
                    assert!(!picks_any(&other, now, if known == 1 { &[0] } else { &[0, 1] }));
                },
            );
            assert_eq!(ejected(&cluster, now), [0, 1]);
            assert!(!picks_any(&cluster, now, &[0, 1]));
        });
    }
}

/// Before anybody is ejected most picks look no further: the time that makes them look comes last.
#[test]
fn who_looks_sees_the_first_ejection() {
    model(|| {
        let (cluster, now) = (cluster(2, detecting(|policy| policy.max_ejection_percent = 100)), clock::now());
        let (one, other) = (cluster.clone(), cluster.clone());
        both(
            move || one.record(&one.members()[0], Outcome::ServerError, now),
            move || {
                if let Some(known) = other.known_ejections(now) {
                    assert_eq!((known, ejected(&other, now)), (1, vec![0]));
                    assert!(!picks_any(&other, now, &[0]));
                }
            },
        );
        assert!(!picks_any(&cluster, now, &[0]));
    });
}

/// Failures of several threads add up: none is lost where nothing succeeds in between.
#[test]
fn failures_of_several_threads_add_up() {
    model(|| {
        let policy = OutlierDetection { consecutive_5xx: 2, consecutive_gateway: 0, ..OutlierDetection::default() };
        let detector = Arc::new(OutlierDetector::default());
        let fail = || {
            let (policy, detector) = (policy.clone(), Arc::clone(&detector));
            move || detector.record(&policy, Outcome::ServerError, Duration::ZERO)
        };
        let (one, other) = both(fail(), fail());
        assert!(one != other, "the second one fires, whichever that is");
    });
}

/// envoy DetectorImpl::onIntervalTimer: one sweep an interval, whoever is the first to see that the last one ended.
#[test]
fn an_interval_is_swept_once() {
    model(|| {
        let mut rule = FailurePercentage::default();
        (rule.threshold, rule.minimum_hosts, rule.request_volume) = (50, 1, 1);
        let policy = detecting(|policy| {
            (policy.consecutive_5xx, policy.max_ejection_percent, policy.failure_percentage) = (0, 100, Some(rule));
        });
        let (cluster, now) = (cluster(2, policy), clock::now());
        cluster.record(&cluster.members()[0], Outcome::ServerError, now);
        let later = now + Duration::from_secs(15);
        let go = || {
            let cluster = cluster.clone();
            move || {
                cluster.record(&cluster.members()[1], Outcome::Success, later);
                ejected(&cluster, later)
            }
        };
        let (one, other) = both(go(), go());
        assert_eq!((one, other), (vec![0], vec![0]), "who goes on after the sweep sees what it did");
        let first_time_out = now + Duration::from_secs(41);
        assert_eq!(ejected(&cluster, first_time_out), [] as [usize; 0], "ejected once: the time out is one");
    });
}
