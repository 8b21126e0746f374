//! WorkloadEntry: one workload outside Kubernetes (or, in a ServiceEntry, one endpoint).

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::service::{ServicePort, TargetPort};
use crate::{
    Labels,
    config::{Document, Field, Issue, Issues, Severity, Topic, Unenforced, fields},
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
        let before = issues.errors().count();
        if document.spec().is_none() {
            issues.push(document.error("", "spec: Required value"));
        }
        let mut spec: Spec = document.decode(issues)?;
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
        if let Some(socket) = spec.address.strip_prefix("unix://") {
            Self::validate_socket(socket, &spec, path, document, issues);
        }
        let mut refuse =
            |field: &str, message: String| -> () { issues.push(field_error(document, path, field, message)) };
        if spec.address.is_empty() {
            // istio WorkloadEntry.address, CRD: "Address is required", except behind the gateway of its network.
            if !spec.network.is_set() {
                refuse("address", "Address is required: an IP address or a DNS name".into());
            }
        } else if !spec.address.starts_with("unix://")
            && spec.address.parse::<std::net::IpAddr>().is_err()
            && let Err(error) = crate::HostPattern::parse_domain(&spec.address).map(|_| ())
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
            // istio WorkloadEntry.ports, CRD: `^[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,62}[a-zA-Z0-9])?$`
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            let edges = !port_name.starts_with('-') && !port_name.ends_with('-');
            if !(1..=63).contains(&port_name.len()) || !port_name.bytes().all(inner) || !edges {
                let message = format!("invalid port name {port_name:?}: letters, digits and '-', 1 to 63");
                refuse(&format!("ports[\"{port_name}\"]"), message);
            }
        }
        if let Err(error) = spec.locality.parse::<crate::Locality>() {
            refuse("locality", error.to_string());
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

    /// istio WorkloadEntry.address: "Unix domain socket endpoints … must be an absolute path or abstract socket".
    fn validate_socket(socket: &str, spec: &Spec, path: &str, document: &Document, issues: &mut Issues) {
        let mut refuse =
            |field: &str, message: String| -> () { issues.push(field_error(document, path, field, message)) };
        if !socket.starts_with(['/', '@']) {
            refuse("address", "UDS must be an absolute path or abstract socket".into());
        }
        if socket.ends_with('/') {
            refuse("address", "UDS may not be a dir".into());
        }
        if !spec.ports.is_empty() {
            refuse("ports", format!("unix endpoint {} must not include ports", spec.address));
        }
        let mut issue = field_error(document, path, "address", "unix sockets are not dialled in-process".into());
        issue.severity = Severity::Warning;
        issues.push(issue.about(Topic::NotEnforced));
    }

    /// Can it be dialled? Not a unix socket, and not one that only its network's gateway reaches.
    pub(super) fn is_dialled(&self) -> bool {
        !self.address.is_empty() && !self.address.starts_with("unix://")
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
        identity(self.service_account.as_deref(), &self.namespace, trust_domain)
    }
}

pub(super) fn identity(account: Option<&str>, namespace: &str, trust_domain: &TrustDomain) -> Option<SpiffeId> {
    SpiffeId::kubernetes(trust_domain, namespace, account?).ok()
}

pub(super) fn field_error(document: &Document, path: &str, field: &str, message: String) -> Issue {
    let path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    document.error(path, message)
}
