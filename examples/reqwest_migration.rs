//! From reqwest to the mesh: the same call before and after, and what changes.
//!
//! ```text
//! cargo run --example axum_server                              # in one terminal
//! cargo run --example reqwest_migration --features reqwest     # in another
//! ```

use std::{error::Error, path::Path, time::Duration};

use http_body_util::BodyExt;
use mesh::{Body, Client, Mesh};
use tower::ServiceExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let state = Path::new("target/mesh-examples");
    let workloads = state.join("workloads");
    std::fs::create_dir_all(&workloads)?;
    let mesh = Mesh::builder()
        .workload(mesh::Workload::new("default", "visitor-v1").with_service_account("visitor"))
        .config_path(concat!(env!("CARGO_MANIFEST_DIR"), "/greeter.yaml"))
        .config_path(&workloads)
        .development_identity(state.join("ca"))
        .start()
        .await?;

    // Before: DNS finds the address, nobody knows who calls, and retries are the caller's business.
    match before(&reqwest::Client::new()).await {
        Ok(text) => print!("reqwest: {text}"),
        Err(error) => println!("reqwest: {error} (outside the mesh there is no host `greeter`)"),
    }
    print!("mesh:    {}", after(&mesh.client(), reqwest::Method::GET, "http://greeter/").await?);
    Ok(())
}

async fn before(client: &reqwest::Client) -> reqwest::Result<String> {
    let request = client.get("http://greeter/").timeout(Duration::from_secs(2));
    request.send().await?.error_for_status()?.text().await
}

/// reqwest's methods, headers and URLs are those of `http`, so that only the sending changes.
async fn after(client: &Client, method: reqwest::Method, url: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    let request = http::Request::builder().method(method).uri(url).body(Body::empty())?;
    let Ok(response) = tokio::time::timeout(Duration::from_secs(2), client.clone().oneshot(request)).await?;
    if !response.status().is_success() {
        return Err(format!("answered {}", response.status()).into());
    }
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}
