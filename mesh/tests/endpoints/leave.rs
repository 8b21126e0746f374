//! Endpoints that are taken out.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::{
    common::{World, fetch, get, until},
    upstream::{Upstream, caller, service},
};

/// A removed endpoint gets no new request; what it has comes to its end, and then its connections close.
#[tokio::test]
async fn a_removed_endpoint_gets_no_new_request_and_drains() {
    let ips = ["127.0.0.1", "127.0.0.2"].map(str::to_owned);
    for protocol in ["http", "http2"] {
        for policy in ["", "connectionPool: {tcp: {maxConnections: 20}}"] {
            let upstream = Upstream::start(protocol, 100).await;
            let world = World::new();
            service(&world, protocol, upstream.port, &ips, policy);
            let (mesh, client) = caller(world.builder("caller", "v1")).await;
            // Idle connections on both, then a request on each whose answer does not come, and one half of whose body came.
            let many =
                futures_util::future::join_all((0..20).map(|_| fetch(&client, get("http://all.example/")))).await;
            assert!(many.iter().all(|response| response.status() == 200));
            let held = || {
                tokio::spawn({
                    let client = client.clone();
                    async move { fetch(&client, get("http://all.example/held")).await.status().as_u16() }
                })
            };
            let mut requests = Vec::new();
            while upstream.each().len() < 2 || requests.len() < 8 {
                requests.push(held());
                until("it arrives", async || upstream.waiting() == requests.len()).await;
            }
            let slow = client.clone().oneshot(get("http://all.example/slow")).await.unwrap().into_body();
            let mut slow = Box::pin(slow);
            assert_eq!(slow.frame().await.unwrap().unwrap().into_data().unwrap(), Bytes::from_static(b"piece"));

            service(&world, protocol, upstream.port, &ips[1..], policy);
            until("it is gone", async || mesh.endpoints("all.example", 80).len() == 1).await;
            let before = upstream.at(&ips[0]);
            for _ in 0..50 {
                assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 200);
            }
            assert_eq!(upstream.at(&ips[0]).requests, before.requests, "{protocol}: no new request");
            assert!(slow.collect().await.is_ok(), "{protocol}: what had begun goes on");
            upstream.held.add_permits(requests.len());
            for request in requests {
                assert_eq!(request.await.unwrap(), 200, "{protocol}");
            }
            until("its connections are closed", async || upstream.at(&ips[0]).open == 0).await;
            assert!(upstream.at(&ips[1]).open > 0, "the other one's are kept");
        }
    }
}
