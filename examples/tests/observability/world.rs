//! All of bookinfo, under rules that make every edge known.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use http::{Request, header};
use mesh::BoxError;
use mesh_examples::bookinfo::{Options, Running};
use mesh_test::Scratch;
use serde_json::Value;

use crate::{
    browser::{eventually, get},
    istio::{Sample, samples},
};

/// Each user is sent to versions of their own, so that every service is called and every edge is known.
const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: details}
spec:
  hosts: [details]
  http:
  - match: [{headers: {end-user: {exact: mary}}}]
    route: [{destination: {host: details, subset: v2}}]
  - route: [{destination: {host: details, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{headers: {end-user: {exact: mary}}}]
    route: [{destination: {host: reviews, subset: v3}}]
  - route: [{destination: {host: reviews, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - match: [{headers: {end-user: {exact: mary}}}]
    route: [{destination: {host: ratings, subset: v2}}]
  - route: [{destination: {host: ratings, subset: v1}}]
";

/// User, and who answers about details, reviews and ratings.
const USERS: [(&str, &str, &str, Option<&str>); 3] = [
    ("nobody", "details-v1", "reviews-v1", None),
    ("jason", "details-v1", "reviews-v2", Some("ratings-v1")),
    ("mary", "details-v2", "reviews-v3", Some("ratings-v2")),
];

/// Who calls whom under [`RULES`].
pub(crate) const EDGES: [(&str, &str); 7] = [
    ("productpage-v1", "details-v1"),
    ("productpage-v1", "details-v2"),
    ("productpage-v1", "reviews-v1"),
    ("productpage-v1", "reviews-v2"),
    ("productpage-v1", "reviews-v3"),
    ("reviews-v2", "ratings-v1"),
    ("reviews-v3", "ratings-v2"),
];

pub(crate) fn all_of_bookinfo(state: &Scratch) -> Options {
    let mut options = Options::new(state.path().join("state"));
    options.productpage = SocketAddr::from(([127, 0, 0, 1], 0));
    options.apply = vec![own("subsets.yaml")];
    options.texts = vec![("rules".into(), RULES.into())];
    options
}

pub(crate) fn own(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bookinfo/mesh").join(path)
}

/// Each user once, as soon as those who answer them are known to those who call them.
pub(crate) async fn visit(running: &Running) {
    for (user, details, reviews, ratings) in USERS {
        eventually("bookinfo answers", async || {
            let said = ask(running, user, "/api/v1/products/0").await?;
            if said["podname"] != details {
                return Err(format!("{user} got details of {said}").into());
            }
            let said = ask(running, user, "/api/v1/products/0/reviews").await?;
            if said["podname"] != reviews || said["ratings_podname"].as_str() != ratings {
                return Err(format!("{user} got reviews of {said}").into());
            }
            Ok(())
        })
        .await;
    }
}

pub(crate) async fn ask(running: &Running, user: &str, path: &str) -> Result<Value, BoxError> {
    let request = Request::get(path).header(header::COOKIE, format!("session={user}"));
    Ok(serde_json::from_str(get(running.productpage().unwrap(), request).await?.body())?)
}

/// What each service has at `/metrics`.
pub(crate) async fn metrics(running: &Running) -> BTreeMap<String, Vec<Sample>> {
    let mut pages = BTreeMap::new();
    for service in &running.services {
        let page = get(service.observability, Request::get("/metrics")).await.unwrap();
        assert_eq!(page.status(), 200);
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        pages.insert(service.name.clone(), samples(page.body()));
    }
    pages
}
