//! What runs beside the requests. Tasks hold the mesh weakly and are ended with it.

use std::sync::{Arc, Weak};

use mesh_core::{MeshConfig, config::Issues};
use tokio::task::AbortHandle;

use super::Inner;
use crate::{
    config::{self, Models, Reader, Store, Watch},
    connect::SWEEP,
    health,
    identity::OpenIdentity,
    jwks::{self, Fetcher},
    prequal,
};

/// Running tasks; dropping this ends them.
#[derive(Debug)]
pub(crate) struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

pub(super) fn spawn(
    mesh: &Arc<Inner>,
    reader: Reader,
    texts: config::Texts,
    store: Store,
    identity: Option<OpenIdentity>,
    discovery: impl Future<Output = ()> + Send + 'static,
    fetcher: Fetcher,
) -> Tasks {
    let mut tasks = vec![
        tokio::spawn(discovery).abort_handle(),
        tokio::spawn(jwks::follow(fetcher.clone(), mesh.inbound.clone())).abort_handle(),
        tokio::spawn(sweep_connections(Arc::downgrade(mesh))).abort_handle(),
        tokio::spawn(health::check_all(Arc::downgrade(mesh))).abort_handle(),
        tokio::spawn(prequal::keep_probing(Arc::downgrade(mesh))).abort_handle(),
    ];
    if reader.paths().next().is_some() {
        let watch = config::watch(reader, texts);
        tasks.push(tokio::spawn(follow_config(Arc::downgrade(mesh), watch, store, fetcher)).abort_handle());
    }
    if let Some(identity) = identity {
        tasks.push(tokio::spawn(follow_identity(Arc::downgrade(mesh), identity)).abort_handle());
    }
    Tasks(tasks)
}

async fn follow_config(mesh: Weak<Inner>, mut watch: Watch, mut store: Store, fetcher: Fetcher) {
    // Names of the mesh itself are in certificates and roots: they hold for the life of the process.
    let settings = store.models().mesh;
    loop {
        let texts = watch.changed().await;
        let Some(mesh) = mesh.upgrade() else { return };
        let (workload, clusters) = (Arc::clone(&mesh.workload), mesh.clusters.clone());
        let (before, settings) = (store.clone(), Arc::clone(&settings));
        // Large configurations take a while: not on a thread that serves requests.
        let reading = tokio::task::spawn_blocking(move || {
            let mut issues = Issues::default();
            let store = before.update(&texts, &mut issues);
            let mut models = store.models();
            keep_trust_domain(&mut models, &settings, &mut issues);
            let compiled = config::compile(&models, &workload, &clusters, &mut issues);
            (store, compiled, issues)
        });
        let (next, compiled, issues) = match reading.await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(target: "mesh::config", %error, "configuration not taken in: the last good one stays");
                continue;
            }
        };
        store = next;
        jwks::prefetch(&fetcher, &mesh.inbound.keys, &compiled.authentications).await;
        mesh.publish(compiled, issues);
    }
}

/// A trust domain cannot change under the certificates that name it.
fn keep_trust_domain(models: &mut Models, at_start: &Arc<MeshConfig>, issues: &mut Issues) {
    if models.mesh.trust_domain == at_start.trust_domain {
        return;
    }
    if let Some(document) = &models.mesh.document {
        let message = "the trust domain changed, which takes a restart: the settings of the start stay in force";
        issues.push(document.error("trustDomain", message));
    }
    models.mesh = Arc::clone(at_start);
}

async fn sweep_connections(mesh: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(mesh) = mesh.upgrade() else { return };
        mesh.outbound.connector.sweep();
    }
}

/// After a rotation, requests take connections made with the new identity.
async fn follow_identity(mesh: Weak<Inner>, identity: OpenIdentity) {
    let mut generations = identity.handle.subscribe();
    while generations.changed().await.is_some() {
        let Some(mesh) = mesh.upgrade() else { return };
        mesh.outbound.connector.identity_changed();
    }
}
