//! An axum service in the mesh: mutual TLS, telemetry and policy in front of a plain `Router`.
//!
//! ```text
//! cargo run --example axum_server     # in one terminal, or in several: they are replicas
//! cargo run --example hyper_client    # in another
//! ```

use std::{error::Error, path::Path};

use axum::{Extension, Router, routing::get};
use mesh::{Mesh, PeerIdentity};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let state = Path::new("target/mesh-examples");
    let workloads = state.join("workloads");
    std::fs::create_dir_all(&workloads)?;

    let mesh = Mesh::builder()
        .workload(
            mesh::Workload::new("default", "greeter-v1")
                .with_labels(mesh::Labels::from_iter([("app", "greeter"), ("version", "v1")]))
                .with_service_account("greeter"),
        )
        .config_path(concat!(env!("CARGO_MANIFEST_DIR"), "/greeter.yaml"))
        // For development only. In earnest: .identity_files(certificate, key, roots)
        .development_identity(state.join("ca"))
        .start()
        .await?;

    let app = Router::new().route("/", get(greet));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let metrics = TcpListener::bind("127.0.0.1:0").await?;
    println!("greeter-v1 on {}, metrics on http://{}/metrics", listener.local_addr()?, metrics.local_addr()?);

    // Signals are caught from here on, before anybody is told that the service is there.
    let leaving = mesh.shutdown_on_signal();
    mesh.register(&workloads, listener.local_addr()?)?;
    // Until Ctrl-C or SIGTERM; then out of discovery first, and what is in flight is finished. With an accept loop of
    // your own, the same inbound stack is a layer: `app.layer(mesh.inbound_layer())`.
    let (served, observed, _) = tokio::join!(mesh.serve(listener, app), mesh.serve_observability(metrics), leaving);
    served.and(observed).map_err(Into::into)
}

/// The caller's identity is verified before the request is read; an application only looks at it.
async fn greet(peer: Option<Extension<PeerIdentity>>) -> String {
    let caller = peer.as_ref().map_or("somebody without identity", |peer| peer.id().as_str());
    format!("Hello, {caller}!\n")
}
