//! The route that a request took, and what it says about the answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use mesh_core::{ClusterName, Error, Exchange, Reason, ResponseFlag};

use crate::{
    DirectResponse, FaultDecision, Redirect, RequestHead, RoutePolicy, cors::Grant, header_ops, shape::bad_path,
};

/// The route that was taken.
#[derive(Debug)]
pub(crate) struct Taken<C> {
    /// `None` where the route answers by itself.
    pub(crate) cluster: Option<Arc<ClusterName>>,
    pub(crate) policy: Arc<RoutePolicy<C>>,
    /// The origin that may read the answer.
    grant: Option<Grant>,
}

impl<C> Taken<C> {
    pub(crate) fn new<B>(policy: &Arc<RoutePolicy<C>>, request: &Request<B>) -> Self {
        let grant = policy.cors().and_then(|cors| cors.grant(request.headers()));
        Self { cluster: None, policy: Arc::clone(policy), grant }
    }

    pub(crate) fn note(&self, exchange: &mut Exchange) {
        if let Some(cluster) = &self.cluster {
            exchange.cluster.get_or_insert_with(|| Arc::clone(cluster));
        }
        exchange.route = self.policy.name().cloned();
    }

    pub(crate) fn answered<B>(&self, response: &mut Response<B>) {
        self.note(Exchange::of(response));
        if let Some(ops) = &self.policy.response_headers {
            header_ops::apply(ops, response.headers_mut());
        }
        // After the operations: Envoy's CORS filter stands outside of its router.
        if let Some(grant) = &self.grant {
            grant.apply(response.headers_mut());
        }
    }

    /// What a rule says about responses, it says about replies made here. measured on Envoy 1.40: redirects, direct
    /// responses, 503, 504 and injected aborts carry the rule's headers, the answer to a preflight does not; an abort,
    /// which comes from outside of the CORS filter, says nothing about origins. And one in front of a redirect or a direct
    /// response has no rule's headers (interop): to Envoy's filters only a route that forwards has an entry.
    pub(crate) fn failed(&self, mut error: Error) -> Error {
        self.note(error.exchange_mut());
        let reason = error.reason();
        let abort = matches!(reason, Reason::FaultAbort(_) | Reason::FaultAbortGrpc(_));
        let told = reason != Reason::Preflight && !(abort && self.cluster.is_none());
        if let Some(ops) = self.policy.response_headers.as_ref().filter(|_| told) {
            let ops = Arc::clone(ops);
            error.edit_reply(move |headers| header_ops::apply(&ops, headers));
        }
        let outside_cors = abort || reason == Reason::RateLimited;
        if let Some(grant) = self.grant.clone().filter(|_| !outside_cors) {
            error.edit_reply(move |headers| grant.apply(headers));
        }
        error
    }

    /// The answer of a route that goes nowhere. Faults come first, measured on Envoy 1.40 (interop): its fault filter stands
    /// before its router. A redirect has one where it is a delegate's and the fault its root's.
    pub(crate) fn ended(&self, fault: FaultDecision, answer: impl FnOnce() -> Error) -> Error {
        let mut error = self.failed(fault.abort.map_or_else(answer, Error::new));
        if fault.delay.is_some() {
            error.exchange_mut().flag(ResponseFlag::DelayInjected);
        }
        error
    }

    /// measured on Envoy 1.40 (t4): 503, empty body, NC. But preflights are answered (interop): Envoy's CORS filter stands
    /// before its router, which is what misses the cluster.
    pub(crate) fn without_cluster<B>(&self, request: &Request<B>) -> Error {
        let preflight = self.policy.cors().and_then(|cors| cors.preflight(request.method(), request.headers()));
        preflight.unwrap_or_else(|| Error::new(self.policy.missing))
    }
}

/// What a redirect answers; an error too where its location cannot be sent.
pub(crate) fn redirect(redirect: &Redirect, head: &RequestHead<'_>) -> Result<Error, Error> {
    let location = HeaderValue::from_maybe_shared(Bytes::from(redirect.location(head)));
    let location = location.map_err(|error| bad_path(error.into()))?;
    let mut answer = Error::answer(redirect.status(), Bytes::new());
    answer.edit_reply(move |headers| {
        headers.insert(header::LOCATION, location.clone());
    });
    Ok(answer)
}

/// What a direct response answers.
///
/// measured on Envoy 1.40: 201 and every 3xx say where: at the URL that was asked for (RFC 9110 15.3.2, 15.4), before the
/// rule's headers are set. It is left out where it cannot be sent.
pub(crate) fn direct(response: &DirectResponse, head: &RequestHead<'_>) -> Error {
    let status = response.status;
    let mut answer = Error::answer(status, response.body.clone());
    if (status == StatusCode::CREATED || status.is_redirection())
        && let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(head.url()))
    {
        answer.edit_reply(move |headers| {
            headers.insert(header::LOCATION, location.clone());
        });
    }
    answer
}
