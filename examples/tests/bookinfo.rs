//! Bookinfo as `cargo run --example bookinfo` starts it, with its own rules, over real sockets.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "helpers of tests")]

mod common;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use http::{Request, Response, header};
use mesh_examples::bookinfo::{self, Deployment, Options, Running};
use serde_json::Value;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A state directory of the test's own, removed at its end.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("bookinfo-test-{}-{count}", std::process::id())))
    }

    fn options(&self) -> Options {
        let mut options = Options::new(&self.0);
        options.productpage = SocketAddr::from(([127, 0, 0, 1], 0));
        options
    }
}

impl Drop for State {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// What a browser does: plaintext HTTP/1.1 with a cookie.
async fn browse(running: &Running, request: http::request::Builder) -> Response<String> {
    let request = request.header(header::HOST, "localhost").body("username=jason".into()).unwrap();
    common::browse(running.productpage().unwrap(), request).await
}

async fn reviews(running: &Running, cookie: &str) -> Value {
    let request = Request::get("/api/v1/products/0/reviews").header(header::COOKIE, cookie);
    let response = browse(running, request).await;
    assert_eq!(response.status(), 200, "{}", response.body());
    serde_json::from_str(response.body()).unwrap()
}

async fn sign_in(running: &Running) -> String {
    let form = Request::post("/login").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let response = browse(running, form).await;
    assert_eq!(response.status(), 303);
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_rules_send_jason_to_v2_and_others_to_v1_and_v3() {
    let state = State::new();
    let running = bookinfo::start(state.options()).await.unwrap();
    common::acquainted(&running).await;
    let jason = sign_in(&running).await;
    let mut seen = BTreeSet::new();
    // 40 fair draws show one side only once in 5e11 runs.
    for _ in 0..40 {
        assert_eq!(reviews(&running, &jason).await["podname"], "reviews-v2");
        let other = reviews(&running, "session=mary").await;
        seen.insert(other["podname"].as_str().unwrap().to_owned());
        // STRICT mutual TLS: the application sees who called it.
        assert_eq!(other["caller"], "spiffe://cluster.local/ns/default/sa/bookinfo-productpage");
    }
    assert_eq!(Vec::from_iter(seen), ["reviews-v1", "reviews-v3"]);

    let traced = Request::get("/productpage").header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
    let page = browse(&running, traced.header(header::COOKIE, jason)).await;
    for shown in ["Signed in as <strong>jason", "reviews-v2</strong> · black stars", "details-v1", "ratings-v1", TRACE]
    {
        assert!(page.body().contains(shown), "{shown} in {}", page.body());
    }
    running.shutdown().await;
    assert_eq!(std::fs::read_dir(state.0.join("workloads")).unwrap().count(), 0, "entries are taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_the_others_says_so() {
    let state = State::new();
    let mut options = state.options();
    options.deployments = vec![Deployment::ALL[0]];
    let running = bookinfo::start(options).await.unwrap();
    let page = browse(&running, Request::get("/productpage")).await;
    assert_eq!(page.status(), 200);
    assert!(page.body().contains("Sorry, product reviews are currently unavailable for this book."));
    assert!(page.body().contains("Sorry, product details are currently unavailable for this book."));
    assert_eq!(browse(&running, Request::get("/api/v1/products/0")).await.status(), 503);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_find_each_other_and_replicas_share_the_work() {
    let state = State::new();
    let mut options = state.options();
    options.deployments = vec![Deployment::ALL[0]];
    let page = bookinfo::start(options).await.unwrap();
    let mut options = state.options();
    let reviews_v1: Deployment = "reviews-v1".parse().unwrap();
    options.deployments = vec![reviews_v1, reviews_v1];
    let others = bookinfo::start(options).await.unwrap();
    assert_eq!(others.services[1].name, "reviews-v1-2");

    let mut seen = BTreeSet::new();
    let both = async {
        while seen.len() < 2 {
            let request = Request::get("/api/v1/products/0/reviews");
            let response = browse(&page, request).await;
            // Until productpage has read the entries of the second process there is nobody to ask,
            // and until the rule's other half is drawn there is no v3.
            if let Ok(Value::Object(answer)) = serde_json::from_str(response.body())
                && let Some(Value::String(podname)) = answer.get("podname")
            {
                seen.insert(podname.clone());
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), both).await.expect("both replicas answer");
    assert_eq!(Vec::from_iter(seen), ["reviews-v1", "reviews-v1-2"]);
    others.shutdown().await;
    page.shutdown().await;
}

#[tokio::test]
async fn bad_configuration_does_not_start() {
    let state = State::new();
    let mut options = state.options();
    options.texts = vec![("inline".into(), "kind: VirtualService\nmetadata: {name: a}\nspec: {weight: 1}\n".into())];
    let error = bookinfo::start(options).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("inline:3:"), "{cause}");
}
