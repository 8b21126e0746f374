//! Ratings: other versions, some of which nobody runs, and faults for jason alone.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mesh::ResponseFlag;
use serde_json::Value;
use tokio::time::Instant;

use super::common::until;
use super::world::{DESTINATION_RULE_ALL, RATINGS, REVIEWS, World, ask, ask_as, assert_all, shares};

const TEST_V2: &str = "virtual-service-reviews-test-v2.yaml";
const NO_STARS: &str = "Ratings service is currently unavailable";
const NO_REVIEWS: &str = "Sorry, product reviews are currently unavailable for this book.";

pub async fn virtual_service_ratings_db(directory: PathBuf) {
    let world = World::start(&directory, &[DESTINATION_RULE_ALL, "virtual-service-ratings-db.yaml"]).await;
    assert_eq!(world.warnings(), [""; 0]);
    let client = world.client("productpage-v1");
    assert_all(&shares(&client, REVIEWS).await, "reviews-v3");
    for caller in ["productpage-v1", "reviews-v3"] {
        assert_all(&shares(&world.client(caller), RATINGS).await, "ratings-v2");
    }
    assert_eq!(ask(&client, REVIEWS).await.body["ratings_podname"], "ratings-v2");
    world.page_shows("", &["reviews-v3</strong> · red stars", "ratings-v2"]).await;
}

pub async fn virtual_service_ratings_mysql(directory: PathBuf) {
    version_that_nobody_runs(&directory, "virtual-service-ratings-mysql.yaml", "v2-mysql").await;
}

pub async fn virtual_service_ratings_mysql_vm(directory: PathBuf) {
    version_that_nobody_runs(&directory, "virtual-service-ratings-mysql-vm.yaml", "v2-mysql-vm").await;
}

/// The subset is defined and has no endpoints: each use is a 503 (UH), and reviews go without stars.
async fn version_that_nobody_runs(directory: &Path, file: &str, subset: &str) {
    let world = World::start(directory, &[DESTINATION_RULE_ALL, file]).await;
    assert_eq!(world.warnings(), [""; 0]);
    let client = world.client("productpage-v1");
    assert_all(&shares(&client, REVIEWS).await, "reviews-v3");
    for caller in ["productpage-v1", "reviews-v3"] {
        let client = world.client(caller);
        for _ in 0..100 {
            let answer = ask(&client, RATINGS).await;
            answer.assert_local(503, ResponseFlag::NoHealthyUpstream);
            assert_eq!(answer.body, "no healthy upstream");
            let cluster = answer.exchange.cluster.as_ref().unwrap().to_string();
            assert_eq!(cluster, format!("outbound|9080|{subset}|ratings.default.svc.cluster.local"));
        }
    }
    world.page_shows("", &["reviews-v3</strong> · stars unavailable", NO_STARS]).await;
    assert_eq!(world.visit("/api/v1/products/0/ratings", "").await.status(), 503);
}

/// 7 s for jason, which is more than productpage waits, twice, and less than reviews v2 does; nothing for others.
///
/// istio networking/v1alpha3 HTTPFaultInjection.Delay.fixedDelay: "Add a fixed delay before forwarding the request".
pub async fn virtual_service_ratings_test_delay(directory: PathBuf) {
    let file = "virtual-service-ratings-test-delay.yaml";
    let world = World::start(&directory, &[DESTINATION_RULE_ALL, TEST_V2, file]).await;
    assert_eq!(world.warnings(), [""; 0]);
    let jason = world.sign_in("jason").await;
    let mary = world.sign_in("mary").await;
    let reviews_v2 = world.client("reviews-v2");

    let page_of_jason = async {
        let started = Instant::now();
        world.page_shows(&jason, &[NO_REVIEWS, "no answer in time", "details-v"]).await;
        (started.elapsed(), Instant::now())
    };
    let ratings_for_jason = async {
        let started = Instant::now();
        (ask_as(&reviews_v2, RATINGS, "jason").await, started.elapsed())
    };
    let reviews_for_jason = async {
        let started = Instant::now();
        (ask_as(&world.client("productpage-v1"), REVIEWS, "jason").await, started.elapsed())
    };
    let others = async {
        for _ in 0..50 {
            world.page_shows(&mary, &["reviews-v1</strong> · no stars"]).await;
            for user in ["mary", "Jason", ""] {
                let answer = ask_as(&reviews_v2, RATINGS, user).await;
                assert_eq!(answer.pod(), "ratings-v1");
                assert!(!answer.has(ResponseFlag::DelayInjected));
            }
        }
        Instant::now()
    };
    let ((page_took, page_shown), (ratings, ratings_took), (reviews, reviews_took), others_done) =
        tokio::join!(page_of_jason, ratings_for_jason, reviews_for_jason, others);

    // Two calls of 3 s each, given up before the delay is over.
    assert!((6.0..7.0).contains(&page_took.as_secs_f64()), "{page_took:?}");
    // Without productpage's impatience: 7 s, then the answer, stars and all.
    for (took, answer) in [(ratings_took, &ratings), (reviews_took, &reviews)] {
        assert!((7.0..8.0).contains(&took.as_secs_f64()), "{took:?}");
        assert_eq!(answer.status, 200);
    }
    assert_eq!(ratings.pod(), "ratings-v1");
    assert!(ratings.has(ResponseFlag::DelayInjected), "{ratings:?}");
    assert_eq!((reviews.pod(), &reviews.body["ratings_podname"]), ("reviews-v2", &Value::from("ratings-v1")));
    // 200 requests of others while jason waited for one.
    assert!(others_done + Duration::from_secs(1) < page_shown, "{:?} before", page_shown - others_done);
}

/// 500 for jason, from the caller's mesh: no attempt is made. Nothing for others.
pub async fn virtual_service_ratings_test_abort(directory: PathBuf) {
    let file = "virtual-service-ratings-test-abort.yaml";
    let world = World::start(&directory, &[DESTINATION_RULE_ALL, TEST_V2, file]).await;
    assert_eq!(world.warnings(), [""; 0]);
    let jason = world.sign_in("jason").await;
    let reviews_v2 = world.client("reviews-v2");
    for _ in 0..100 {
        let answer = ask_as(&reviews_v2, RATINGS, "jason").await;
        answer.assert_local(500, ResponseFlag::FaultInjected);
        assert_eq!(answer.body, "fault filter abort");
        assert_eq!(answer.exchange.attempts, 0);
    }
    for _ in 0..10 {
        world.page_shows(&jason, &["reviews-v2</strong> · stars unavailable", NO_STARS]).await;
        assert_eq!(world.visit("/api/v1/products/0/ratings", &jason).await.status(), 500);
    }
    assert_eq!(received(&world, "ratings-v1"), 0, "no request came through");

    for user in ["mary", "Jason", ""] {
        assert_eq!(ask_as(&reviews_v2, RATINGS, user).await.pod(), "ratings-v1");
    }
    let mary = world.sign_in("mary").await;
    for cookie in [&*mary, ""] {
        assert_eq!(world.visit("/api/v1/products/0/ratings", cookie).await.status(), 200);
        world.page_shows(cookie, &["reviews-v1</strong> · no stars"]).await;
    }
    until("those of the others are counted", || async { received(&world, "ratings-v1") == 5 }).await;
}

/// How many requests a service counted as their receiver.
fn received(world: &World, service: &str) -> u64 {
    let metrics = world.running.service(service).unwrap().mesh().metrics_text();
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{") && line.contains(r#"reporter="destination""#));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
