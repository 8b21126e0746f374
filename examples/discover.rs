//! Endpoints from code: servers come and go, and the next request knows.
//!
//! ```text
//! cargo run --example discover
//! ```

use std::{collections::BTreeMap, error::Error, net::SocketAddr};

use axum::{Router, routing::get};
use http::Request;
use http_body_util::BodyExt;
use mesh::{Body, Client, Endpoint, EndpointAddress, Mesh, Published};
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceExt;

const HOST: &str = "inventory.internal";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // The service is configuration's, as ever. Whoever knows its endpoints says so through `published`: a registry of your
    // own would implement `Discover` instead.
    let published = Published::new();
    let mesh = Mesh::builder()
        .config_value(
            "inventory",
            &json!({
                "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "inventory"},
                "spec": {
                    "hosts": [HOST], "resolution": "STATIC",
                    "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                },
            }),
        )
        .discover(published.clone())
        .dangerous()
        .without_identity()
        .start()
        .await?;
    let client = mesh.client();

    let servers = [server("one").await?, server("two").await?, server("three").await?];
    published.set(HOST, 80, servers[..1].iter().map(|address| Endpoint::new(*address)));
    println!("one:    {:?}", ask(&client).await?);

    published.add(HOST, 80, Endpoint::new(servers[1]));
    published.add(HOST, 80, Endpoint::new(servers[2]).with_weight(2));
    println!("three:  {:?}", ask(&client).await?);

    published.remove(HOST, 80, &EndpointAddress::from(servers[0]));
    println!("two:    {:?}", ask(&client).await?);

    published.set(HOST, 80, []);
    println!("none:   {:?}", ask(&client).await?);
    Ok(())
}

/// Who answers how many of a hundred requests.
async fn ask(client: &Client) -> Result<BTreeMap<String, usize>, Box<dyn Error + Send + Sync>> {
    let mut answers = BTreeMap::new();
    for _ in 0..100 {
        let request = Request::get(format!("http://{HOST}/")).body(Body::empty())?;
        let Ok(response) = client.clone().oneshot(request).await;
        let body = response.into_body().collect().await?.to_bytes();
        *answers.entry(String::from_utf8_lossy(&body).into_owned()).or_default() += 1;
    }
    Ok(answers)
}

async fn server(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/", get(async move || name));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}
