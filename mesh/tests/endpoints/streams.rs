//! HTTP/2 connections and how many streams they carry.

use futures_util::future::join_all;
use http::Request;
use mesh::Body;

use crate::{
    common::{World, fetch, get, until},
    upstream::{Upstream, caller, service},
};

/// RFC 9113 5.1.2: a peer that allows few streams says so in its SETTINGS, which a burst on a new connection does not wait
/// for. What it refuses was not looked at, and goes out again, POST or not; nothing is retried here.
#[tokio::test]
async fn a_burst_before_the_peers_settings_loses_nothing() {
    for streams in [1, 3] {
        let upstream = Upstream::start("http2", streams).await;
        let world = World::new();
        service(&world, "http2", upstream.port, &["127.0.0.1".into()], "");
        let (_mesh, client) = caller(world.builder("caller", "v1")).await;
        for round in 0..3 {
            let posts = (0..30).map(|n| {
                let request = Request::post("http://all.example/").body(Body::from(format!("{n}"))).unwrap();
                fetch(&client, request)
            });
            for (n, response) in join_all(posts).await.into_iter().enumerate() {
                assert_eq!(
                    (response.status().as_u16(), &response.body()[..]),
                    (200, n.to_string().as_bytes()),
                    "{round}"
                );
            }
        }
        let requests: usize = upstream.each().iter().map(|seen| seen.requests).sum();
        assert_eq!(requests, 90, "each arrived once");
    }
}

/// When the streams of all connections are in use there is one more connection.
#[tokio::test]
async fn exhausted_streams_are_one_more_connection() {
    let upstream = Upstream::start("http2", 2).await;
    let world = World::new();
    service(&world, "http2", upstream.port, &["127.0.0.1".into()], "");
    let (_mesh, client) = caller(world.builder("caller", "v1")).await;
    for _ in 0..2 {
        assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 200);
    }
    let mut held = tokio::task::JoinSet::new();
    for n in 1..=6 {
        let client = client.clone();
        held.spawn(async move { fetch(&client, get("http://all.example/held")).await.status().as_u16() });
        until("it arrives", async || upstream.waiting() == n).await;
        assert_eq!(upstream.open(), n.div_ceil(2));
    }
    upstream.held.add_permits(6);
    assert_eq!(held.join_all().await, [200; 6]);
}
