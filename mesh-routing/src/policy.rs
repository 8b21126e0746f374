//! What a route says about the requests it takes, for the layers behind the router.

use std::{sync::Arc, time::Duration};

use crate::{Fault, RetryPolicy, header_ops::HeaderOp};

/// A source of random draws: each call gives 64 uniform bits. `rand::random` unless a test says otherwise.
pub type Roll = fn() -> u64;

/// A route's policy: it rides with the routed request to the fault, timeout and retry layers.
#[derive(Clone, Debug, Default)]
pub struct RoutePolicy {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) virtual_service: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) fault: Option<Fault>,
    pub(crate) request_headers: Option<Arc<[HeaderOp]>>,
    pub(crate) response_headers: Option<Arc<[HeaderOp]>>,
}

impl RoutePolicy {
    /// The route's name: a rule's `name`, with a match's `name` after a dot; `default` for a service that no
    /// VirtualService names, `allow_any` for a host outside the registry.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// `namespace/name` of the VirtualService it is from.
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
