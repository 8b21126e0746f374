//! WorkloadEntry: one workload outside Kubernetes (or, in a ServiceEntry, one endpoint).

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::service::{ServicePort, TargetPort};
use crate::{
    Labels,
    config::{Document, Field, Issue, Issues, Unenforced, fields},
    identity::{SpiffeId, TrustDomain},
};

/// A workload's address and labels (istio networking/v1alpha3 WorkloadEntry).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkloadEntry {
    /// Namespace of the object, or of the ServiceEntry around it.
    pub namespace: Arc<str>,
    /// Name of the object; empty inside a ServiceEntry.
    pub name: Arc<str>,
    /// IP address or DNS name.
    pub address: Arc<str>,
    /// Port by port name.
    pub ports: BTreeMap<String, u16>,
    /// Labels, those of the object's metadata included.
    pub labels: Arc<Labels>,
    /// `region/zone/subzone`.
    pub locality: Arc<str>,
    /// Load-balancing weight; 1 when not given.
    pub weight: u32,
    /// Service account: the last part of its SPIFFE ID.
    pub service_account: Option<Arc<str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct Spec {
    pub(super) address: String,
    pub(super) ports: BTreeMap<String, u16>,
    pub(super) labels: Labels,
    pub(super) network: Unenforced,
    pub(super) locality: String,
    pub(super) weight: u32,
    pub(super) service_account: String,
}

impl WorkloadEntry {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Spec>()
    }

    /// Read a document. Errors become issues and `None`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let mut spec: Spec = document.decode(issues)?;
        let before = issues.errors().count();
        // istio serviceregistry ConvertWorkloadEntry: labels of the metadata override those of the spec.
        for (key, value) in document.labels().iter() {
            spec.labels.insert(key, value);
        }
        let entry = Self::validate(spec, document.namespace(), document.name(), "", document, issues);
        (issues.errors().count() == before).then_some(entry)
    }

    pub(super) fn validate(
        spec: Spec,
        namespace: &Arc<str>,
        name: &Arc<str>,
        path: &str,
        document: &Document,
        issues: &mut Issues,
    ) -> Self {
        let mut refuse =
            |field: &str, message: String| -> () { issues.push(field_error(document, path, field, message)) };
        if spec.address.is_empty() {
            refuse("address", "address must be set: an IP address or a DNS name".into());
        } else if spec.address.starts_with("unix://") {
            refuse("address", format!("endpoint address {:?}: unix sockets are not supported", spec.address));
        } else if spec.address.parse::<std::net::IpAddr>().is_err()
            && let Err(error) = spec.address.parse::<crate::HostPattern>().map(|_| ())
        {
            refuse(
                "address",
                format!("endpoint address {:?} is not a valid FQDN or an IP address: {error}", spec.address),
            );
        }
        for (port_name, port) in &spec.ports {
            if *port == 0 {
                refuse(&format!("ports.{port_name}"), "port number 0 must be in the range 1..65535".into());
            }
        }
        if spec.locality.split('/').count() > 3 {
            refuse("locality", format!("invalid locality {:?}: region/zone/subzone", spec.locality));
        }
        if spec.service_account.contains('/') {
            refuse("serviceAccount", format!("invalid service account {:?}: the name alone", spec.service_account));
        }
        Self {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
            address: spec.address.into(),
            ports: spec.ports,
            labels: Arc::new(spec.labels),
            locality: spec.locality.into(),
            weight: spec.weight.max(1),
            service_account: (!spec.service_account.is_empty()).then(|| spec.service_account.into()),
        }
    }

    /// istio ServiceEntry.ports and WorkloadEntry.ports: the endpoint's port of that name, else the service's
    /// targetPort, else its number.
    pub(super) fn port_for(&self, port: &ServicePort) -> u16 {
        let named = |name: &str| self.ports.get(name).copied();
        named(&port.name)
            .or_else(|| match &port.target {
                Some(TargetPort::Name(name)) => named(name),
                Some(TargetPort::Number(number)) => Some(*number),
                None => None,
            })
            .unwrap_or(port.number)
    }

    /// The workload's name for telemetry: Istio's label, else the object's name.
    pub(super) fn workload_name(&self) -> Option<Arc<str>> {
        match self.labels.get("service.istio.io/workload-name") {
            Some(name) => Some(name.into()),
            None => (!self.name.is_empty()).then(|| Arc::clone(&self.name)),
        }
    }

    pub(super) fn identity(&self, trust_domain: &TrustDomain) -> Option<SpiffeId> {
        let account = self.service_account.as_deref()?;
        SpiffeId::kubernetes(trust_domain, &self.namespace, account).ok()
    }
}

pub(super) fn field_error(document: &Document, path: &str, field: &str, message: String) -> Issue {
    let path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    document.error(path, message)
}
