//! HTTPRoutes whose parent is a service; their backends are services of one version each, which Istio keeps in
//! `platform/kube/bookinfo-versions.yaml`.

use std::path::{Path, PathBuf};

use mesh::ResponseFlag;

use crate::world::{DETAILS, RATINGS, REVIEWS, World, ask, assert_all, assert_shares, line, shares};

/// Bookinfo with the services of each version and one of the files.
async fn start(directory: &Path, file: &str) -> World {
    let versions = directory.join("../platform/bookinfo-versions.yaml");
    World::start_with(directory, &[file], |mut options| {
        options.apply.push(versions);
        options
    })
    .await
}

/// A Gateway with its HTTPRoute: accepted, reported, and without effect between services.
pub async fn bookinfo_gateway(directory: PathBuf) {
    let file = "bookinfo-gateway.yaml";
    let world = World::start(&directory, &[file]).await;
    let (gateway, route) =
        (line(&directory, file, "gatewayClassName", 0), line(&directory, file, "- name: bookinfo-gateway", 0));
    assert_eq!(
        world.warnings(),
        [
            format!("{file}:{gateway}: Gateway default/bookinfo-gateway: Gateway is not enforced in-process"),
            format!(
                "{file}:{route}: HTTPRoute default/bookinfo: applies to gateways only, not to the mesh: not in force \
                 in-process"
            ),
        ]
    );
    // Its rules do not name this path: at the gateway it is 404.
    assert_eq!(ask(&world.client("reviews-v1"), "http://productpage:9080/health").await.status, 200);
    world.page_shows("", &["The Comedy of Errors"]).await;
}

/// Until the services of the versions are there every use is a 500 (gateway API HTTPRouteRule.backendRefs: "500 status
/// codes MUST be returned for requests that would have otherwise been routed to an invalid backend").
pub async fn route_all_v1(directory: PathBuf) {
    let file = "route-all-v1.yaml";
    let world = start(&directory, file).await;
    assert_eq!(world.warnings(), [""; 0]);
    let client = world.client("productpage-v1");
    assert_all(&shares(&client, REVIEWS).await, "reviews-v1");
    assert_all(&shares(&client, RATINGS).await, "ratings-v1");
    assert_all(&shares(&client, DETAILS).await, "details-v1");
    let answer = ask(&client, DETAILS).await;
    let cluster = answer.exchange.cluster.as_ref().unwrap().to_string();
    assert_eq!(cluster, "outbound|9080||details-v1.default.svc.cluster.local");
    world.page_shows("", &["reviews-v1</strong> · no stars", "details-v1"]).await;

    let world = World::start(&directory, &[file]).await;
    let lines = (0..4).map(|nth| line(&directory, file, "-v1", nth));
    let routes = ["reviews", "productpage", "ratings", "details"].into_iter().zip(lines);
    let expected = routes.map(|(service, line)| {
        format!(
            "{file}:{line}: HTTPRoute default/{service}: host {service}-v1.default.svc.cluster.local is not in the registry: \
             requests that go there are answered with 500 (NC) until it is"
        )
    });
    assert_eq!(world.warnings(), Vec::from_iter(expected));
    ask(&world.client("productpage-v1"), REVIEWS).await.assert_local(500, ResponseFlag::NoClusterFound);
}

pub async fn route_reviews_v1(directory: PathBuf) {
    one_version(&directory, "route-reviews-v1.yaml", "reviews-v1", "no stars").await;
}

pub async fn route_reviews_v3(directory: PathBuf) {
    one_version(&directory, "route-reviews-v3.yaml", "reviews-v3", "red stars").await;
}

async fn one_version(directory: &Path, file: &str, pod: &str, stars: &str) {
    let world = start(directory, file).await;
    assert_eq!(world.warnings(), [""; 0]);
    assert_all(&shares(&world.client("productpage-v1"), REVIEWS).await, pod);
    world.page_shows("", &[&format!("{pod}</strong> · {stars}")]).await;
    // A service of one version has no route of its own.
    assert_eq!(ask(&world.client("productpage-v1"), "http://reviews-v2:9080/reviews/0").await.pod(), "reviews-v2");
}

/// gateway API BackendRef.weight: "Weight specifies the proportion of requests forwarded to the referenced backend."
pub async fn route_reviews_50_v3(directory: PathBuf) {
    weights(&directory, "route-reviews-50-v3.yaml", &[("reviews-v1", 50.0), ("reviews-v3", 50.0)]).await;
}

pub async fn route_reviews_90_10(directory: PathBuf) {
    weights(&directory, "route-reviews-90-10.yaml", &[("reviews-v1", 90.0), ("reviews-v2", 10.0)]).await;
}

async fn weights(directory: &Path, file: &str, expected: &[(&str, f64)]) {
    let world = start(directory, file).await;
    assert_eq!(world.warnings(), [""; 0]);
    assert_shares(&shares(&world.client("productpage-v1"), REVIEWS).await, expected);
}
