//! Peak EWMA and Prequal over a cluster: who is chosen, and who never.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock};
use mesh_lb::{
    Cluster, ClusterPolicy, Ended, InFlight, LoadBalancer, LoadReport, Member, Outcome, OutlierDetection, PeakEwma,
    Prequal,
};
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use tokio::time::Instant;

fn endpoint(n: usize, weight: u32) -> Arc<Endpoint> {
    let address = EndpointAddress::new(&format!("10.0.{}.{}", n / 250, n % 250 + 1), 80);
    Arc::new(Endpoint::new(address).with_weight(weight))
}

fn policies() -> [LoadBalancer; 2] {
    [PeakEwma::default().into(), Prequal::default().into()]
}

fn cluster(load_balancer: &LoadBalancer, weights: &[u32]) -> Cluster {
    let mut detection = OutlierDetection::default();
    detection.consecutive_5xx = 1;
    detection.max_ejection_percent = 100;
    let policy = ClusterPolicy::default().with_load_balancer(load_balancer.clone()).with_outlier_detection(detection);
    let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
    let endpoints = weights.iter().enumerate().map(|(n, weight)| endpoint(n, *weight)).collect();
    Cluster::new(ClusterName { service, port: 80, subset: None }, policy, endpoints)
}

fn random() -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(mesh_test::seed())
}

fn index(cluster: &Cluster, member: &Arc<Member>) -> usize {
    cluster.members().iter().position(|known| Arc::ptr_eq(known, member)).expect("a member of the cluster")
}

/// A request that is answered after a time; every probe that is due is answered at once.
fn request(cluster: &Cluster, now: Instant, rng: &mut Xoshiro256PlusPlus, takes: impl Fn(usize) -> Duration) -> usize {
    let member = cluster.pick(now, rng, &[]).unwrap();
    probe(cluster, now, rng, &takes);
    let mut request = InFlight::enter(cluster, &member).unwrap().sent_at(now);
    let chosen = index(cluster, &member);
    request.ended(now + takes(chosen), Ended::Answered);
    chosen
}

fn probe(cluster: &Cluster, now: Instant, rng: &mut Xoshiro256PlusPlus, takes: impl Fn(usize) -> Duration) -> usize {
    let due = cluster.probes_due(now, rng);
    due.map(|member| cluster.report(&member, LoadReport::new(0, takes(index(cluster, &member))), now)).count()
}

fn counts(cluster: &Cluster, requests: u64, takes: impl Fn(usize) -> Duration) -> Vec<u64> {
    let (start, mut rng) = (clock::now(), random());
    let mut counts = vec![0; cluster.members().len()];
    for n in 0..requests {
        counts[request(cluster, start + Duration::from_millis(n), &mut rng, &takes)] += 1;
    }
    counts
}

/// Within 5 standard deviations of a binomial share.
fn assert_share(count: u64, of: u64, share: f64, what: &str) {
    let bound = 5.0 * (of as f64 * share * (1.0 - share)).sqrt() + 1.0;
    assert!((count as f64 - of as f64 * share).abs() <= bound, "{what}: {count} of {of}, expected {share}");
}

/// The faster one of two at random: of ten at rest the k-th fastest gets (10 - k) / 45 of the requests.
#[test]
fn the_faster_of_two_has_the_share_of_two_choices() {
    // Hardly any decay: an endpoint that is rarely chosen would be tried a little more.
    let settings = PeakEwma::default().with_decay(Duration::from_secs(100_000)).with_default_rtt(Duration::ZERO);
    let cluster = cluster(&settings.into(), &[1; 10]);
    let takes = |n| Duration::from_millis(10 + n as u64);
    counts(&cluster, 2_000, takes);
    let counts = counts(&cluster, 20_000, takes);
    for (n, count) in counts.iter().enumerate() {
        assert_share(*count, 20_000, (9 - n) as f64 / 45.0, "two different ones, the faster");
    }
}

/// At rest and with the same latency shares are the weights, 1 : 1000 included.
#[test]
fn shares_follow_weights() {
    // New ones are chosen at once, as ties are: at random.
    let peak_ewma = PeakEwma::default().with_default_rtt(Duration::from_millis(10));
    for load_balancer in [peak_ewma.into(), Prequal::default().into()] {
        for weights in [&[1_u32, 1, 1, 1][..], &[1, 2, 5, 3, 7], &[1, 1000], &[u32::MAX, u32::MAX, u32::MAX / 2]] {
            let cluster = cluster(&load_balancer, weights);
            let (start, mut rng) = (clock::now(), random());
            let mut counts = vec![0; weights.len()];
            // No probe is answered: Prequal's choice is least request's of two by weight.
            for n in 0..20_000 {
                let now = start + Duration::from_millis(n);
                let member = cluster.pick(now, &mut rng, &[]).unwrap();
                let mut request = InFlight::enter(&cluster, &member).unwrap().sent_at(now);
                request.ended(now + Duration::from_millis(10), Ended::Answered);
                counts[index(&cluster, &member)] += 1;
            }
            // With latencies that are the same to the nanosecond it decides who was asked last: the cost of the others has
            // decayed a little further, which is worth something to the light ones.
            let bound = if matches!(load_balancer, LoadBalancer::PeakEwma(_)) { 0.05 } else { 0.02 };
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (weight, count) in weights.iter().zip(counts) {
                let share = f64::from(*weight) / total;
                let of = f64::from(count) / 20_000.0;
                assert!((of - share).abs() < bound, "{load_balancer:?} {weights:?}: {of} for {share}");
            }
        }
    }
}

#[test]
fn prequal_takes_the_best_of_the_pool() {
    let cluster = cluster(&Prequal::default().into(), &[1; 10]);
    let counts = counts(&cluster, 4_000, |n| Duration::from_millis(if n < 5 { 5 } else { 50 }));
    let slow: u64 = counts[5..].iter().sum();
    assert!(slow < 100, "{counts:?}");
    assert!(counts[..5].iter().all(|count| *count > 200), "{counts:?}");
}

/// An endpoint that is ejected, or was tried, is not chosen from the pool either.
#[test]
fn who_is_ejected_tried_or_gone_is_never_chosen() {
    for load_balancer in policies() {
        let cluster = cluster(&load_balancer, &[1; 10]);
        let (now, mut rng) = (clock::now(), random());
        // 0 and 1 are the best by far, and everybody knows.
        let takes = |n| Duration::from_millis(if n < 2 { 1 } else { 100 });
        for n in 0..200 {
            request(&cluster, now + Duration::from_millis(n), &mut rng, takes);
        }
        let now = now + Duration::from_millis(200);
        let members = cluster.members();
        cluster.record(&members[0], Outcome::ServerError, now);
        let tried = [Arc::clone(members[1].endpoint())];
        for _ in 0..2_000 {
            probe(&cluster, now, &mut rng, takes);
            let member = cluster.pick(now, &mut rng, &tried).unwrap();
            assert!(index(&cluster, &member) > 1, "{load_balancer:?}");
        }
        // And then both leave.
        let gone: HashSet<_> = members[..2].iter().map(|member| member.endpoint().address.clone()).collect();
        cluster.set_endpoints((2..10).map(|n| endpoint(n, 1)).collect());
        for _ in 0..2_000 {
            probe(&cluster, now, &mut rng, takes);
            members[..2].iter().for_each(|member| cluster.report(member, LoadReport::default(), now));
            let member = cluster.pick(now, &mut rng, &[]).unwrap();
            assert!(!gone.contains(&member.endpoint().address), "{load_balancer:?}");
        }
        assert!(members[..2].iter().all(|member| Arc::strong_count(member) == 1), "nobody keeps who left");
    }
}

/// What was learnt outlives a change of endpoints: the pool, and what is known of an address.
#[test]
fn a_change_of_endpoints_forgets_nothing() {
    for load_balancer in policies() {
        let cluster = cluster(&load_balancer, &[1; 10]);
        let (now, mut rng) = (clock::now(), random());
        let takes = |n: usize| Duration::from_millis(if n % 2 == 0 { 5 } else { 200 });
        for n in 0..500 {
            request(&cluster, now + Duration::from_millis(n), &mut rng, takes);
        }
        let now = now + Duration::from_millis(500);
        // The first one leaves, all others move.
        cluster.set_endpoints((1..11).map(|n| endpoint(n, 1)).collect());
        let slow = (0..200).filter(|_| {
            let member = cluster.pick(now, &mut rng, &[]).unwrap();
            let last = member.endpoint().address.to_string();
            ["10.0.0.2:80", "10.0.0.4:80", "10.0.0.6:80", "10.0.0.8:80", "10.0.0.10:80"].contains(&&*last)
        });
        // Of two at random both are slow 2 times in 9.
        assert!(slow.count() < 80, "{load_balancer:?}");
    }
}

#[test]
fn one_endpoint_none_and_all_ejected() {
    for load_balancer in policies() {
        let (now, mut rng) = (clock::now(), random());
        assert!(cluster(&load_balancer, &[]).pick(now, &mut rng, &[]).is_none());
        let alone = cluster(&load_balancer, &[1]);
        for _ in 0..100 {
            assert!(alone.pick(now, &mut rng, &[Arc::clone(alone.members()[0].endpoint())]).is_some());
            assert_eq!(probe(&alone, now, &mut rng, |_| Duration::ZERO), 0, "there is nothing to choose");
        }
        let cluster = cluster(&load_balancer, &[1; 4]);
        for n in 0..100 {
            request(&cluster, now + Duration::from_millis(n), &mut rng, |_| Duration::from_millis(5));
        }
        let now = now + Duration::from_millis(100);
        cluster.members().iter().for_each(|member| cluster.record(member, Outcome::ServerError, now));
        assert!(cluster.pick(now, &mut rng, &[]).is_none(), "{load_balancer:?}");
        assert_eq!(cluster.probes_due(now, &mut rng).len(), 0, "nobody to ask");
    }
}

/// All fail: everybody is avoided, and somebody is chosen all the same.
#[test]
fn when_all_fail_one_is_chosen_all_the_same() {
    for load_balancer in policies() {
        let policy = ClusterPolicy::default().with_load_balancer(load_balancer.clone());
        let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
        let endpoints = (0..5).map(|n| endpoint(n, 1)).collect();
        let cluster = Cluster::new(ClusterName { service, port: 80, subset: None }, policy, endpoints);
        let (start, mut rng) = (clock::now(), random());
        let mut chosen = HashSet::new();
        for n in 0..500 {
            let now = start + Duration::from_millis(n);
            let member = cluster.pick(now, &mut rng, &[]).unwrap();
            InFlight::enter(&cluster, &member).unwrap().sent_at(now).ended(now, Ended::Failed);
            chosen.insert(index(&cluster, &member));
        }
        assert_eq!(chosen.len(), 5, "{load_balancer:?}: not always the same");
    }
}

/// Hostile: clocks that go back, latencies of nothing and of hours, reports of any figures.
#[test]
fn no_time_or_figure_does_harm() {
    for load_balancer in policies() {
        let cluster = cluster(&load_balancer, &[1; 5]);
        let (start, mut rng) = (clock::now() + Duration::from_secs(100_000), random());
        let figures = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(36_000), Duration::MAX];
        for n in 0..5_000_u32 {
            let now = match n % 3 {
                0 => start - Duration::from_secs(u64::from(n) * 20),
                1 => start + Duration::from_secs(u64::from(n)),
                _ => start,
            };
            let member = cluster.pick(now, &mut rng, &[]).unwrap();
            let mut request = InFlight::enter(&cluster, &member).unwrap().sent_at(now);
            let how = [Ended::Answered, Ended::Failed, Ended::TimedOut, Ended::Abandoned][n as usize % 4];
            if n % 7 > 0 {
                request.ended(now - Duration::from_secs(u64::from(n % 5)), how);
                request.ended(now + figures[n as usize % 3], how);
            }
            for member in cluster.probes_due(now, &mut rng) {
                cluster.report(&member, LoadReport::new(u32::MAX - n % 2, figures[n as usize % 4]), now);
            }
        }
        assert_eq!(cluster.in_flight(), 0);
        assert!(cluster.members().iter().all(|member| member.in_flight() == 0));
    }
}

/// Picks, reports and changes of endpoints from many threads at once.
#[test]
fn threads_share_a_cluster() {
    for load_balancer in policies() {
        let cluster = cluster(&load_balancer, &[1; 50]);
        let (start, done) = (clock::now(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (cluster, done) = (&cluster, &done);
                scope.spawn(move || {
                    let mut rng = Xoshiro256PlusPlus::seed_from_u64(thread);
                    for n in 0..3_000_u64 {
                        let now = start + Duration::from_micros(n * 100);
                        let member = cluster.pick(now, &mut rng, &[]).unwrap();
                        let mut request = InFlight::enter(cluster, &member).unwrap().sent_at(now);
                        for member in cluster.probes_due(now, &mut rng) {
                            cluster.report(&member, LoadReport::new(1, Duration::from_millis(5)), now);
                        }
                        request.ended(now + Duration::from_millis(3), Ended::Answered);
                    }
                    done.store(true, Ordering::Relaxed);
                });
            }
            let mut first = 0;
            while !done.load(Ordering::Relaxed) {
                first = (first + 1) % 40;
                cluster.set_endpoints((first..first + 10).map(|n| endpoint(n, 1)).collect());
            }
        });
        assert_eq!(cluster.in_flight(), 0, "{load_balancer:?}");
    }
}

/// 0 allocations for each pick, whatever is learnt beside it.
#[test]
fn a_pick_allocates_nothing() {
    for load_balancer in policies() {
        for weights in [&[1; 10][..], &[1, 2, 3, 4], &[1; 1_000]] {
            let cluster = cluster(&load_balancer, weights);
            let (start, mut rng) = (clock::now(), random());
            let takes = |n: usize| Duration::from_millis(n as u64 % 7);
            for n in 0..5_000 {
                request(&cluster, start + Duration::from_micros(n), &mut rng, takes);
            }
            let members = cluster.members();
            // What is kept of an endpoint is made with its first request.
            for member in members.iter() {
                drop(InFlight::enter(&cluster, member).unwrap().sent_at(start));
            }
            let counted = allocation_counter::measure(|| {
                for n in 5_000..10_000 {
                    let now = start + Duration::from_micros(n);
                    let member = cluster.pick(now, &mut rng, &[]).unwrap();
                    let mut request = InFlight::enter(&cluster, &member).unwrap().sent_at(now);
                    for member in cluster.probes_due(now, &mut rng) {
                        cluster.report(&member, LoadReport::new(1, Duration::from_millis(5)), now);
                    }
                    let how = if n % 97 == 0 { Ended::Failed } else { Ended::Answered };
                    request.ended(now + Duration::from_millis(3), how);
                }
            });
            assert_eq!(counted.count_total, 0, "{load_balancer:?} of {}", members.len());
        }
    }
}
