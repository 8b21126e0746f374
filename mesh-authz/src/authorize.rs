//! The shell around [`PolicySet::decide`].

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use http::Request;
use mesh_core::{BoxError, Error, Reason, identity::RequestPrincipal};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Decision, PolicySet, RequestView, ResponseFuture};

/// Asks the policies in force about every request, and refuses with [`Reason::Denied`] (403 `RBAC: access denied`).
///
/// Goes inside [`CanonicalizeLayer`](crate::canonical::CanonicalizeLayer): a policy on a path is about the
/// canonical path. The peer is the [`PeerIdentity`](mesh_core::identity::PeerIdentity) in the extensions, which the
/// mesh's accept loop puts there and nothing else may. A new set takes effect with the next request, on open
/// connections too.
///
/// Every refusal, every match of an AUDIT policy and every refusal that a dry run would make is an event of target
/// `mesh::audit`, level INFO, with whatever the caller chose escaped.
#[derive(Clone, Debug)]
pub struct AuthorizeLayer {
    policies: Arc<ArcSwap<PolicySet>>,
}

impl AuthorizeLayer {
    /// Decide by what `policies` holds when a request arrives.
    #[must_use]
    pub fn new(policies: Arc<ArcSwap<PolicySet>>) -> Self {
        Self { policies }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorize { policies: Arc::clone(&self.policies), inner }
    }
}

/// The service of [`AuthorizeLayer`].
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    policies: Arc<ArcSwap<PolicySet>>,
    inner: S,
}

impl<B, S> Service<Request<B>> for Authorize<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::from_box(error.into()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(refusal) = refusal(&self.policies.load(), &RequestView::of(&request)) {
            return ResponseFuture::refused(refusal);
        }
        ResponseFuture::inner(self.inner.call(request))
    }
}

fn refusal(policies: &PolicySet, view: &RequestView<'_>) -> Option<Error> {
    let decision = policies.decide(view);
    for rule in policies.audits(view) {
        record(view, decision.is_allowed(), rule.action.as_str(), &rule, "audited");
    }
    if let Some(would) = policies.decide_dry_run(view).filter(|would| !would.is_allowed()) {
        record(view, decision.is_allowed(), "DRY-RUN", &would, "would be denied");
    }
    if decision.is_allowed() {
        return None;
    }
    let reason = if decision == Decision::NotReady { Reason::NotReady } else { Reason::Denied };
    record(view, false, decision.by().map_or("", |rule| rule.action.as_str()), &decision, "access denied");
    Some(Error::new(reason).with_source(AccessDenied { by: decision.to_string() }))
}

/// One record of the audit log.
fn record(view: &RequestView<'_>, allowed: bool, action: &str, policy: &dyn fmt::Display, what: &str) {
    tracing::info!(
        target: "mesh::audit",
        allowed,
        action = Some(action).filter(|action| !action.is_empty()),
        policy = %policy,
        peer = view.peer.map(tracing::field::display),
        principal = view.principal.and_then(RequestPrincipal::principal).map(|id| id.escape_debug().to_string()),
        peer_address = view.connection.map(|connection| tracing::field::display(connection.peer)),
        method = %view.method.escape_debug(),
        host = view.host.map(|host| tracing::field::display(host.escape_debug())),
        path = %view.path.escape_debug(),
        "{what}"
    );
}

/// The cause below a refusal, in Envoy's words: `rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]`, or
/// `[none]` where ALLOW policies stand and none matched.
///
/// For logs and telemetry. The caller is not told which rule refused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessDenied {
    by: String,
}

impl fmt::Display for AccessDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rbac_access_denied_matched_policy[{}]", self.by)
    }
}

impl std::error::Error for AccessDenied {}

#[cfg(test)]
mod tests;
