//! Who asks decides: `end-user` is exactly `jason`, or it is not.

use std::path::{Path, PathBuf};

use super::world::{DESTINATION_RULE_ALL, REVIEWS, World, ask, ask_as};

pub async fn virtual_service_reviews_test_v2(directory: PathBuf) {
    jason_and_others(&directory, "virtual-service-reviews-test-v2.yaml", "reviews-v1").await;
}

pub async fn virtual_service_reviews_jason_v2_v3(directory: PathBuf) {
    jason_and_others(&directory, "virtual-service-reviews-jason-v2-v3.yaml", "reviews-v3").await;
}

/// istio networking/v1alpha3 HTTPMatchRequest.headers: "Header values are case-sensitive".
async fn jason_and_others(directory: &Path, file: &str, others: &str) {
    let world = World::start(directory, &[DESTINATION_RULE_ALL, file]).await;
    assert_eq!(world.warnings(), [""; 0]);

    let client = world.client("productpage-v1");
    for _ in 0..100 {
        assert_eq!(ask_as(&client, REVIEWS, "jason").await.pod(), "reviews-v2");
        assert_eq!(ask(&client, REVIEWS).await.pod(), others);
        for user in ["Jason", "JASON", "jason2", "jaso", "mary", "mary,jason", ""] {
            assert_eq!(ask_as(&client, REVIEWS, user).await.pod(), others, "{user:?}");
        }
    }

    let stars = if others == "reviews-v1" { "no stars" } else { "red stars" };
    let shown_to_others = format!("{others}</strong> · {stars}");
    let (jason, mary) = (world.sign_in("jason").await, world.sign_in("Jason").await);
    for _ in 0..10 {
        world.page_shows(&jason, &["Signed in as <strong>jason<", "reviews-v2</strong> · black stars"]).await;
        world.page_shows(&mary, &["Signed in as <strong>Jason<", &shown_to_others]).await;
        world.page_shows("", &[&shown_to_others]).await;
    }
}
