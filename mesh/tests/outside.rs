//! Hosts that the registry does not know.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, routing::get as route};
use common::{World, fetch, get};
use mesh::{Answer, Exchange, Resolve, network::BoxFuture};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

/// Every name is one address.
#[derive(Debug)]
struct Everything(SocketAddr);

impl Resolve for Everything {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Answer>> {
        Box::pin(async { Ok(Answer::new([self.0.into()])) })
    }
}

async fn plain_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo_host = |headers: http::HeaderMap| async move { headers["host"].to_str().unwrap().to_owned() };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", route(echo_host))).await });
    address
}

/// istio.md 1.5: "ALLOW_ANY / REGISTRY_ONLY (502)"
#[tokio::test]
async fn allow_any_dials_what_the_caller_asked_for() {
    let world = World::new();
    let address = plain_server().await;
    let caller = world.builder("caller", "v1").resolver(Everything(address)).start().await.unwrap();
    let client = caller.client();
    // By address, and by a name that only the resolver seam knows: the Host header is the caller's.
    let response = fetch(&client, get(&format!("http://{address}/"))).await;
    assert_eq!(response.body(), &*address.to_string());
    let response = fetch(&client, get("http://example.com/")).await;
    assert_eq!(response.body(), "example.com");
    let exchange = response.extensions().get::<Exchange>().unwrap();
    assert_eq!(exchange.cluster.as_ref().unwrap().to_string(), "PassthroughCluster");
    assert!(!exchange.mutual_tls);
}

/// istio.md 1.5: "ALLOW_ANY / REGISTRY_ONLY (502)"
#[tokio::test]
async fn registry_only_answers_502() {
    // istio buildCatchAllVirtualHost: REGISTRY_ONLY is a direct response of 502 without a body.
    let world = World::new();
    let address = plain_server().await;
    let policy = json!({"mesh": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}});
    let builder = world.builder("caller", "v1").config_value("mesh", &policy).resolver(Everything(address));
    let caller = builder.start().await.unwrap();
    let response = fetch(&caller.client(), get("http://example.com/")).await;
    assert_eq!(response.status(), 502);
    assert!(response.body().is_empty());
    assert!(caller.metrics_text().contains("destination_service_name=\"BlackHoleCluster\""));
}

/// A TLS server for a name, of an authority whose root is returned.
async fn tls_server(name: &str) -> (SocketAddr, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let app = hyper_util::service::TowerToHyperService::new(
                    Router::new().route("/", route(|| async { "secure" })),
                );
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, app).await;
            });
        }
    });
    (address, ca.pem())
}

#[tokio::test]
async fn an_https_url_is_tls_with_the_builders_roots_and_the_name_checked() {
    let world = World::new();
    let (address, root) = tls_server("secure.example").await;
    let builder = world.builder("caller", "v1").resolver(Everything(address));
    let caller = builder.egress_roots_pem(root.as_bytes()).start().await.unwrap();
    let client = caller.client();
    let response = fetch(&client, get("https://secure.example/")).await;
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"secure"[..]));
    // The same server under a name that its certificate does not have.
    assert_eq!(fetch(&client, get("https://other.example/")).await.status(), 503);
    // And with nobody's roots but the operating system's.
    let caller = world.builder("caller", "v1").resolver(Everything(address)).start().await.unwrap();
    assert_eq!(fetch(&caller.client(), get("https://secure.example/")).await.status(), 503);
}

#[tokio::test]
async fn the_host_header_does_not_choose_which_name_a_server_has_to_prove() {
    let world = World::new();
    let (address, root) = tls_server("secure.example").await;
    let builder = world.builder("caller", "v1").resolver(Everything(address));
    let caller = builder.egress_roots_pem(root.as_bytes()).start().await.unwrap();
    let client = caller.client();
    let named = |uri: &str, host: &str| http::Request::get(uri).header("host", host).body(mesh::Body::empty()).unwrap();
    // An application that passes a browser's Host header on: what was dialled proves the name that was dialled.
    assert_eq!(fetch(&client, named("https://secure.example/", "other.example")).await.status(), 200);
    assert_eq!(fetch(&client, named("https://other.example/", "secure.example")).await.status(), 503);
}

#[tokio::test]
async fn a_host_header_that_is_let_through_does_not_lead_elsewhere() {
    let world = World::new();
    let address = plain_server().await;
    let policy = json!({"mesh": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}});
    world.write(
        "allowed.yaml",
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: allowed}\nspec:\n  hosts: [allowed.example]\n  \
         ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: NONE\n",
    );
    let dialled = Arc::new(std::sync::Mutex::new(Vec::new()));
    let resolver = Recording(address, Arc::clone(&dialled));
    let builder = world.builder("caller", "v1").config_value("mesh", &policy).resolver(resolver);
    let caller = builder.start().await.unwrap();
    let request = http::Request::get("http://bank.example/").header("host", "allowed.example");
    let response = fetch(&caller.client(), request.body(mesh::Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(*dialled.lock().unwrap(), ["allowed.example"]);
}

#[derive(Debug)]
struct Recording(SocketAddr, Arc<std::sync::Mutex<Vec<String>>>);

impl Resolve for Recording {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Answer>> {
        self.1.lock().unwrap().push(host.to_owned());
        Box::pin(async { Ok(Answer::new([self.0.into()])) })
    }
}
