//! VirtualServices that name a host and do not route it, for those who ask why.

use std::{collections::HashMap, sync::Arc};

use mesh_core::{HostPattern, config::ObjectRef};

use crate::VirtualService;

/// A VirtualService, one of its hosts, and how it stands.
#[derive(Clone, Debug)]
pub(crate) struct Bystander {
    pub(crate) virtual_service: Arc<VirtualService>,
    pub(crate) host: HostPattern,
    pub(crate) standing: Standing,
}

/// Why a VirtualService does not route a host.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It lists gateways, and `mesh` is not among them.
    GatewaysOnly,
    /// `exportTo` leaves the client's namespace out.
    NotExported,
    /// It has no rule for this client.
    NothingForClient,
    /// Another has the same host, and comes first.
    Second(Arc<ObjectRef>),
    /// It is in force, by a wildcard: another host is more specific, or the request's is none of those covered.
    Wildcard,
}

/// All of them, by host.
#[derive(Debug, Default)]
pub(super) struct Bystanders {
    exact: HashMap<Arc<str>, Vec<Bystander>>,
    wildcards: Vec<Bystander>,
}

impl Bystanders {
    pub(super) fn push(&mut self, host: &HostPattern, virtual_service: &Arc<VirtualService>, standing: Standing) {
        let bystander = Bystander { virtual_service: Arc::clone(virtual_service), host: host.clone(), standing };
        match host {
            HostPattern::Exact(name) => self.exact.entry(Arc::clone(name)).or_default().push(bystander),
            HostPattern::Suffix(_) | HostPattern::Any => self.wildcards.push(bystander),
        }
    }

    /// Those whose host is this one or covers it.
    pub(super) fn of(&self, host: &HostPattern) -> impl Iterator<Item = &Bystander> {
        let exact = host.exact().and_then(|name| self.exact.get(name)).into_iter().flatten();
        let covers = move |bystander: &&Bystander| match host {
            HostPattern::Exact(name) => bystander.host.matches(name),
            pattern => bystander.host == *pattern,
        };
        exact.chain(self.wildcards.iter().filter(covers))
    }
}
