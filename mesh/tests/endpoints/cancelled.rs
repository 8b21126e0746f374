//! Calls that are given up.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use mesh::{
    Body, Client,
    network::{BoxFuture, BoxIo, Connect, Tcp},
};
use tower::ServiceExt as _;

use crate::{
    common::{World, fetch, get, until},
    upstream::{Page, Upstream, caller, pause, service},
};

/// A network on which a connection takes a while.
#[derive(Debug)]
struct Slow;

impl Connect for Slow {
    fn connect(&self, address: std::net::SocketAddr) -> BoxFuture<'_, std::io::Result<BoxIo>> {
        Box::pin(async move {
            pause().await;
            Tcp.connect(address).await
        })
    }
}

/// A request in pieces and all of its answer.
async fn exchange(client: Client<Body>) -> u16 {
    let pieces = stream::unfold(0, |n| async move {
        pause().await;
        (n < 3).then(|| (Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"piece"))), n + 1))
    });
    let request = Request::post("http://all.example/slow").body(Body::new(StreamBody::new(pieces))).unwrap();
    let (parts, body): (_, _) = Response::into_parts(client.oneshot(request).await.unwrap());
    body.collect().await.unwrap();
    parts.status.as_u16()
}

/// Poll so many times, whenever it is woken; `None` when it was not done by then and was given up.
async fn after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), polls);
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = future.as_mut().poll(cx).map(Some);
        if polled.is_pending() && left == 0 { Poll::Ready(None) } else { polled }
    })
    .await
}

const ONE: &str = "tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, http2MaxRequests: 1";

/// At each point where a call may wait (for a connection, while its body goes out, for the head, between pieces of the
/// answer's body): member, cluster, queue and connections count what there is, and with all limits at 1 the next call gets
/// through.
#[tokio::test]
async fn a_call_given_up_at_any_point_leaves_no_count_behind() {
    for (protocol, pool, limited) in [
        ("http", format!("{ONE}}}"), true),
        ("http2", format!("{ONE}}}"), true),
        ("http", format!("{ONE}, maxRequestsPerConnection: 1}}"), true),
        ("http2", format!("{ONE}, maxRequestsPerConnection: 1}}"), true),
        ("http", "http: {http2MaxRequests: 1}".into(), false),
        ("http2", "http: {http2MaxRequests: 1}".into(), false),
    ] {
        let upstream = Upstream::start(protocol, 100).await;
        let world = World::new();
        let policy = format!("connectionPool: {{{pool}}}");
        service(&world, protocol, upstream.port, &["127.0.0.1".into()], &policy);
        let (mesh, client) = caller(world.builder("caller", "v1").connect(Slow)).await;
        let page = Page::of(&mesh).await;
        let mut polls = 0;
        loop {
            polls += 1;
            let done = after(polls, exchange(client.clone())).await;
            until("nothing is left behind", async || page.is_quiet(&upstream, limited).await).await;
            if let Some(status) = done {
                assert_eq!(status, 200, "{protocol} {pool}");
                break;
            }
            assert!(polls < 200, "{protocol} {pool}");
        }
        assert!(polls > 4, "{protocol} {pool}: given up at {polls} points only");
        assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 200, "{protocol} {pool}");
    }
}

/// The same while it waits for a connection that another request has.
#[tokio::test]
async fn a_call_given_up_in_the_queue_leaves_no_count_behind() {
    for protocol in ["http", "http2"] {
        let upstream = Upstream::start(protocol, 1).await;
        let world = World::new();
        let policy = "connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}";
        service(&world, protocol, upstream.port, &["127.0.0.1".into()], policy);
        let (mesh, client) = caller(world.builder("caller", "v1")).await;
        let page = Page::of(&mesh).await;
        // Until the client has heard how many streams there may be.
        for _ in 0..2 {
            assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 200);
        }
        let held = tokio::spawn({
            let client = client.clone();
            async move { fetch(&client, get("http://all.example/held")).await.status() }
        });
        until("it has the connection", async || upstream.waiting() == 1).await;
        for _ in 0..20 {
            let waits = tokio::time::timeout(Duration::from_millis(5), exchange(client.clone())).await;
            assert!(waits.is_err(), "{protocol}: it waits");
            assert_eq!((page.sum("rq_pending_active").await, page.sum("rq_active").await), (0, 2), "{protocol}");
        }
        upstream.held.add_permits(1);
        assert_eq!(held.await.unwrap(), 200);
        until("nothing is left behind", async || page.is_quiet(&upstream, true).await).await;
        assert_eq!(fetch(&client, get("http://all.example/")).await.status(), 200);
        assert_eq!(upstream.accepted(), 1, "{protocol}");
    }
}

/// In flight until the body ends or is dropped, whatever the head said.
#[tokio::test]
async fn in_flight_while_there_is_a_body() {
    for protocol in ["http", "http2"] {
        let upstream = Upstream::start(protocol, 100).await;
        let world = World::new();
        service(&world, protocol, upstream.port, &["127.0.0.1".into()], "");
        let (mesh, client) = caller(world.builder("caller", "v1")).await;
        let page = Page::of(&mesh).await;
        for read in [true, false] {
            let response = client.clone().oneshot(get("http://all.example/slow")).await.unwrap();
            let mut body = Box::pin(response.into_body());
            assert_eq!(page.sum("rq_active").await, 2, "{protocol}: of the cluster and of its member");
            body.frame().await.unwrap().unwrap();
            assert_eq!(page.sum("rq_active").await, 2, "{protocol}");
            if read {
                body.collect().await.unwrap();
            } else {
                drop(body);
            }
            assert_eq!(page.sum("rq_active").await, 0, "{protocol}");
        }
    }
}
