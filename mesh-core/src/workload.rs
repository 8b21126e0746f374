//! Who I am: the workload that this process is.

use std::sync::Arc;

use crate::{
    Labels, Locality,
    identity::{InvalidSpiffeId, SpiffeId, TrustDomain},
};

/// The workload that a process is, as Istio would know its pod.
///
/// Config is read from its point of view: sourceLabels, selectors, visibility and the client's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workload {
    /// Kubernetes namespace; short host names resolve in it. Default `default`.
    pub namespace: Arc<str>,
    /// The workload's name, a Deployment's for instance; `istio_requests_total{source_workload}`.
    pub name: Arc<str>,
    /// Labels of the pod: `app` and `version` above all.
    pub labels: Arc<Labels>,
    /// Kubernetes service account; the last part of the SPIFFE ID. Default `default`.
    pub service_account: Arc<str>,
    /// Istio's cluster ID. Default `Kubernetes` (a series whose cluster is `unknown` is dropped by Kiali).
    pub cluster_id: Arc<str>,
    /// Where it runs: endpoints nearby come first. Default not known.
    pub locality: Locality,
}

impl Workload {
    /// A workload in a namespace, with no labels and the service account `default`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            labels: Arc::default(),
            service_account: "default".into(),
            cluster_id: "Kubernetes".into(),
            locality: Locality::default(),
        }
    }

    /// With these labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = Arc::new(labels);
        self
    }

    /// With this service account.
    #[must_use]
    pub fn with_service_account(mut self, account: &str) -> Self {
        self.service_account = account.into();
        self
    }

    /// Running here.
    ///
    /// ```
    /// use mesh_core::Workload;
    /// let workload = Workload::new("shop", "cart-v1").with_locality("eu/eu-1".parse()?);
    /// assert_eq!(workload.locality.zone(), "eu-1");
    /// # Ok::<(), mesh_core::InvalidLocality>(())
    /// ```
    #[must_use]
    pub fn with_locality(mut self, locality: Locality) -> Self {
        self.locality = locality;
        self
    }

    /// The SPIFFE ID that Istio would give this workload.
    ///
    /// # Errors
    /// When the namespace or service account cannot stand in a SPIFFE ID.
    pub fn spiffe_id(&self, trust_domain: &TrustDomain) -> Result<SpiffeId, InvalidSpiffeId> {
        SpiffeId::kubernetes(trust_domain, &self.namespace, &self.service_account)
    }
}
