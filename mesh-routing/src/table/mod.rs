//! The route table: what all VirtualServices together say to this client, compiled.
//!
//! A table is immutable and is replaced as a whole, so that no request is routed by half of a change. Looking a
//! request up takes two steps: the host and port give a virtual host, and the first of its routes that matches gives
//! the decision, found by an index instead of a scan. Neither allocates.

mod bystanders;
mod compile;
mod hosts;
pub(crate) mod index;
mod owners;
mod route;

pub(crate) use bystanders::{Bystander, Standing};
pub use compile::CompileInput;
pub(crate) use compile::route_name;
pub(crate) use route::{Action, Entry, Origin, VirtualHost};
pub use route::{Decision, Destination, Route};

use std::sync::Arc;

use mesh_core::{ClusterName, Error, HostPattern, Reason, Workload, path::PathNormalization};

use crate::RequestHead;
use bystanders::Bystanders;
use hosts::HostMap;

/// All routes of a client. See [`RouteTable::compile`].
#[derive(Debug)]
pub struct RouteTable<C> {
    hosts: HostMap<Arc<VirtualHost<C>>>,
    /// For hosts that nobody knows; `None` under REGISTRY_ONLY.
    passthrough: Option<Destination<C>>,
    path_normalization: PathNormalization,
    bystanders: Bystanders,
    client: Workload,
}

impl<C> RouteTable<C> {
    /// How paths are to be normalised before they are matched.
    #[must_use]
    pub fn path_normalization(&self) -> PathNormalization {
        self.path_normalization
    }

    /// Decide what becomes of a request. Pure: `roll` is asked for 64 random bits where a route has several
    /// destinations.
    ///
    /// # Errors
    /// [`Reason::NoRoute`] when no rule of the host matches, [`Reason::Blackhole`] for a host outside the registry
    /// under REGISTRY_ONLY.
    pub fn route(&self, head: &RequestHead<'_>, roll: impl FnOnce() -> u64) -> Result<Decision<'_, C>, Error> {
        match self.hosts.find(head.host(), head.port()) {
            // istio networking/v1alpha3 VirtualService.http: "The first rule matching an incoming request is used."
            Some(host) => match host.route(head) {
                Some(route) => Ok(route.decide(roll)),
                // measured on Envoy 1.40 (t1): routes exist but none matches: 404, empty body, NR.
                None => Err(Error::new(Reason::NoRoute)),
            },
            // istio buildCatchAllVirtualHost
            None => self.passthrough.as_ref().map(Decision::Forward).ok_or_else(|| Error::new(Reason::Blackhole)),
        }
    }

    /// What [`route`](Self::route) finds first.
    pub(crate) fn virtual_host(&self, head: &RequestHead<'_>) -> Option<&VirtualHost<C>> {
        self.hosts.find(head.host(), head.port()).map(|host| &**host)
    }

    /// For hosts that nobody knows.
    pub(crate) fn passthrough(&self) -> Option<&Destination<C>> {
        self.passthrough.as_ref()
    }

    /// The virtual hosts of an exact host, whatever the port.
    pub(crate) fn ports_of(&self, host: &str) -> impl Iterator<Item = &VirtualHost<C>> {
        self.hosts.ports_of(host).map(|host| &**host)
    }

    /// All virtual hosts, in no order and with repetitions.
    pub(crate) fn virtual_hosts(&self) -> impl Iterator<Item = &VirtualHost<C>> {
        self.hosts.values().map(|host| &**host)
    }

    /// VirtualServices that name a host and do not route it.
    pub(crate) fn bystanders(&self, host: &HostPattern) -> impl Iterator<Item = &Bystander> {
        self.bystanders.of(host)
    }

    /// Whose table it is.
    pub(crate) fn client(&self) -> &Workload {
        &self.client
    }

    /// The clusters that routes point at, in no order and with repetitions.
    pub fn cluster_names(&self) -> impl Iterator<Item = &Arc<ClusterName>> {
        let routes = self.hosts.values().flat_map(|host| host.routes());
        routes.flat_map(|route| route.destinations()).map(Destination::name)
    }
}

#[cfg(test)]
mod tests;
