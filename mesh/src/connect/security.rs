//! How a connection to an endpoint is secured: decided from config, before anything is dialled.

use std::sync::Arc;

use mesh_core::{
    ClientTlsMode, ClientTlsSettings, Endpoint, EndpointTls, MeshConfig, identity::SpiffeId, registry::Location,
};
use mesh_lb::Cluster;
use mesh_tls::{ExpectedPeer, PeerAuthMode, PeerAuthentications};

/// Everything that decides whom a connection trusts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    /// No TLS.
    Plaintext,
    /// Mutual TLS with mesh identity.
    Mesh {
        /// Who the endpoint must be.
        expected: ExpectedPeer,
        /// Istio's server name; never an identity.
        sni: Arc<str>,
        /// The generation of our own credentials: a connection made with older ones is not reused.
        generation: u64,
    },
    /// TLS to a named server outside the mesh.
    Egress {
        /// The rule's settings.
        settings: Arc<ClientTlsSettings>,
        /// The request's host, for SNI and name check where the rule names none.
        host: Arc<str>,
    },
}

/// Why a connection cannot be secured as config wants: it is refused, never weakened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsecurable {
    #[error(
        "no expected identity for {endpoint} of {cluster}: give its WorkloadEntry a serviceAccount, or name \
         subjectAltNames in the ServiceEntry or in the DestinationRule's tls"
    )]
    NoExpectedIdentity { cluster: String, endpoint: String },
    #[error("{0:?} in subjectAltNames is not a SPIFFE ID, which mutual TLS with mesh identity needs")]
    NotSpiffe(Arc<str>),
    #[error("{0} wants mutual TLS with mesh identity, and this mesh has no identity: give the builder one")]
    NoIdentity(String),
    #[error("a request over TLS to {0} names no host")]
    NoHost(String),
}

/// The config that decides. One per snapshot.
#[derive(Debug, Default)]
pub(crate) struct SecurityPolicy {
    pub(crate) mesh: Arc<MeshConfig>,
    pub(crate) peer_authentications: Arc<PeerAuthentications>,
}

/// What is asked about.
pub(super) struct Question<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) endpoint: &'a Endpoint,
    /// Did the caller write `https://`?
    pub(super) https: bool,
    /// The request's host without its port.
    pub(super) host: Option<&'a str>,
    /// The generation of our own credentials; `None` when the mesh has no identity.
    pub(super) generation: Option<u64>,
}

impl SecurityPolicy {
    pub(super) fn decide(&self, question: &Question<'_>) -> Result<Security, Unsecurable> {
        let Some(settings) = question.cluster.tls() else { return self.automatic(question) };
        match settings.mode {
            ClientTlsMode::Disable => Ok(Security::Plaintext),
            ClientTlsMode::Simple | ClientTlsMode::Mutual => egress(question, Arc::clone(settings)),
            ClientTlsMode::IstioMutual => mesh(question, &settings.subject_alt_names),
        }
    }

    /// istio: without a DestinationRule's tls, "auto mTLS" asks the endpoint and PeerAuthentication; services
    /// outside the mesh get plaintext ([CT] buildUpstreamTLSSettings). An `https://` URL means TLS all the same.
    fn automatic(&self, question: &Question<'_>) -> Result<Security, Unsecurable> {
        let cluster = question.cluster;
        if cluster.location() == Location::MeshExternal {
            return match question.https {
                true => egress(question, Arc::new(simple())),
                false => Ok(Security::Plaintext),
            };
        }
        let namespace = &cluster.name().service.namespace;
        // A dialled address is nobody's entry in the registry: that it says nothing about TLS is no leave to go without.
        let disabled = (question.endpoint.tls == EndpointTls::Disabled && !cluster.is_passthrough())
            || !self.mesh.enable_auto_mtls
            || question.generation.is_none()
            || self.peer_authentications.client_mode(namespace, &self.mesh.root_namespace) == PeerAuthMode::Disable;
        if disabled { Ok(Security::Plaintext) } else { mesh(question, &[]) }
    }
}

fn mesh(question: &Question<'_>, subject_alt_names: &[Arc<str>]) -> Result<Security, Unsecurable> {
    let cluster = question.cluster;
    let generation = question.generation.ok_or_else(|| Unsecurable::NoIdentity(cluster.name().to_string()))?;
    let from_service = cluster.subject_alt_names();
    let names = if subject_alt_names.is_empty() { from_service } else { subject_alt_names };
    let expected = if names.is_empty() {
        let identity = question.endpoint.identity.clone().ok_or_else(|| Unsecurable::NoExpectedIdentity {
            cluster: cluster.name().to_string(),
            endpoint: question.endpoint.address.to_string(),
        })?;
        ExpectedPeer::exactly(identity)
    } else {
        let ids: Result<Vec<SpiffeId>, Unsecurable> =
            names.iter().map(|name| name.parse().map_err(|_| Unsecurable::NotSpiffe(Arc::clone(name)))).collect();
        ExpectedPeer::one_of(ids?)
    };
    Ok(Security::Mesh { expected, sni: cluster.name().sni().into(), generation })
}

fn simple() -> ClientTlsSettings {
    ClientTlsSettings { mode: ClientTlsMode::Simple, ..ClientTlsSettings::default() }
}

fn egress(question: &Question<'_>, settings: Arc<ClientTlsSettings>) -> Result<Security, Unsecurable> {
    let host = question.host.ok_or_else(|| Unsecurable::NoHost(question.cluster.name().to_string()))?;
    let names = question.cluster.subject_alt_names();
    // istio constructUpstreamTLS: "Use subject alt names specified in service entry if TLS settings does not have subject alt
    // names."
    let settings = match settings.subject_alt_names.is_empty() && !names.is_empty() {
        true => Arc::new(ClientTlsSettings { subject_alt_names: names.to_vec(), ..(*settings).clone() }),
        false => settings,
    };
    Ok(Security::Egress { settings, host: host.into() })
}

#[cfg(test)]
mod tests;
