//! What a route says about the requests it takes, for the layers behind the router.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use mesh_core::Reason;

use crate::{CorsPolicy, Fault, RetryPolicy, header_ops::HeaderOp, mirror::Mirror, rewrite::PathRewrite};

/// A source of random draws: each call gives 64 uniform bits. `rand::random` unless a test says otherwise.
pub type Roll = fn() -> u64;

/// A route's policy: it rides with the routed request to the fault, CORS, mirror, timeout and retry layers.
///
/// `C` is the cluster's handle (see [`ClusterHandle`](mesh_core::ClusterHandle)): mirrors point at clusters too.
#[derive(Clone, Debug)]
pub struct RoutePolicy<C> {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) virtual_service: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) fault: Option<Fault>,
    pub(crate) cors: Option<Arc<CorsPolicy>>,
    pub(crate) mirrors: Option<Arc<[Mirror<C>]>>,
    pub(crate) rewrite: Option<PathRewrite>,
    pub(crate) authority: Option<HeaderValue>,
    /// Is upstream told the authority before?
    pub(crate) tells_authority: bool,
    pub(crate) request_headers: Option<Arc<[HeaderOp]>>,
    pub(crate) response_headers: Option<Arc<[HeaderOp]>>,
    /// Why a request ends whose cluster is not defined.
    pub(crate) missing: Reason,
}

impl<C> Default for RoutePolicy<C> {
    fn default() -> Self {
        Self {
            name: None,
            virtual_service: None,
            timeout: None,
            retry: None,
            fault: None,
            cors: None,
            mirrors: None,
            rewrite: None,
            authority: None,
            tells_authority: true,
            request_headers: None,
            response_headers: None,
            missing: Reason::NoCluster,
        }
    }
}

impl<C> RoutePolicy<C> {
    /// The route's name: a rule's `name`, with a match's `name` after a dot; `default` for a service that no
    /// VirtualService names, `allow_any` for a host outside the registry.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// `namespace/name` of the VirtualService or Gateway API route that it is from.
    #[must_use]
    pub fn virtual_service(&self) -> Option<&Arc<str>> {
        self.virtual_service.as_ref()
    }

    /// Of the whole request; none by default.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// When to try again; `None` where retries are off.
    #[must_use]
    pub fn retry(&self) -> Option<&RetryPolicy> {
        self.retry.as_ref()
    }

    /// Faults to inject.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Which origins may read the answers.
    #[must_use]
    pub fn cors(&self) -> Option<&Arc<CorsPolicy>> {
        self.cors.as_ref()
    }

    /// The clusters that get copies.
    pub fn mirrors(&self) -> impl Iterator<Item = &C> {
        self.mirrors.iter().flat_map(|mirrors| mirrors.iter()).map(|mirror| &mirror.cluster)
    }

    /// A policy made in code, without a VirtualService.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same with retries.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }
}
