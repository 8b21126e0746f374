//! What became of a request: the facts that layers hand outward with a response or an error.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{ClusterName, Endpoint, ResponseFlag, ResponseFlags};

/// What the mesh did with a request. Rides in the extensions of a response and inside [`Error`](crate::Error),
/// from the layer that knows to telemetry.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Exchange {
    /// Envoy's response flags.
    pub flags: ResponseFlags,
    /// Envoy's RESPONSE_CODE_DETAILS; empty means `via_upstream`.
    pub details: &'static str,
    /// The cluster the router chose.
    pub cluster: Option<Arc<ClusterName>>,
    /// The endpoint that the last attempt went to.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Name of the route.
    pub route: Option<Arc<str>>,
    /// Attempts made: 1 without retries, 0 where nothing was sent.
    pub attempts: u32,
    /// Did the connection to the endpoint have mutual TLS with mesh identity?
    pub mutual_tls: bool,
    /// What the cookie was made from that consistent hashing gives to this request's client: other attempts give the
    /// same.
    pub cookie: Option<u64>,
}

impl Exchange {
    /// The exchange in a response's extensions, added when there is none.
    pub fn of<B>(response: &mut http::Response<B>) -> &mut Self {
        response.extensions_mut().get_or_insert_default()
    }

    /// Add a flag.
    pub fn flag(&mut self, flag: ResponseFlag) {
        self.flags.insert(flag);
    }
}

/// What is known of a request that is still under way, for whoever has to say what became of it when nothing comes
/// back: a caller that gives up drops the call, and with it every layer that knew.
///
/// Put into the request's extensions by telemetry, added to by those who decide. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Exchange>>);

impl Progress {
    /// Add to what is known, where somebody wants to know.
    pub fn note(extensions: &http::Extensions, add: impl FnOnce(&mut Exchange)) {
        if let Some(Self(exchange)) = extensions.get() {
            add(&mut exchange.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// What is known so far.
    #[must_use]
    pub fn so_far(&self) -> Exchange {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
