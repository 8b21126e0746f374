//! A running mesh says what becomes of a request, and does it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use axum::{Router, routing::any};
use common::{World, get, until};
use mesh::{Config, Exchange, Labels, Workload, explain::Outcome};
use tower::ServiceExt as _;

fn rules(path: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a}}
spec:
  hosts: [a]
  http:
  - match: [{{uri: {{exact: {path}}}}}]
    directResponse: {{status: 418}}
  - name: rest
    rewrite: {{uri: /upstream/}}
    route: [{{destination: {{host: a}}}}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_what_happens_by_the_rules_in_force() {
    let world = World::new();
    world.service("a", 80, "http");
    world.write("rules.yaml", &rules("/one"));
    let echo = any(|request: axum::extract::Request| async move { request.uri().path().to_owned() });
    let _a = world.run("a", "v1", Router::new().fallback(echo)).await;
    let caller = world.mesh("caller", "v1").await;

    let one = caller.explain(&get("http://a/one"));
    assert_eq!((one.outcome, one.status, one.rule_index), (Outcome::DirectResponse, Some(418), Some(0)), "{one}");
    let two = caller.explain(&get("http://a/two"));
    assert_eq!(two.rejected[0].because, "uri exact \"/one\" does not match path \"/two\"");
    assert!(two.source.as_ref().unwrap().ends_with("rules.yaml:9"), "{two}");

    assert_eq!(caller.client().oneshot(get("http://a/one")).await.unwrap().status(), 418);
    let mut response = caller.client().oneshot(get("http://a/two")).await.unwrap();
    let exchange = Exchange::of(&mut response).clone();
    assert_eq!(two.cluster, exchange.cluster.map(|cluster| cluster.to_string()));
    assert_eq!(two.route, exchange.route);
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert_eq!(two.request.as_ref().unwrap().path.as_bytes(), body);

    // The same of the files alone.
    let labels = Labels::from_iter([("app", "caller"), ("version", "v1")]);
    let client = Config::read([world.config()]).client(Workload::new("default", "caller").with_labels(labels));
    assert_eq!(client.explain(&get("http://a/two")).to_string(), two.to_string());

    world.write("rules.yaml", &rules("/two"));
    until("the change is in force", || async { caller.explain(&get("http://a/two")).status == Some(418) }).await;
    assert_eq!(caller.client().oneshot(get("http://a/two")).await.unwrap().status(), 418);
}
