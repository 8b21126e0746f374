//! Active health checks: beside the requests, and only for clusters that ask for them.
//!
//! What a check is, and how many of them decide, is mesh-lb's ([`mesh_lb::HealthCheck`], [`mesh_lb::Checkup`]). Here they
//! are carried out: one task for each checked cluster, over the connector that requests take, so that an endpoint which
//! cannot prove its identity fails its check as it would fail a request. Where nothing is checked nothing runs but one
//! task that waits for the next configuration.

mod ask;
mod cluster;
mod grpc;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use mesh_core::ClusterName;
use mesh_lb::Cluster;
use tokio::{
    sync::{Semaphore, watch},
    task::{AbortHandle, JoinSet},
};

use crate::mesh::Inner;

/// Checks under way at a time, of all clusters of a mesh: a fleet's start, or a network that is down, should not take
/// every socket of the process.
const AT_A_TIME: usize = 256;

/// Keep checks going for the clusters of every configuration that comes into force. Ends with the mesh.
pub(crate) async fn check_all(mesh: Weak<Inner>) {
    let Some(mut changed) = mesh.upgrade().map(|mesh| mesh.inbound.changed.subscribe()) else { return };
    let at_a_time = Arc::new(Semaphore::new(AT_A_TIME));
    let mut tasks = JoinSet::new();
    let mut checked: HashMap<Arc<ClusterName>, (watch::Sender<Cluster>, AbortHandle)> = HashMap::new();
    loop {
        let Some(strong) = mesh.upgrade() else { return };
        changed.mark_unchanged();
        let connector = strong.outbound.connector.clone();
        let set = strong.in_force.load_full();
        // Nobody's mesh is kept going for its checks.
        drop(strong);
        let mut before = std::mem::take(&mut checked);
        let asks = |cluster: &&Cluster| cluster.policy().health_check.is_some() && !cluster.is_passthrough();
        for cluster in set.iter().flat_map(|set| set.iter()).filter(asks) {
            let name = Arc::clone(cluster.name());
            let running = match before.remove(&name) {
                Some(running) => {
                    running.0.send_replace(cluster.clone());
                    running
                }
                None => {
                    let (sender, receiver) = watch::channel(cluster.clone());
                    let checking = cluster::check(connector.clone(), receiver, Arc::clone(&at_a_time));
                    (sender, tasks.spawn(checking))
                }
            };
            checked.insert(name, running);
        }
        before.values().for_each(|(_, task)| task.abort());
        while tasks.try_join_next().is_some() {}
        if changed.changed().await.is_err() {
            return;
        }
    }
}
