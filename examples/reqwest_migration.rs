//! From reqwest to the mesh: the same call before, with reqwest kept, and with the mesh's own client.
//!
//! ```text
//! cargo run --example axum_server                              # in one terminal
//! cargo run --example reqwest_migration --features reqwest     # in another
//! ```

use std::{
    error::Error,
    future::Future,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use mesh::{BoxError, Mesh};
use tower::{Layer, Service, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Something outside the mesh, without mutual TLS; only the mesh knows where `prices.example` is.
    let outside = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = outside.local_addr()?.port();
    let prices = axum::Router::new().route("/", axum::routing::get(async || "3 gold pieces\n"));
    tokio::spawn(async move { axum::serve(outside, prices).await });

    let state = Path::new("target/mesh-examples");
    let workloads = state.join("workloads");
    std::fs::create_dir_all(&workloads)?;
    let entry = format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: prices}}, spec: {{\
         hosts: [prices.example], location: MESH_EXTERNAL, resolution: STATIC, \
         ports: [{{number: 80, name: http, protocol: HTTP}}], \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]}}}}"
    );
    let mesh = Mesh::builder()
        .workload(mesh::Workload::new("default", "visitor-v1").with_service_account("visitor"))
        .config_path(concat!(env!("CARGO_MANIFEST_DIR"), "/greeter.yaml"))
        .config_path(&workloads)
        .config_text("prices", &entry)
        .development_identity(state.join("ca"))
        .start()
        .await?;

    // Before: DNS finds the address, which here it cannot.
    let reqwest = reqwest::Client::new();
    let request = reqwest.get("http://prices.example/").build()?;
    println!("reqwest alone:       {}", reqwest.execute(request).await.map(|_| "?").unwrap_or("no such host"));

    // reqwest kept: the mesh decides where each request goes, times out, retries, counts; reqwest still connects.
    // What that lacks: mutual TLS with mesh identity, so that services under STRICT refuse it.
    let kept = mesh.outbound_layer().layer(Reqwest(reqwest.clone()));
    let request: Request<reqwest::Body> = reqwest.get("http://prices.example/").build()?.try_into()?;
    let response = kept.oneshot(request).await?;
    println!("reqwest in the mesh: {}, {}", response.status(), text(response).await?);

    // After: the mesh connects too, and any body type will do, reqwest's included.
    let request: Request<reqwest::Body> = reqwest.get("http://greeter/").build()?.try_into()?;
    let response = mesh.client().oneshot(request).await?;
    println!("the mesh's client:   {}, {}", response.status(), text(response).await?);
    Ok(())
}

async fn text<B>(response: Response<B>) -> Result<String, BoxError>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    let body = response.into_body().collect().await.map_err(Into::into)?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// reqwest as a service of `http`'s types, to stand below the mesh's layers.
#[derive(Clone, Debug)]
struct Reqwest(reqwest::Client);

impl<B> Service<Request<B>> for Reqwest
where
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Response = Response<reqwest::Body>;
    type Error = reqwest::Error;
    type Future = Pin<Box<dyn Future<Output = reqwest::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<reqwest::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.0.clone();
        let request = request.map(reqwest::Body::wrap).try_into();
        Box::pin(async move { Ok(client.execute(request?).await?.into()) })
    }
}
