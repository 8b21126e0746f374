//! Identity from files, and none at all.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use axum::{Router, extract::Request, routing::get as route};
use common::{World, fetch, get};
use mesh::{Mesh, PeerIdentity, Workload};
use mesh_tls::DevCa;

async fn who(request: Request) -> String {
    request.extensions().get::<PeerIdentity>().map_or_else(|| "nobody".into(), |peer| peer.id().to_string())
}

fn app() -> Router {
    Router::new().route("/", route(who))
}

#[tokio::test]
async fn files_are_the_default_and_their_absence_is_said() {
    let error = Mesh::builder().workload(Workload::new("default", "a")).start().await.expect_err("no files there");
    let message = error.to_string();
    assert!(message.contains("/etc/certs/"), "{message}");
    assert!(message.contains("development_identity"), "{message}");
}

#[tokio::test]
async fn an_identity_in_files_is_one_of_the_mesh() {
    let world = World::new();
    world.service("a", 80, "http");
    let _server = world.run("a", "v1", app()).await;
    let ca = DevCa::open(world.ca(), mesh::TrustDomain::cluster_local()).unwrap();
    let id = "spiffe://cluster.local/ns/default/sa/filed".parse().unwrap();
    let issued = ca.issue_pem(&id, DevCa::LIFETIME).unwrap();
    let certs = world.scratch.dir("certs");
    let (cert, key, roots) = (certs.join("cert.pem"), certs.join("key.pem"), certs.join("roots.pem"));
    std::fs::write(&cert, &issued.certificate).unwrap();
    std::fs::write(&key, &issued.key).unwrap();
    std::fs::write(&roots, ca.root_pem()).unwrap();
    let caller = world.builder("filed", "v1").identity_files(&cert, &key, &roots).start().await.unwrap();
    let response = fetch(&caller.client(), get("http://a/")).await;
    assert_eq!(response.body(), "spiffe://cluster.local/ns/default/sa/filed");

    // A key that is not the certificate's.
    std::fs::write(&key, &ca.issue_pem(&id, DevCa::LIFETIME).unwrap().key).unwrap();
    let error =
        world.builder("filed", "v1").identity_files(&cert, &key, &roots).start().await.expect_err("mixed files");
    assert!(error.to_string().starts_with("no identity for the workload"), "{error}");
}

#[tokio::test]
async fn without_an_identity_nothing_is_weakened_but_ones_own_calls() {
    let world = World::new();
    world.service("a", 80, "http");
    let server = world.run("a", "v1", app()).await;
    let caller = world.builder("caller", "v1").dangerous().without_identity().start().await.unwrap();
    // STRICT refuses the plaintext.
    assert_eq!(fetch(&caller.client(), get("http://a/")).await.status(), 503);
    // And a rule that wants mutual TLS is not answered with plaintext.
    world.write(
        "mtls.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  \
         trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n",
    );
    let caller = world.builder("caller", "v1").dangerous().without_identity().start().await.unwrap();
    assert_eq!(fetch(&caller.client(), get("http://a/")).await.status(), 503);
    let refused = "mesh_connections_refused_total 1\n";
    assert!(server.mesh.metrics_text().contains(refused), "the first was refused, the second never dialled");
}
