//! The clusters that exist, and the upstreams behind them.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::model::PORTS;

/// Tables that are in force together: a batch is one push to each side.
pub(crate) const TABLES: usize = 40;

/// The services that rules send to, with their ports. `dead` refuses connections; the two shadows get nothing but copies.
pub(crate) const UPSTREAMS: [(&str, &[u16]); 6] =
    [("a", &[80]), ("b", &[8080]), ("c", &[80, 8080]), ("dead", &[80]), ("shadow", &[80]), ("shade", &[80, 8080])];

/// A subset that is defined. `v9` is not.
const SUBSET: (&str, u16, &str) = ("a", 80, "v1");

/// Where requests go that no table knows the host of.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";

/// Names of clusters, and of the upstreams behind them.
pub(crate) static CLUSTERS: LazyLock<BTreeMap<String, &'static str>> = LazyLock::new(|| {
    let mut all = BTreeMap::from([(PASSTHROUGH.to_owned(), "passthrough")]);
    for (service, ports) in UPSTREAMS {
        for port in ports {
            let label = if (service, *port) == ("c", 8080) { "c:8080" } else { service };
            all.insert(cluster(*port, "", &kubernetes(service, "default")), label);
        }
    }
    let (service, port, subset) = SUBSET;
    all.insert(cluster(port, subset, &kubernetes(service, "default")), "a:v1");
    for table in 0..TABLES {
        for host in own_hosts(table) {
            for port in PORTS {
                all.insert(cluster(port, "", &host), "own");
            }
        }
    }
    all
});

/// The services that a table may bring along: in the client's namespace, in another, and two that are not of Kubernetes.
pub(crate) fn own_hosts(table: usize) -> [String; 4] {
    [
        kubernetes(&format!("t{table}"), "default"),
        kubernetes(&format!("s{table}"), &format!("n{table}")),
        format!("one.w{table}.test"),
        format!("two.x.w{table}.test"),
    ]
}

/// Only copies go there.
pub(crate) fn is_shadow(upstream: &str) -> bool {
    matches!(upstream, "shadow" | "shade")
}

/// Istio's name of a cluster.
pub(crate) fn cluster(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

fn kubernetes(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc.cluster.local")
}
