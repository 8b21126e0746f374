//! One version for all, or none.

use std::path::PathBuf;

use mesh::ResponseFlag;
use mesh_test::Scratch;

use super::common::until;
use super::world::{
    DESTINATION_RULE_ALL, DETAILS, RATINGS, REVIEWS, World, ask, ask_as, assert_all, line, put, shares,
};

const UNAVAILABLE: &str = "Sorry, product details are currently unavailable for this book.";

/// All to v1. Its subsets come in a second file: until that is there every use is a 503 (NC), as in Istio.
pub async fn virtual_service_all_v1(directory: PathBuf) {
    let file = "virtual-service-all-v1.yaml";
    let scratch = Scratch::new();
    let later = scratch.path().to_owned();
    let world = World::start_with(&directory, &[file], |mut options| {
        options.apply.push(later.clone());
        options
    })
    .await;
    let undefined = ["productpage", "reviews", "ratings", "details"].into_iter().enumerate();
    let undefined = undefined.map(|(nth, service)| {
        let line = line(&directory, file, "subset: v1", nth);
        format!(
            "{file}:{line}: VirtualService default/{service}: no DestinationRule defines the subset v1 of \
             {service}.default.svc.cluster.local: requests that go there are answered with 503 (NC) until it is"
        )
    });
    assert_eq!(world.warnings(), Vec::from_iter(undefined));
    let client = world.client("productpage-v1");
    for url in [REVIEWS, RATINGS, DETAILS, "http://productpage:9080/"] {
        ask(&client, url).await.assert_local(503, ResponseFlag::NoClusterFound);
    }
    world.page_shows("", &[UNAVAILABLE, "Sorry, product reviews are currently unavailable for this book."]).await;

    put(&directory, DESTINATION_RULE_ALL, scratch.path());
    for service in &world.running.services {
        until("the subsets are in force", || async { service.mesh().issues().is_empty() }).await;
    }
    assert_all(&shares(&client, REVIEWS).await, "reviews-v1");
    assert_all(&shares(&client, RATINGS).await, "ratings-v1");
    assert_all(&shares(&client, DETAILS).await, "details-v1");
    assert_eq!(ask(&client, "http://productpage:9080/productpage").await.status, 200);
    world.page_shows("", &["reviews-v1</strong> · no stars", "details-v1"]).await;
}

pub async fn virtual_service_reviews_v3(directory: PathBuf) {
    let world = World::start(&directory, &[DESTINATION_RULE_ALL, "virtual-service-reviews-v3.yaml"]).await;
    assert_eq!(world.warnings(), [""; 0]);
    assert_all(&shares(&world.client("productpage-v1"), REVIEWS).await, "reviews-v3");
    let jason = world.sign_in("jason").await;
    for cookie in [&*jason, ""] {
        world.page_shows(cookie, &["reviews-v3</strong> · red stars"]).await;
    }
}

pub async fn virtual_service_details_v2(directory: PathBuf) {
    let world = World::start(&directory, &[DESTINATION_RULE_ALL, "virtual-service-details-v2.yaml"]).await;
    assert_eq!(world.warnings(), [""; 0]);
    assert_all(&shares(&world.client("productpage-v1"), DETAILS).await, "details-v2");
    world.page_shows("", &["details-v2", "library catalogue"]).await;
}

/// 555 for everybody, as it stands; the second rule can never be reached, and that is said. The file brings its own
/// subsets, so it is applied alone.
pub async fn fault_injection_details_v1(directory: PathBuf) {
    let file = "fault-injection-details-v1.yaml";
    let world = World::start(&directory, &[file]).await;
    let second_rule = line(&directory, file, "- route:", 0);
    // istio [V] ErrorF: Istio's own message.
    assert_eq!(
        world.warnings(),
        [format!(
            "{file}:{second_rule}: VirtualService default/details: virtualService rule #1 not used (only the last rule \
             can have no matches)"
        )]
    );
    for caller in ["productpage-v1", "reviews-v2"] {
        let client = world.client(caller);
        for _ in 0..100 {
            for answer in [ask(&client, DETAILS).await, ask_as(&client, DETAILS, "jason").await] {
                answer.assert_local(555, ResponseFlag::FaultInjected);
                assert_eq!(answer.body, "fault filter abort");
            }
        }
    }
    let jason = world.sign_in("jason").await;
    for cookie in [&*jason, ""] {
        assert_eq!(world.visit("/api/v1/products/0", cookie).await.status(), 555);
        world.page_shows(cookie, &[UNAVAILABLE, "answered 555", "<strong>reviews-v"]).await;
    }
}
