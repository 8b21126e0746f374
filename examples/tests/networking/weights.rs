//! Shares: by weight, and by nobody's rule but the balancer's.

use std::path::{Path, PathBuf};

use super::world::{DESTINATION_RULE_ALL, REVIEWS, World, assert_shares, open, shares};

const RULE_REVIEWS: &str = "destination-rule-reviews.yaml";

pub async fn virtual_service_reviews_50_v3(directory: PathBuf) {
    weights(&directory, "virtual-service-reviews-50-v3.yaml", &[("reviews-v1", 50.0), ("reviews-v3", 50.0)]).await;
}

pub async fn virtual_service_reviews_80_20(directory: PathBuf) {
    weights(&directory, "virtual-service-reviews-80-20.yaml", &[("reviews-v1", 80.0), ("reviews-v2", 20.0)]).await;
}

pub async fn virtual_service_reviews_90_10(directory: PathBuf) {
    weights(&directory, "virtual-service-reviews-90-10.yaml", &[("reviews-v1", 90.0), ("reviews-v2", 10.0)]).await;
}

pub async fn virtual_service_reviews_v2_v3(directory: PathBuf) {
    weights(&directory, "virtual-service-reviews-v2-v3.yaml", &[("reviews-v2", 50.0), ("reviews-v3", 50.0)]).await;
}

/// istio networking/v1alpha3 HTTPRouteDestination.weight: "Weight specifies the relative proportion of traffic to be
/// forwarded to the destination".
async fn weights(directory: &Path, file: &str, expected: &[(&str, f64)]) {
    let world = World::start(directory, &[DESTINATION_RULE_ALL, file]).await;
    assert_eq!(world.warnings(), [""; 0]);
    assert_shares(&shares(&world.client("productpage-v1"), REVIEWS).await, expected);
    let page = world.visit("/productpage", "").await;
    assert!(expected.iter().any(|(pod, _)| page.body().contains(&format!("{pod}</strong> · "))), "{}", page.body());
}

/// istio networking/v1alpha3 LoadBalancerSettings.SimpleLB RANDOM: "The random load balancer selects a random healthy
/// host". v1 is kept busy meanwhile: whoever prefers the least busy, as the default does, would not ask it again.
pub async fn destination_rule_reviews(directory: PathBuf) {
    let world = World::start(&directory, &[RULE_REVIEWS]).await;
    assert_eq!(world.warnings(), [""; 0]);
    let client = world.client("productpage-v1");
    let v1 = world.running.service("reviews-v1").unwrap().address.to_string();
    let mut in_flight = Vec::new();
    for _ in 0..100 {
        // A request is in flight until its response has been read.
        let response = open(&client, REVIEWS).await;
        let exchange = response.extensions().get::<mesh::Exchange>().unwrap();
        if exchange.endpoint.as_ref().unwrap().address.to_string() == v1 {
            in_flight.push(response);
        }
    }
    // 100 draws of one of three: 33, less 5 standard deviations of 4.7.
    assert!(in_flight.len() >= 10, "v1 was avoided once it was busy: {}", in_flight.len());
    let third = 100.0 / 3.0;
    let expected = [("reviews-v1", third), ("reviews-v2", third), ("reviews-v3", third)];
    assert_shares(&shares(&client, REVIEWS).await, &expected);
    drop(in_flight);
}
