//! Requests to a service of which nothing is known yet. Time is paused: what takes none is seen to take none.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use mesh_core::{
    MeshConfig, Workload,
    config::{Document, Issues},
    discover::Update,
    registry::Registry,
};
use tokio::time::{Instant, timeout};

use super::*;
use crate::{Clusters, DestinationRules, Origin, SubsetClient, Want, Wants};

/// A service without endpoints, with two sources that may know some.
fn discovered() -> (Clusters, Wants, Cluster) {
    let yaml = "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {name: db}\nspec:\n  hosts: [db.test]\n  \
                ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n";
    let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
    let documents = Document::parse_all("db.yaml", yaml, &mut issues);
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    let (clusters, wants) = Clusters::discovering(SubsetClient::Seed(1), 2, false);
    let set = clusters.build(&registry, &DestinationRules::new(&[]), &Workload::new("default", "client"), &mesh);
    let cluster = set.iter().next().unwrap().clone();
    (clusters, wants, cluster)
}

async fn send(cluster: Cluster) -> Result<String, Error> {
    let service = BalanceLayer::new().layer(service_fn(async |picked: Picked<Request<Empty<Bytes>>>| {
        let address = picked.member.endpoint().address.to_string();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(address)))
    }));
    let response = service.oneshot(routed(&cluster)).await?;
    Ok(String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap())
}

fn endpoints(ips: &[&str]) -> Update {
    Update::Reset(ips.iter().map(|ip| Arc::new(Endpoint::new(EndpointAddress::new(ip, 80)))).collect())
}

/// A request that waits, and whoever it woke.
async fn waiting(wants: &mut Wants, cluster: &Cluster) -> (tokio::task::JoinHandle<Result<String, Error>>, Want) {
    let request = tokio::spawn(send(cluster.clone()));
    let want = wants.next().await.unwrap();
    tokio::task::yield_now().await;
    assert!(!request.is_finished());
    (request, want)
}

/// Issue "Discovery": "A change is in effect for the next pick within 10 ms of the source seeing it". It takes no time.
#[tokio::test(start_paused = true)]
async fn the_first_requests_wait_for_the_first_endpoint_and_take_it_at_once() {
    let (clusters, mut wants, cluster) = discovered();
    let start = Instant::now();
    let (first, want) = waiting(&mut wants, &cluster).await;
    let second = tokio::spawn(send(cluster.clone()));
    tokio::task::yield_now().await;
    clusters.tell(&want, Origin::Given(1), endpoints(&["10.0.0.1"]));
    assert_eq!(first.await.unwrap().unwrap(), "10.0.0.1:80");
    assert_eq!(second.await.unwrap().unwrap(), "10.0.0.1:80");
    clusters.tell(&want, Origin::Given(1), endpoints(&["10.0.0.2"]));
    assert_eq!(send(cluster.clone()).await.unwrap(), "10.0.0.2:80");
    assert_eq!(Instant::now(), start);
    assert_eq!(in_flight(&cluster), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn when_all_have_answered_and_there_is_none_nobody_waits() {
    let (clusters, mut wants, cluster) = discovered();
    let start = Instant::now();
    let (request, want) = waiting(&mut wants, &cluster).await;
    clusters.tell(&want, Origin::Given(0), Update::Gone);
    clusters.tell(&want, Origin::Given(1), endpoints(&[]));
    tokio::task::yield_now().await;
    assert!(!request.is_finished());
    want.interest.answered();
    assert_eq!(request.await.unwrap().unwrap_err().reason(), Reason::NoHealthyUpstream);
    assert_eq!(send(cluster).await.unwrap_err().reason(), Reason::NoHealthyUpstream);
    assert_eq!(Instant::now(), start);
}

/// DestinationRule connectTimeout, 10 s where nobody says otherwise, counted from the first request.
#[tokio::test(start_paused = true)]
async fn a_source_that_stays_silent_is_waited_for_no_longer_than_a_connection() {
    let (clusters, mut wants, cluster) = discovered();
    let start = Instant::now();
    let (first, want) = waiting(&mut wants, &cluster).await;
    tokio::time::advance(Duration::from_secs(7)).await;
    let second = tokio::spawn(send(cluster.clone()));
    for request in [first, second] {
        assert_eq!(request.await.unwrap().unwrap_err().reason(), Reason::NoHealthyUpstream);
        assert_eq!((Instant::now() - start).as_secs(), 10);
    }
    let third = timeout(Duration::ZERO, send(cluster.clone())).await.unwrap();
    assert_eq!(third.unwrap_err().reason(), Reason::NoHealthyUpstream);
    // It is never too late for an answer.
    clusters.tell(&want, Origin::Given(0), endpoints(&["10.0.0.3"]));
    assert_eq!(send(cluster).await.unwrap(), "10.0.0.3:80");
}

/// A caller that goes away leaves nothing behind, and a request that finds an endpoint never waits.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_up_is_not_sent() {
    let (clusters, mut wants, cluster) = discovered();
    {
        let mut request = pin!(send(cluster.clone()));
        assert!(request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let want = wants.next().await.unwrap();
    clusters.tell(&want, Origin::Given(0), endpoints(&["10.0.0.1"]));
    assert_eq!(in_flight(&cluster), (0, 0));
    let mut request = pin!(send(cluster.clone()));
    assert!(request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}
