//! Virtual hosts, their routes and what routes do.

use std::sync::Arc;

use mesh_core::{ClusterName, HostPattern};

use super::index::Index;
use crate::{DirectResponse, Redirect, RequestHead, RoutePolicy, VirtualService, matcher::RouteMatch};

/// The routes of a host, in order.
#[derive(Debug)]
pub(crate) struct VirtualHost<C> {
    entries: Box<[Entry<C>]>,
    index: Index,
    about: About,
}

/// A route and when it applies; no matcher applies always. Side by side in memory: a match costs one more cache line.
#[derive(Debug)]
pub(crate) struct Entry<C> {
    pub(crate) matcher: Option<Arc<RouteMatch>>,
    pub(crate) route: Route<C>,
    /// Where in the rules of the host's owner it stands; `None` of a route that no rule of it made.
    pub(crate) origin: Option<Origin>,
}

/// A rule of a VirtualService, and an entry of its `match`: numbers in the merged list, not in the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) rule: u32,
    /// `None` where it has no `match`.
    pub(crate) entry: Option<u32>,
}

/// Whose routes they are, for those who ask why.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) host: HostPattern,
    /// `None` where any port will do.
    pub(crate) port: Option<u16>,
    /// Is HTTP spoken there?
    pub(crate) http: bool,
    /// Is it a service of the registry, and not only a name of VirtualServices?
    pub(crate) service: bool,
    /// The VirtualService that names the host.
    pub(crate) owner: Option<Arc<VirtualService>>,
    /// Others that come before it, and have no rule for the port.
    pub(crate) passed: Vec<Arc<VirtualService>>,
}

impl About {
    pub(super) fn new(host: HostPattern, port: Option<u16>, http: bool) -> Self {
        Self { host, port, http, service: false, owner: None, passed: Vec::new() }
    }

    /// Of those that were asked for rules the last one has them.
    pub(super) fn asked(&mut self, virtual_service: &Arc<VirtualService>) {
        self.passed.extend(self.owner.replace(Arc::clone(virtual_service)));
    }
}

impl<C> VirtualHost<C> {
    pub(super) fn new(entries: Vec<Entry<C>>, about: About) -> Self {
        let index = Index::new(entries.iter().map(|entry| entry.matcher.as_deref()));
        Self { entries: entries.into(), index, about }
    }

    pub(super) fn route(&self, head: &RequestHead<'_>) -> Option<&Route<C>> {
        self.first(head).map(|at| &self.entries[at].route)
    }

    /// The number of the first entry that matches.
    pub(crate) fn first(&self, head: &RequestHead<'_>) -> Option<usize> {
        let matches = |at: usize| self.entries[at].matcher.as_ref().is_none_or(|matcher| matcher.matches(head));
        self.index.first(head, matches)
    }

    pub(crate) fn entries(&self) -> &[Entry<C>] {
        &self.entries
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = &Route<C>> {
        self.entries.iter().map(|entry| &entry.route)
    }
}

/// A route: what becomes of the requests it takes.
#[derive(Debug)]
pub struct Route<C> {
    action: Action<C>,
}

/// istio networking/v1alpha3 HTTPRoute: one of route, redirect and directResponse.
#[derive(Debug)]
pub(crate) enum Action<C> {
    Forward(Destinations<C>),
    Redirect(Redirect, Arc<RoutePolicy<C>>),
    DirectResponse(DirectResponse, Arc<RoutePolicy<C>>),
}

/// What becomes of one request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Decision<'a, C> {
    /// It is sent to this destination.
    Forward(&'a Destination<C>),
    /// The caller is told to ask elsewhere.
    Redirect(&'a Redirect, &'a Arc<RoutePolicy<C>>),
    /// The caller is told this.
    DirectResponse(&'a DirectResponse, &'a Arc<RoutePolicy<C>>),
}

/// Where a route may send requests. There is always one destination.
#[derive(Debug)]
pub(crate) struct Destinations<C> {
    first: Destination<C>,
    /// Further ones, each with the end of its interval of weights; the first's begins at 0.
    others: Box<[(u64, Destination<C>)]>,
    first_end: u64,
}

/// A destination of a route.
#[derive(Debug)]
pub struct Destination<C> {
    pub(super) name: Arc<ClusterName>,
    pub(super) cluster: Option<C>,
    pub(super) policy: Arc<RoutePolicy<C>>,
    /// What its share of the requests is told instead of being sent.
    pub(super) redirect: Option<Box<Redirect>>,
    /// Why it may not be used, where something forbids it: for those who ask.
    pub(super) refused: Option<Arc<str>>,
}

impl<C> Route<C> {
    pub(super) fn new(action: Action<C>) -> Self {
        Self { action }
    }

    /// To one destination, which takes all of 100.
    pub(super) fn to(destination: Destination<C>) -> Self {
        Self::new(Action::Forward(Destinations::new((100, destination), [])))
    }

    /// What it says of every request.
    pub(crate) fn policy(&self) -> &Arc<RoutePolicy<C>> {
        match &self.action {
            Action::Forward(destinations) => &destinations.first.policy,
            Action::Redirect(_, policy) | Action::DirectResponse(_, policy) => policy,
        }
    }

    pub(crate) fn action(&self) -> &Action<C> {
        &self.action
    }

    /// Decide about a request. `roll` is asked for 64 random bits where there are several destinations.
    pub fn decide(&self, roll: impl FnOnce() -> u64) -> Decision<'_, C> {
        match &self.action {
            Action::Forward(destinations) => {
                let destination = destinations.draw(roll);
                match &destination.redirect {
                    Some(redirect) => Decision::Redirect(redirect, &destination.policy),
                    None => Decision::Forward(destination),
                }
            }
            Action::Redirect(redirect, policy) => Decision::Redirect(redirect, policy),
            Action::DirectResponse(response, policy) => Decision::DirectResponse(response, policy),
        }
    }

    /// All destinations; none of a route that answers by itself.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination<C>> {
        let destinations = match &self.action {
            Action::Forward(destinations) => Some(destinations),
            Action::Redirect(..) | Action::DirectResponse(..) => None,
        };
        destinations.into_iter().flat_map(Destinations::all)
    }
}

impl<C> Destinations<C> {
    pub(super) fn new(first: (u64, Destination<C>), others: impl IntoIterator<Item = (u64, Destination<C>)>) -> Self {
        let mut end = first.0;
        let others = others.into_iter().map(|(weight, destination)| {
            end = end.saturating_add(weight);
            (end, destination)
        });
        let others = others.collect();
        Self { first_end: first.0, first: first.1, others }
    }

    /// measured on Envoy 1.40 (t2) and its router_check table: `random % total`, intervals [begin, end) in order.
    fn draw(&self, roll: impl FnOnce() -> u64) -> &Destination<C> {
        if self.others.is_empty() { &self.first } else { self.at(roll() % self.total().max(1)) }
    }

    /// The sum of the weights.
    pub(crate) fn total(&self) -> u64 {
        self.others.last().map_or(self.first_end, |(end, _)| *end)
    }

    /// The destination that a number below the total falls to.
    pub(crate) fn at(&self, number: u64) -> &Destination<C> {
        let Some((_, last)) = self.others.last() else { return &self.first };
        if number < self.first_end {
            return &self.first;
        }
        self.others.iter().find(|(end, _)| number < *end).map_or(last, |(_, destination)| destination)
    }

    /// All, each with its weight.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = (u64, &Destination<C>)> {
        let mut begin = self.first_end;
        let others = self.others.iter().map(move |(end, destination)| {
            let weight = end - begin;
            begin = *end;
            (weight, destination)
        });
        std::iter::once((self.first_end, &self.first)).chain(others)
    }

    fn all(&self) -> impl Iterator<Item = &Destination<C>> {
        std::iter::once(&self.first).chain(self.others.iter().map(|(_, destination)| destination))
    }
}

impl<C> Destination<C> {
    /// Why it may not be used, where something forbids it.
    pub(crate) fn refused(&self) -> Option<&Arc<str>> {
        self.refused.as_ref()
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &Arc<ClusterName> {
        &self.name
    }

    /// The cluster; `None` where its host or subset is not defined, which is a 503 on use.
    #[must_use]
    pub fn cluster(&self) -> Option<&C> {
        self.cluster.as_ref()
    }

    /// What is told instead of sending anything there.
    pub(crate) fn redirect(&self) -> Option<&Redirect> {
        self.redirect.as_deref()
    }

    /// The route's policy.
    #[must_use]
    pub fn policy(&self) -> &Arc<RoutePolicy<C>> {
        &self.policy
    }
}
