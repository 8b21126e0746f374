//! All limits in force, of both directions.

use mesh_core::config::{Document, Field, Issues, fields};
use tokio::time::Instant;

use super::{Limitable, RateLimit, layer::Asked, spec};

/// Which way requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// To the application of this process.
    Inbound,
    /// From it.
    Outbound,
}

impl Side {
    /// `inbound` or `outbound`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// The limits in force: for each direction a list. All that match a request have their say, in order, and the first
/// whose bucket is empty refuses it; [`RateLimitLayer`](crate::RateLimitLayer) has an example.
#[derive(Clone, Debug, Default)]
pub struct RateLimits {
    inbound: Vec<RateLimit>,
    outbound: Vec<RateLimit>,
}

impl RateLimits {
    /// And this limit on requests to the application, after those that are there.
    #[must_use]
    pub fn with_inbound(mut self, limit: RateLimit) -> Self {
        self.inbound.push(limit);
        self
    }

    /// And this limit on requests from it.
    #[must_use]
    pub fn with_outbound(mut self, limit: RateLimit) -> Self {
        self.outbound.push(limit);
        self
    }

    /// And all of these, after those that are there.
    #[must_use]
    pub fn and(mut self, more: &Self) -> Self {
        self.inbound.extend(more.inbound.iter().cloned());
        self.outbound.extend(more.outbound.iter().cloned());
        self
    }

    /// The field of a MeshPolicy that [`from_document`](Self::from_document) reads.
    pub const FIELD: &str = "localRateLimit";

    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<spec::Section>()
    }

    /// The `localRateLimit` section of a MeshPolicy; no limits when there is none, `None` after an error, which is in
    /// `issues`.
    ///
    /// For `inbound` and for `outbound` separately, the limits in force are those of the narrowest scope (workload,
    /// namespace, mesh) that has this direction's field, all from the oldest such policy of that scope; the others of the
    /// scope get a warning. An empty list says that there are no limits, whatever wider scopes have. Fields of it:
    ///
    /// ```yaml
    /// localRateLimit:
    ///   inbound:                  # requests to the workload, after authorization
    ///   - name: each-user         # optional: for logs and metrics
    ///     match:                  # optional: one of them is to hold; HTTPMatchRequest, as in a VirtualService. `port` is the
    ///     - uri: {prefix: /api}   #   workload's own; gateways, sourceLabels and sourceNamespace have no place here
    ///       method: {exact: POST}
    ///     tokenBucket:            # Envoy's TokenBucket
    ///       maxTokens: 100        # requests at once
    ///       tokensPerFill: 100    # default 1
    ///       fillInterval: 1s
    ///     key:                    # optional: a bucket for each value, of several parts together
    ///       header: x-user
    ///       principal: true       # inbound only: the caller's SPIFFE ID
    ///       path: true
    ///       maxKeys: 10000        # default
    ///   outbound:                 # requests from the workload, once they are routed; a retry is none of its own
    ///   - hosts: [reviews, "*.example.com"]   # optional: destinations, short names in the policy's namespace
    ///     match: [{port: 9080}]   # the path and headers that are sent; `port` is the service's
    ///     tokenBucket: {maxTokens: 10, tokensPerFill: 10, fillInterval: 1s}
    /// ```
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        spec::read(document, issues)
    }

    /// These limits, with the buckets as they are of those that were in force before and stand unchanged: what was
    /// used up stays so when other things change. A limit is the same when its policy's name and all its fields are.
    #[must_use]
    pub fn continuing(mut self, before: &Self) -> Self {
        keep(&mut self.inbound, &before.inbound);
        keep(&mut self.outbound, &before.outbound);
        self
    }

    /// The limits of one direction, in order.
    pub fn iter(&self, side: Side) -> std::slice::Iter<'_, RateLimit> {
        match side {
            Side::Inbound => self.inbound.iter(),
            Side::Outbound => self.outbound.iter(),
        }
    }

    /// Take a token of every limit that is about a request; the first that has none refuses, and those after it are not
    /// asked. `now` is read only where there is a limit.
    ///
    /// # Errors
    /// The limit that refused.
    pub fn admit<R: Limitable>(
        &self,
        side: Side,
        request: &R,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), &RateLimit> {
        let limits = self.iter(side);
        if limits.len() == 0 {
            return Ok(());
        }
        let (asked, now) = (Asked::new(request, side), now());
        limits.clone().find(|limit| !limit.admits(&asked, now)).map_or(Ok(()), Err)
    }
}

fn keep(limits: &mut [RateLimit], before: &[RateLimit]) {
    let mut before: Vec<_> = before.iter().collect();
    for limit in limits {
        // Of two that are the same, each continues one.
        if let Some(at) = before.iter().position(|before| limit.is_again(before)) {
            *limit = before.remove(at).clone();
        }
    }
}
