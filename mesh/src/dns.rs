//! Services whose endpoints are names: looked up in the background, so that balancing sees every address.
//!
//! Until a name has been answered for the first time its endpoint stands as a name and is looked up when it is dialled.
//! A failed lookup changes nothing: the last answer stays (fail static). DNS_ROUND_ROBIN stays a name: its
//! first address is asked for anew with every connection.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use mesh_core::{
    Endpoint, EndpointAddress,
    registry::{Registry, Resolution, Resolve, Service, ServicePort, addresses_to_dial},
};
use mesh_lb::Clusters;
use tokio::{task::JoinSet, time::timeout};

/// Envoy's `dns_refresh_rate` where no TTL is known, as with the system's resolver.
pub(crate) const REFRESH: Duration = Duration::from_secs(5);
/// One name that hangs keeps no other waiting longer than this.
const LOOKUP: Duration = Duration::from_secs(5);

type Name = (Arc<str>, u16);

/// What names resolved to last.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    known: HashMap<Name, Vec<SocketAddr>>,
    /// Names whose last lookup failed: said once, not every few seconds.
    failing: BTreeSet<Name>,
}

impl Dns {
    /// Look up every name of the registry once, and put the addresses in force.
    pub(crate) async fn refresh(&mut self, registry: &Registry, resolve: &Arc<dyn Resolve>, clusters: &Clusters) {
        let wanted: BTreeSet<Name> = ports(registry)
            .flat_map(|(service, port)| service.endpoints(port.number))
            .filter_map(|e| name(&e))
            .collect();
        self.known.retain(|name, _| wanted.contains(name));
        self.failing.retain(|name| wanted.contains(name));
        let mut lookups = JoinSet::new();
        for name in wanted {
            let resolve = Arc::clone(resolve);
            lookups.spawn(async move {
                let answer = timeout(LOOKUP, addresses_to_dial(&*resolve, &name.0, name.1)).await;
                (name, answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
            });
        }
        while let Some(lookup) = lookups.join_next().await {
            match lookup {
                Ok((name, Ok(mut addresses))) if !addresses.is_empty() => {
                    // envoy BaseDynamicClusterImpl::updateDynamicHostList: the same hosts in another order are no change, an
                    // address that comes twice is one host. Servers shuffle their answers.
                    addresses.sort_unstable();
                    addresses.dedup();
                    self.failing.remove(&name);
                    self.known.insert(name, addresses);
                }
                Ok((name, Ok(_))) => self.failed(name, &"no addresses"),
                Ok((name, Err(error))) => self.failed(name, &error),
                Err(error) => tracing::warn!(target: "mesh::dns", %error, "the resolver failed"),
            }
        }
        for (service, port) in ports(registry) {
            let named = service.endpoints(port.number);
            let expanded = self.expand(&named);
            clusters.set_endpoints(&service.name.host, port.number, &named, expanded);
        }
    }

    fn failed(&mut self, name: Name, why: &dyn std::fmt::Display) {
        if self.failing.insert(name.clone()) {
            tracing::warn!(target: "mesh::dns", host = %name.0, error = %why, "lookup failed: the last answer stays");
        }
    }

    /// Addresses in the place of the names that have been answered.
    fn expand(&self, named: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
        let mut expanded = Vec::with_capacity(named.len());
        for endpoint in named {
            match name(endpoint).and_then(|name| self.known.get(&name)) {
                Some(addresses) => expanded.extend(addresses.iter().map(|address| {
                    let mut resolved = Endpoint::clone(endpoint);
                    resolved.address = (*address).into();
                    Arc::new(resolved)
                })),
                None => expanded.push(Arc::clone(endpoint)),
            }
        }
        expanded
    }
}

/// The ports of services that are looked up.
fn ports(registry: &Registry) -> impl Iterator<Item = (&Arc<Service>, &ServicePort)> {
    let dns = registry.services().filter(|service| service.resolution == Resolution::Dns);
    dns.flat_map(|service| service.ports.iter().map(move |port| (service, port)))
}

fn name(endpoint: &Arc<Endpoint>) -> Option<Name> {
    match &endpoint.address {
        EndpointAddress::Name(host, port) => Some((Arc::clone(host), *port)),
        EndpointAddress::Socket(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, sync::Mutex};

    use mesh_core::{
        MeshConfig, Workload,
        config::{Document, Issues},
        registry::Answer,
    };
    use mesh_lb::DestinationRules;

    use super::*;

    /// Answers the next of these, again and again.
    #[derive(Debug)]
    struct Answers(Mutex<Vec<Vec<SocketAddr>>>);

    impl Resolve for Answers {
        fn resolve<'a>(&'a self, _: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Answer>> + Send + 'a>> {
            let mut answers = self.0.lock().unwrap();
            answers.rotate_left(1);
            let answer = answers.last().cloned().unwrap_or_default();
            Box::pin(async { Ok(Answer::new(answer.into_iter().map(Into::into))) })
        }
    }

    /// Kubernetes' DNS shuffles its answers: nothing is built anew for that, tables of hashes least of all.
    #[tokio::test]
    async fn the_same_addresses_in_another_order_are_no_change() {
        let yaml = "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {name: db}\nspec:\n  hosts: \
                    [db.test]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: DNS\n";
        let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
        let documents = Document::parse_all("db.yaml", yaml, &mut issues);
        let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
        let clusters = Clusters::new();
        let set = clusters.build(&registry, &DestinationRules::new(&[]), &Workload::new("default", "client"), &mesh);
        let cluster = set.iter().next().unwrap();
        let [a, b] = [1, 2].map(|n| SocketAddr::from(([10, 0, 0, n], 80)));
        let resolve: Arc<dyn Resolve> = Arc::new(Answers(Mutex::new(vec![vec![a, b], vec![b, a, b]])));
        let mut dns = Dns::default();
        dns.refresh(&registry, &resolve, &clusters).await;
        let members = cluster.members();
        assert_eq!(members.len(), 2);
        for _ in 0..2 {
            dns.refresh(&registry, &resolve, &clusters).await;
            assert!(Arc::ptr_eq(&members, &cluster.members()));
        }
    }
}
