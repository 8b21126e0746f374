//! STRICT: who is nobody gets nothing, and a server that is somebody else gets nothing either.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use axum::{Router, extract::Request as AxumRequest, routing::get as route};
use common::{World, fetch, get};
use mesh::PeerIdentity;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn who(request: AxumRequest) -> String {
    request.extensions().get::<PeerIdentity>().map_or_else(|| "nobody".into(), |peer| peer.id().to_string())
}

fn app() -> Router {
    Router::new().route("/who", route(who))
}

#[tokio::test]
async fn the_application_sees_the_callers_spiffe_id() {
    let world = World::new();
    world.service("a", 80, "http");
    let _server = world.run("a", "v1", app()).await;
    let caller = world.mesh("caller", "v1").await;
    let response = fetch(&caller.client(), get("http://a/who")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.body(), "spiffe://cluster.local/ns/default/sa/caller");
}

#[tokio::test]
async fn a_peer_identity_that_the_caller_forged_is_not_read() {
    let world = World::new();
    world.service("a", 80, "http");
    let server = world.run("a", "v1", app()).await;
    let caller = world.mesh("caller", "v1").await;
    let forged = "By=x;URI=spiffe://cluster.local/ns/default/sa/admin";
    let request =
        http::Request::get("http://a/who").header("x-forwarded-client-cert", forged).body(mesh::Body::empty()).unwrap();
    let response = fetch(&caller.client(), request).await;
    assert_eq!(response.body(), "spiffe://cluster.local/ns/default/sa/caller");
    drop(server);
}

#[tokio::test]
async fn plaintext_is_refused() {
    let world = World::new();
    world.service("a", 80, "http");
    let server = world.run("a", "v1", app()).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Closed, with or without a reset; in no case answered.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert!(server.mesh.metrics_text().contains("mesh_connections_refused_total 1"));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (world, strangers) = (World::new(), World::new());
    world.service("a", 80, "http");
    let server = world.run("a", "v1", app()).await;
    // The stranger knows the service and has a certificate with the right name, of its own authority.
    strangers.service("a", 80, "http");
    let stranger = strangers.mesh("caller", "v1").await;
    stranger.register(strangers.config(), "127.0.0.1:9".parse().unwrap()).unwrap();
    let entry = std::fs::read_dir(world.config())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("default-a-v1"))
        .unwrap();
    std::fs::copy(&entry, strangers.config().join("a.yaml")).unwrap();
    let stranger = strangers.mesh("caller", "v1").await;
    let response = fetch(&stranger.client(), get("http://a/who")).await;
    assert_eq!(response.status(), 503);
    assert_ne!(response.body(), "spiffe://cluster.local/ns/default/sa/caller");
    drop(server);
}

#[tokio::test]
async fn a_server_with_the_wrong_spiffe_id_is_refused_by_the_client() {
    let world = World::new();
    world.service("a", 80, "http");
    let impostor = world.run("impostor", "v1", app()).await;
    // The registry says that `a` listens here, as service account `a`; who listens is `impostor`, of the same mesh.
    world.write(
        "a.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: a}}\nspec:\n  address: 127.0.0.1\n  \
             ports: {{http: {}}}\n  labels: {{app: a}}\n  serviceAccount: a\n",
            impostor.address.port()
        ),
    );
    let caller = world.mesh("caller", "v1").await;
    let response = fetch(&caller.client(), get("http://a/who")).await;
    assert_eq!(response.status(), 503);
    assert!(response.extensions().get::<mesh::Exchange>().unwrap().flags.to_string().contains("UF"));
    // Nothing of the request was sent: the same server under its own name answers.
    world.service("impostor", 80, "http");
    let caller = world.mesh("caller", "v1").await;
    assert_eq!(fetch(&caller.client(), get("http://impostor/who")).await.status(), 200);
}

#[tokio::test]
async fn an_endpoint_whose_identity_nobody_knows_is_refused() {
    let world = World::new();
    world.service("a", 80, "http");
    let server = world.run("b", "v1", app()).await;
    world.write(
        "a.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: a}}\nspec:\n  address: 127.0.0.1\n  \
             ports: {{http: {}}}\n  labels: {{app: a}}\n",
            server.address.port()
        ),
    );
    let caller = world.mesh("caller", "v1").await;
    assert_eq!(fetch(&caller.client(), get("http://a/who")).await.status(), 503);
}

async fn ask(socket: &mut TcpStream) -> String {
    socket.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1024];
    let read = socket.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn a_plaintext_connection_does_not_outlive_the_switch_to_strict() {
    let world = World::new();
    let permissive = common::STRICT.replace("STRICT", "PERMISSIVE");
    world.write("strict.yaml", &permissive);
    let server = world.run("a", "v1", app()).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    assert!(ask(&mut plain).await.ends_with("nobody"));
    assert!(ask(&mut plain).await.ends_with("nobody"), "kept open");
    world.write("strict.yaml", common::STRICT);
    // The server closes it; nothing else would end it.
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(std::time::Duration::from_secs(20), plain.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "still open under STRICT");
    assert!(rest.is_empty());
}
