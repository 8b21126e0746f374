//! A client in the mesh, for those who write requests with `http` and hyper: discovered, balanced, routed, secured.
//!
//! ```text
//! cargo run --example axum_server     # in one terminal, or in several: they are replicas
//! cargo run --example hyper_client    # in another
//! ```

use std::{error::Error, path::Path};

use http::Request;
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
        // Two lines of Istio YAML in code, to show that a file is not needed.
        .config_text(
            "retries",
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: greeter}\n\
             spec: {hosts: [greeter], http: [{timeout: 2s, route: [{destination: {host: greeter}}]}]}\n",
        )
        .development_identity(state.join("ca"))
        .start()
        .await?;

    // Clones of it, for whatever body type, share connections, limits and statistics.
    let client: Client = mesh.client();
    for _ in 0..5 {
        let request = Request::get("http://greeter/").body(Body::empty())?;
        // A call that fails is an answer too, with the status and body that Envoy would give.
        let Ok(response) = client.clone().oneshot(request).await;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        print!("{status}: {}", String::from_utf8_lossy(&body));
        if !status.is_success() {
            println!("\nIs the server running? cargo run --example axum_server");
            break;
        }
    }
    Ok(())
}
