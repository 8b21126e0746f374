//! Whose rules a host gets when several VirtualServices name it.
//!
//! As in Istio: of two that name a service, the first with rules for the port has it (istio buildVirtualHost: "not
//! merged", the later is dropped); where none names it, the most specific wildcard's does, and nobody when that one has
//! no rules (istio computeWildcardHostVirtualServiceIndex).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mesh_core::{HostPattern, Workload, config::Issues, registry::Service};

use super::bystanders::{Bystanders, Standing};
use crate::{
    VirtualService,
    virtual_service::{Place, Rule, Semantics},
};

/// A host that a VirtualService names.
pub(super) struct Owner<'a> {
    /// The VirtualService's place among those in force: the first comes first.
    pub(super) order: usize,
    pub(super) pattern: &'a HostPattern,
    pub(super) place: &'a Place,
    pub(super) virtual_service: &'a Arc<VirtualService>,
    /// Has it a rule for this client, on some port?
    speaks: bool,
}

/// All owners, in order.
#[derive(Default)]
pub(super) struct Owners<'a> {
    all: Vec<Owner<'a>>,
    by_pattern: HashMap<&'a HostPattern, Vec<usize>>,
    wildcards: Vec<&'a HostPattern>,
    /// Ports of services that a pattern stands for, whoever owns them.
    covered: HashMap<&'a HostPattern, BTreeSet<u16>>,
    /// Ports of HTTP services that VirtualServices may own.
    matched: HashMap<usize, BTreeSet<u16>>,
}

impl<'a> Owners<'a> {
    /// The hosts of the VirtualServices in force for a client. Those that are not, or own nothing, become bystanders.
    pub(super) fn new(
        all: &'a [Arc<VirtualService>],
        client: &Workload,
        bystanders: &mut Bystanders,
        issues: &mut Issues,
    ) -> Self {
        let mut ranked = Vec::with_capacity(all.len());
        for vs in all {
            let standing = if vs.applies_to_mesh() { Standing::NotExported } else { Standing::GatewaysOnly };
            match vs.rank(&client.namespace).filter(|_| vs.applies_to_mesh()) {
                Some(rank) => ranked.push((rank, vs)),
                None => vs.hosts().for_each(|host| bystanders.push(host, vs, standing.clone())),
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut owners = Self::default();
        for (order, (_, virtual_service)) in ranked.into_iter().enumerate() {
            let of_client = |rule: &Rule| {
                rule.matches.is_empty() || rule.matches.iter().any(|matcher| matcher.source.admits(client))
            };
            let speaks = virtual_service.rules().iter().any(of_client);
            for host in virtual_service.host_entries() {
                let (pattern, place) = (&host.pattern, &host.place);
                let first = owners.named(pattern).find(|first| first.speaks && speaks);
                if let Some(first) = first.filter(|first| !shares(first.virtual_service, virtual_service)) {
                    let first = first.virtual_service.object();
                    let message = format!("host {pattern} is routed by {first} already, which comes first");
                    issues.push(place.warning(message));
                }
                let standing = match first {
                    Some(first) => Some(Standing::Second(Arc::new(first.virtual_service.object().clone()))),
                    None if !speaks => Some(Standing::NothingForClient),
                    None => pattern.exact().is_none().then_some(Standing::Wildcard),
                };
                if let Some(standing) = standing {
                    bystanders.push(pattern, virtual_service, standing);
                }
                owners.insert(Owner { order, pattern, place, virtual_service, speaks });
            }
        }
        owners
    }

    fn insert(&mut self, owner: Owner<'a>) {
        let same = self.by_pattern.entry(owner.pattern).or_default();
        if same.is_empty() && owner.pattern.exact().is_none() {
            self.wildcards.push(owner.pattern);
        }
        same.push(self.all.len());
        self.all.push(owner);
    }

    fn named(&self, pattern: &HostPattern) -> impl Iterator<Item = &Owner<'a>> {
        self.by_pattern.get(pattern).into_iter().flatten().map(|index| &self.all[*index])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Owner<'a>> {
        self.all.iter()
    }

    /// Those whose rules a service may get, the first first; and note that it exists.
    pub(super) fn of(&mut self, service: &Service, http_ports: &[u16]) -> Vec<(usize, &'a Arc<VirtualService>)> {
        let host = &service.pattern;
        let ports = || service.ports.iter().map(|port| port.number);
        let covering = self.wildcards.iter().copied().filter(|wildcard| wildcard.covers(host));
        // istio MostSpecificHostMatch: the exact host, else the longest wildcard.
        let longest = covering.clone().min();
        for pattern in covering {
            self.covered.entry(pattern).or_default().extend(ports());
        }
        let found = match self.by_pattern.get_key_value(host) {
            Some((pattern, indices)) => {
                self.covered.entry(*pattern).or_default().extend(ports());
                // Of wildcards only one may own a service.
                if pattern.exact().is_some() { &**indices } else { &indices[..1] }
            }
            None => longest.map(|wildcard| &self.by_pattern[wildcard][..1]).unwrap_or_default(),
        };
        let found: Vec<_> = found.iter().map(|index| &self.all[*index]).collect();
        for owner in &found {
            self.matched.entry(owner.order).or_default().extend(http_ports);
        }
        found.into_iter().map(|owner| (owner.order, owner.virtual_service)).collect()
    }

    /// Is a pattern the host of no service, on any port?
    pub(super) fn is_outside(&self, pattern: &HostPattern) -> bool {
        !self.covered.contains_key(pattern)
    }

    /// The ports on which Istio has a virtual host for an owner's pattern itself: where it stands for no service, port 80
    /// ("This is hack to keep consistent with previous behavior", istio BuildSidecarOutboundVirtualHosts), and those on
    /// which the same VirtualService owns a service.
    pub(super) fn ports(&self, owner: &Owner<'a>) -> BTreeSet<u16> {
        let mut ports = self.matched.get(&owner.order).cloned().unwrap_or_default();
        ports.insert(UNREGISTERED_PORT);
        if let Some(covered) = self.covered.get(owner.pattern) {
            ports.retain(|port| !covered.contains(port));
        }
        ports
    }

    /// Is this the first that names its host?
    pub(super) fn is_first(&self, owner: &Owner<'a>) -> bool {
        self.named(owner.pattern).next().is_some_and(|first| first.order == owner.order)
    }
}

/// Istio gives hosts outside the registry a virtual host on port 80 only. Here any port reaches it, and its
/// destinations that name no port have 80 unless their service has exactly one.
pub(super) const UNREGISTERED_PORT: u16 = 80;

/// May both have rules for a host? Two VirtualServices may not, and neither may two of a kind for the same port; a
/// consumer's route hides the producer's on purpose.
fn shares(first: &VirtualService, other: &VirtualService) -> bool {
    match (first.semantics(), other.semantics()) {
        (Semantics::Gateway { port: a }, Semantics::Gateway { port: b }) => {
            (a.is_some() && a != b) || first.object().namespace != other.object().namespace
        }
        _ => false,
    }
}
