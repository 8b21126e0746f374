//! What a server knows of its load, from the first time that somebody asks.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use mesh_core::{clock, identity::PeerIdentity};
use mesh_lb::{InHand, LoadEstimator};

use super::header;

/// One for each mesh. Nothing is counted before the first question that is answered; requests that were in flight then
/// are missing from the first answers, until they have ended.
#[derive(Debug)]
pub(crate) struct Gauge {
    load: OnceLock<Arc<LoadEstimator>>,
    /// May anybody ask? Where the server has no identity it cannot tell peers apart.
    anybody: bool,
}

impl Gauge {
    pub(crate) fn new(has_identity: bool) -> Self {
        Self { load: OnceLock::new(), anybody: !has_identity }
    }

    /// May this peer know?
    pub(super) fn tells(&self, peer: Option<&PeerIdentity>) -> bool {
        peer.is_some() || self.anybody
    }

    /// What is told.
    pub(super) fn report(&self) -> HeaderValue {
        let now = clock::now();
        let load = self.load.get_or_init(|| Arc::new(LoadEstimator::new(now)));
        header::write(load.report(now))
    }

    /// A request arrives at the application; `None` while nobody has asked.
    pub(super) fn begin(&self) -> Option<InHand> {
        self.load.get().map(|load| load.begin(clock::now()))
    }
}
