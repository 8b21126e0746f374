//! What the layer tells the policies that learn from latency.

use mesh_core::Resend;
use tokio::time::timeout;

use super::*;
use crate::{ConnectionLimits, PeakEwma, Prequal};

fn learning(ips: &[&str]) -> Cluster {
    cluster(ClusterPolicy::default().with_load_balancer(PeakEwma::default().into()), ips)
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// What a request costs at the first endpoint, in milliseconds.
fn cost(cluster: &Cluster) -> f64 {
    let (member, now) = (&cluster.members()[0], cluster.moment(clock::now()).now);
    (member.latency().load(&PeakEwma::default(), now, 0, 0, 1.0) / 1e6).round()
}

/// The only request to a cluster: answered after a time with a status, or an error.
async fn request(
    cluster: &Cluster,
    takes: Duration,
    answer: impl Fn() -> Result<u16, Error> + Clone,
) -> Result<http::StatusCode, Error> {
    let service = BalanceLayer::new().layer(service_fn(move |_: Picked<Request<Empty<Bytes>>>| {
        let answer = answer.clone();
        async move {
            tokio::time::sleep(takes).await;
            answer().map(|status| Response::builder().status(status).body(Full::<Bytes>::from("hello")).unwrap())
        }
    }));
    service.oneshot(routed(cluster)).await.map(|response| response.status())
}

/// load-balancing.md 2.2, peak EWMA: the latency of a response's head is a sample.
#[tokio::test(start_paused = true)]
async fn answers_are_samples() {
    let cluster = learning(&["10.0.0.1"]);
    assert_eq!(cost(&cluster), 30.0, "the default");
    request(&cluster, ms(200), || Ok(200)).await.unwrap();
    assert_eq!(cost(&cluster), 200.0);
    request(&cluster, ms(300), || Ok(404)).await.unwrap();
    assert_eq!(cost(&cluster), 300.0, "an answer, as outlier detection has it");
}

/// load-balancing.md 2.1: "always record timeouts/cancels as (censored) latency samples".
#[tokio::test(start_paused = true)]
async fn what_is_given_up_takes_at_least_as_long() {
    let cluster = learning(&["10.0.0.1"]);
    request(&cluster, ms(100), || Ok(200)).await.unwrap();
    assert!(timeout(ms(500), request(&cluster, ms(5_000), || Ok(200))).await.is_err());
    assert_eq!(cost(&cluster), 500.0);
    assert!(timeout(ms(100), request(&cluster, ms(5_000), || Ok(200))).await.is_err());
    // Decayed by the 100 ms, and no more.
    assert_eq!(cost(&cluster), (500.0 * (-0.01_f64).exp()).round());
}

/// Who fails fast must not look fast, whether or not outlier detection looks.
#[tokio::test(start_paused = true)]
async fn a_fast_failure_does_not_look_fast() {
    let fails: [fn() -> Result<u16, Error>; 2] = [|| Ok(503), || Err(Error::new(Reason::ConnectFailure))];
    for fails in fails {
        let cluster = learning(&["10.0.0.1", "10.0.0.2"]);
        let mut failed = 0;
        for _ in 0..200 {
            let service =
                BalanceLayer::new().layer(service_fn(move |picked: Picked<Request<Empty<Bytes>>>| async move {
                    let first = picked.member.endpoint().address == EndpointAddress::new("10.0.0.1", 9080);
                    tokio::time::sleep(ms(if first { 1 } else { 40 })).await;
                    let status = if first { fails()? } else { 200 };
                    Ok::<_, Error>(Response::builder().status(status).body(Full::<Bytes>::from("hello")).unwrap())
                }));
            failed +=
                u32::from(!service.oneshot(routed(&cluster)).await.is_ok_and(|response| response.status() == 200));
        }
        assert_eq!(failed, 1, "one is enough");
        assert!(cluster.members()[0].latency().is_avoided(cluster.moment(clock::now())));
        assert_eq!(in_flight(&cluster), (0, 0));
    }
}

/// A deadline that passed is the endpoint's failure, a caller that went away is not.
#[tokio::test(start_paused = true)]
async fn timeouts_are_failures_and_cancelled_calls_are_not() {
    for (wait, avoided) in [(ms(1_000), false), (ms(2_000), true)] {
        let cluster = learning(&["10.0.0.1"]);
        let service = BalanceLayer::new().layer(service_fn(|_: Picked<Request<Empty<Bytes>>>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Error>>()
        }));
        let mut routed = routed(&cluster);
        routed.request.extensions_mut().insert(Deadline(clock::now() + ms(2_000)));
        assert!(timeout(wait, service.oneshot(routed)).await.is_err());
        let member = &cluster.members()[0];
        assert_eq!(member.latency().is_avoided(cluster.moment(clock::now())), avoided, "{wait:?}");
        assert_eq!(cost(&cluster), wait.as_millis() as f64);
    }
    // The same for a timeout that comes as an error.
    for reason in [Reason::Timeout, Reason::PerTryTimeout] {
        let cluster = learning(&["10.0.0.1"]);
        request(&cluster, ms(400), || Ok(200)).await.unwrap();
        request(&cluster, ms(100), || Err(Error::new(reason))).await.unwrap_err();
        assert!(cluster.members()[0].latency().is_avoided(cluster.moment(clock::now())));
        assert_eq!(cost(&cluster), (400.0 * (-0.01_f64).exp()).round(), "censored, and so no sample of 100 ms");
    }
}

/// What no endpoint answers for says nothing about one: a pooled connection that ended, the queue for a connection.
#[tokio::test(start_paused = true)]
async fn what_an_endpoint_did_not_do_is_no_sample() {
    let cluster = learning(&["10.0.0.1"]);
    let ended = || Err(Error::new(Reason::Reset { request_sent: true }).with_resend(Some(Resend::ConnectionEnded)));
    request(&cluster, ms(700), ended).await.unwrap_err();
    request(&cluster, ms(700), || Err(Error::new(Reason::Overflow))).await.unwrap_err();
    assert!(cost(&cluster) < 30.0, "nothing is known");

    let mut policy = ClusterPolicy::default().with_load_balancer(PeakEwma::default().into());
    policy.connections = ConnectionLimits { max_connections: 1, ..ConnectionLimits::default() };
    let limited = self::cluster(policy, &["10.0.0.1"]);
    let queueing = BalanceLayer::new().layer(service_fn(|picked: Picked<Request<Empty<Bytes>>>| async move {
        picked.queued.expect("connections are limited").set(true);
        std::future::pending::<Result<Response<Full<Bytes>>, Error>>().await
    }));
    assert!(timeout(ms(700), queueing.oneshot(routed(&limited))).await.is_err());
    assert!(cost(&limited) < 30.0);
    for cluster in [cluster, limited] {
        assert_eq!(in_flight(&cluster), (0, 0));
        let later = cluster.moment(clock::now() + Duration::from_secs(5)).now;
        assert_eq!(cluster.members()[0].latency().silence(later, 1e10), 0.0, "nothing is waited for");
    }
}

/// Prequal learns from the same.
#[tokio::test(start_paused = true)]
async fn prequal_avoids_who_fails() {
    let policy = ClusterPolicy::default().with_load_balancer(Prequal::default().into());
    let cluster = cluster(policy, &["10.0.0.1"]);
    request(&cluster, ms(10), || Ok(500)).await.unwrap();
    assert!(cluster.members()[0].latency().is_avoided(cluster.moment(clock::now())));
}
