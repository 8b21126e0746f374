//! Who answered, and to whom: the part of each answer that makes routing and identity visible.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use mesh::PeerIdentity;
use serde::{Deserialize, Serialize};

use super::Deployment;

/// The process that answers, known from its start.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    name: Arc<str>,
    version: &'static str,
}

impl Pod {
    pub(super) fn new(name: &str, deployment: Deployment) -> Self {
        Self { name: name.into(), version: deployment.version }
    }

    pub(super) fn version(&self) -> &'static str {
        self.version
    }

    pub(super) fn answering(&self, Caller(caller): Caller) -> Origin {
        Origin { podname: self.name.to_string(), version: self.version.into(), caller }
    }
}

/// Who answered, in every JSON answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    #[serde(default)]
    pub(super) podname: String,
    #[serde(default)]
    pub(super) version: String,
    /// The SPIFFE ID that the caller proved to have; null where it spoke plaintext.
    #[serde(default)]
    pub(super) caller: Option<String>,
}

/// The caller's verified identity, which the mesh puts beside the request.
pub(super) struct Caller(Option<String>);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<PeerIdentity>().map(|peer| peer.id().as_str().to_owned())))
    }
}
