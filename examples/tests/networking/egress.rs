//! To the outside: a plain request leaves as TLS, to a server that proves its name.

use std::path::{Path, PathBuf};

use mesh::ResponseFlag;
use mesh_examples::bookinfo::Deployment;

use super::{
    common::until,
    stub::{Authority, Names, Seen, Stub},
    world::{World, ask},
};

const FILE: &str = "egress-rule-google-apis.yaml";
const BOOKS: &str = "http://www.googleapis.com/books/v1/volumes?q=isbn:1234567890";

/// In Istio's own bookinfo details v2 asks this.
const CALLER: &str = "details-v2";

/// istio networking/v1alpha3 ClientTLSSettings: SIMPLE is "Originate a TLS connection to the upstream endpoint"; without
/// `sni` and `subjectAltNames` the request's host is the name that is sent and proved.
pub async fn egress_rule_google_apis(directory: PathBuf) {
    let authority = Authority::new();
    let stub = Stub::start(&authority, "www.googleapis.com").await;
    let (world, names) = bookinfo(&directory, &authority, &stub, Deployment::ALL.to_vec()).await;
    assert_eq!(world.warnings(), [""; 0]);
    let client = world.client(CALLER);
    for url in [BOOKS, "http://www.googleapis.com:80/books/v1/volumes?q=isbn:1234567890"] {
        let answer = ask(&client, url).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, Some("hello")), "{answer:?}");
        assert!(!answer.exchange.mutual_tls, "SIMPLE shows no certificate of ours");
        let cluster = answer.exchange.cluster.as_ref().unwrap().to_string();
        assert_eq!(cluster, "outbound|443||www.googleapis.com", "port 80 is routed to 443");
    }
    let seen = stub.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    for request in seen {
        let Seen::Request { sni, path, headers } = request else { panic!("{request:?}") };
        assert_eq!(sni.as_deref(), Some("www.googleapis.com"));
        assert_eq!(path, "/books/v1/volumes?q=isbn:1234567890");
        let host = headers["host"].to_str().unwrap();
        assert_eq!(host.strip_suffix(":80").unwrap_or(host), "www.googleapis.com");
        assert!(!headers.contains_key("x-envoy-peer-metadata"), "who we are is told to mesh peers only: {headers:?}");
    }
    let dialled = names.dialled.lock().unwrap().clone();
    assert!(!dialled.is_empty() && dialled.iter().all(|port| *port == 443), "{dialled:?}");
    world.page_shows("", &["<strong>reviews-v", "details-v"]).await;
    drop(world);

    // One that cannot prove the name gets nothing.
    let other_name = Stub::start(&authority, "www.example.com").await;
    refused(&directory, &authority, &other_name).await;
    let other_authority = Stub::start(&Authority::new(), "www.googleapis.com").await;
    refused(&directory, &authority, &other_authority).await;
}

async fn refused(directory: &Path, authority: &Authority, stub: &Stub) {
    let (world, _) = bookinfo(directory, authority, stub, vec![CALLER.parse().unwrap()]).await;
    let answer = ask(&world.client(CALLER), BOOKS).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.has(ResponseFlag::UpstreamConnectionFailure), "{answer:?}");
    until("the server notices", || async { !stub.seen().is_empty() }).await;
    assert!(stub.seen().iter().all(|seen| matches!(seen, Seen::NoHandshake)), "{:?}", stub.seen());
}

/// Bookinfo for which the stub is all of the internet.
async fn bookinfo(
    directory: &Path,
    authority: &Authority,
    stub: &Stub,
    deployments: Vec<Deployment>,
) -> (World, Names) {
    let names = Names { address: stub.address, dialled: Default::default() };
    let network = names.clone();
    let roots = authority.root_pem.clone();
    let world = World::start_with(directory, &[FILE], |mut options| {
        options.deployments = deployments;
        options.configure(move |_, builder| {
            builder.resolver(network.clone()).connect(network.clone()).egress_roots_pem(roots.as_bytes())
        })
    })
    .await;
    (world, names)
}
