//! A name whose every answer is another one leaves nothing behind: no counters of addresses, no pools, no members.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::Request;
use mesh::{
    Answer, Body, Mesh, Resolve,
    network::{BoxFuture, BoxIo, Connect},
};
use tower::ServiceExt as _;

const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
";

/// Two addresses that were never told before, for a second.
#[derive(Clone, Debug, Default)]
struct Fresh(Arc<AtomicU32>);

impl Resolve for Fresh {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Answer>> {
        let next = 0x0a00_0000 + 2 * self.0.fetch_add(1, Ordering::Relaxed);
        let addresses = [next, next + 1].map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
        Box::pin(async move { Ok(Answer::addresses(addresses).with_ttl(Duration::from_secs(1))) })
    }
}

/// Nobody listens anywhere.
#[derive(Debug)]
struct Refused;

impl Connect for Refused {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

/// issue 4: "per-address counters growing for churning names": 10,000 different answers, with requests to each.
#[test]
fn memory_is_bounded_when_every_answer_is_another() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let names = Fresh::default();
    let (mesh, client) = runtime.block_on(async {
        let builder = Mesh::builder().config_text("db.yaml", ENTRY).resolver(names.clone()).connect(Refused);
        let mesh = builder.dangerous().without_identity().start().await.unwrap();
        let client = mesh.client::<Body>();
        (mesh, client)
    });
    let churn = |answers: u32| {
        runtime.block_on(async {
            let enough = names.0.load(Ordering::Relaxed) + answers;
            while names.0.load(Ordering::Relaxed) < enough {
                let request = Request::get("http://db.test/").body(Body::empty()).unwrap();
                assert_eq!(client.clone().oneshot(request).await.unwrap().status(), 503);
                tokio::time::sleep(Duration::from_millis(900)).await;
            }
        });
    };
    churn(2_000);
    // A hundred bytes kept of each of 20,000 addresses would be 2 MB; what is cleaned up now and then is a tenth of that.
    let used = allocation_counter::measure(|| churn(10_000));
    assert!(used.bytes_current < 256 * 1024, "{used:?}");
    assert_eq!(mesh.endpoints("db.test", 80).len(), 2);
}
