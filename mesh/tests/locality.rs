//! Endpoints nearby first, the next ones when those are ejected, over real connections.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;

use axum::{Router, routing::get as on_get};
use common::{World, fetch, get};
use http::StatusCode;
use mesh::{Mesh, Workload};
use tokio::net::TcpListener;

/// A server outside of the mesh that says who it is, with this status.
async fn server(name: &'static str, status: StatusCode) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", on_get(async move || (status, name)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// istio "Locality failover": outlier detection decides that an endpoint is not healthy, and the next level takes over.
#[tokio::test]
async fn requests_go_to_the_nearest_and_on_when_it_is_ejected() {
    let world = World::new();
    let (near, far) = (server("near", StatusCode::INTERNAL_SERVER_ERROR).await, server("far", StatusCode::OK).await);
    world.write(
        "entry.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec:\n  hosts: [a.example]\n  \
             location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             endpoints:\n  - {{address: 127.0.0.1, ports: {{http: {}}}, locality: us/1}}\n  \
             - {{address: 127.0.0.1, ports: {{http: {}}}, locality: eu/1/a}}\n---\napiVersion: \
             networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec:\n  host: a.example\n  \
             trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 3, maxEjectionPercent: 100}}}}\n",
            far.port(),
            near.port()
        ),
    );
    let workload = Workload::new("default", "caller").with_locality("eu/1".parse().unwrap());
    let builder = Mesh::builder().workload(workload).config_path(world.config()).development_identity(world.ca());
    let caller = builder.start().await.unwrap();
    let client = caller.client();
    let mut answers = Vec::new();
    for _ in 0..10 {
        let response = fetch(&client, get("http://a.example/")).await;
        answers.push(String::from_utf8(response.body().to_vec()).unwrap());
    }
    let (first, rest) = answers.split_at(3);
    assert!(first.iter().all(|name| name == "near") && rest.iter().all(|name| name == "far"), "{answers:?}");
}
