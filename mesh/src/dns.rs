//! Services whose endpoints are names: looked up in the background, so that balancing sees every address.
//!
//! Until a name has been answered for the first time its endpoint stands as a name and is looked up when it is dialled.
//! A failed lookup changes nothing: the last answer stays (fail static). DNS_ROUND_ROBIN stays a name: its
//! first address is asked for anew with every connection.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use mesh_core::{
    Endpoint, EndpointAddress,
    registry::{Registry, Resolution, Resolve, Service},
};
use mesh_lb::Clusters;

/// Envoy's `dns_refresh_rate` where no TTL is known, as with the system's resolver.
pub(crate) const REFRESH: Duration = Duration::from_secs(5);

/// What names resolved to last.
#[derive(Debug, Default)]
pub(crate) struct Dns(HashMap<(Arc<str>, u16), Vec<SocketAddr>>);

impl Dns {
    /// Look up every name of the registry once, and put the addresses in force.
    pub(crate) async fn refresh(&mut self, registry: &Registry, resolve: &dyn Resolve, clusters: &Clusters) {
        for service in registry.services().filter(|service| service.resolution == Resolution::Dns) {
            for port in &service.ports {
                let endpoints = self.lookup(service, port.number, resolve).await;
                if let Some(endpoints) = endpoints {
                    clusters.set_endpoints(&service.name.host, port.number, endpoints);
                }
            }
        }
    }

    /// The endpoints of a port with addresses in the place of names; `None` when nothing differs from before.
    async fn lookup(&mut self, service: &Service, port: u16, resolve: &dyn Resolve) -> Option<Vec<Arc<Endpoint>>> {
        let (mut endpoints, mut changed) = (Vec::new(), false);
        for endpoint in service.endpoints(port) {
            let EndpointAddress::Name(host, port) = &endpoint.address else {
                endpoints.push(endpoint);
                continue;
            };
            let name = (Arc::clone(host), *port);
            match resolve.resolve(host, *port).await {
                Ok(addresses) if !addresses.is_empty() => {
                    changed |= self.0.insert(name.clone(), addresses.clone()) != Some(addresses);
                }
                Ok(_) => tracing::warn!(target: "mesh::dns", %host, "no addresses: the last answer stays"),
                Err(error) => {
                    tracing::warn!(target: "mesh::dns", %host, %error, "lookup failed: the last answer stays")
                }
            }
            match self.0.get(&name) {
                Some(addresses) => endpoints.extend(addresses.iter().map(|address| {
                    let mut resolved = Endpoint::clone(&endpoint);
                    resolved.address = (*address).into();
                    Arc::new(resolved)
                })),
                None => endpoints.push(endpoint),
            }
        }
        changed.then_some(endpoints)
    }
}
