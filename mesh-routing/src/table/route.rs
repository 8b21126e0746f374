//! Virtual hosts, their routes and what routes do.

use std::sync::Arc;

use mesh_core::ClusterName;

use super::index::Index;
use crate::{DirectResponse, Redirect, RequestHead, RoutePolicy, matcher::RouteMatch};

/// The routes of a host, in order.
#[derive(Debug)]
pub(super) struct VirtualHost<C> {
    entries: Box<[Entry<C>]>,
    index: Index,
}

/// A route and when it applies; no matcher applies always. Side by side in memory: a match costs one more cache line.
#[derive(Debug)]
pub(super) struct Entry<C> {
    pub(super) matcher: Option<Arc<RouteMatch>>,
    pub(super) route: Route<C>,
}

impl<C> VirtualHost<C> {
    pub(super) fn new(entries: Vec<Entry<C>>) -> Self {
        let index = Index::new(entries.iter().map(|entry| entry.matcher.as_deref()));
        Self { entries: entries.into(), index }
    }

    pub(super) fn route(&self, head: &RequestHead<'_>) -> Option<&Route<C>> {
        let matches = |at: usize| self.entries[at].matcher.as_ref().is_none_or(|matcher| matcher.matches(head));
        self.index.first(head, matches).map(|at| &self.entries[at].route)
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
pub(super) enum Action<C> {
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
pub(super) struct Destinations<C> {
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
}

impl<C> Route<C> {
    pub(super) fn new(action: Action<C>) -> Self {
        Self { action }
    }

    /// To one destination, whatever its weight.
    pub(super) fn to(destination: Destination<C>) -> Self {
        Self::new(Action::Forward(Destinations::new((1, destination), [])))
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
        let Some((total, last)) = self.others.last() else { return &self.first };
        let at = roll() % (*total).max(1);
        if at < self.first_end {
            return &self.first;
        }
        self.others.iter().find(|(end, _)| at < *end).map_or(last, |(_, destination)| destination)
    }

    fn all(&self) -> impl Iterator<Item = &Destination<C>> {
        std::iter::once(&self.first).chain(self.others.iter().map(|(_, destination)| destination))
    }
}

impl<C> Destination<C> {
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

    /// The route's policy.
    #[must_use]
    pub fn policy(&self) -> &Arc<RoutePolicy<C>> {
        &self.policy
    }
}
