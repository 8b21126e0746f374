//! The labels that a pair of workloads has in common: everything but protocol, code, gRPC status and flags.
//!
//! Kiali skips a series that lacks a label or has an empty one, so nothing here is ever empty: what is not known
//! says `unknown`.

use std::{fmt, sync::Arc};

use mesh_core::{Endpoint, Labels, ServiceName, Workload, identity::SpiffeId};

use crate::peer::Told;

/// What Istio writes where it does not know.
pub const UNKNOWN: &str = "unknown";

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";

/// Which end of the request counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reporter {
    /// The caller.
    Source,
    /// The callee.
    Destination,
}

impl Reporter {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// How the two ends were connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionSecurity {
    /// Mutual TLS, both identities known.
    MutualTls,
    /// Anything less.
    None,
    /// No connection was made.
    Unknown,
}

impl ConnectionSecurity {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::None => "none",
            Self::Unknown => UNKNOWN,
        }
    }
}

/// The labels of one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WorkloadLabels {
    /// `*_workload`
    pub workload: Arc<str>,
    /// `*_canonical_service`
    pub canonical_service: Arc<str>,
    /// `*_canonical_revision`
    pub canonical_revision: Arc<str>,
    /// `*_workload_namespace`
    pub namespace: Arc<str>,
    /// `*_principal`: the whole SPIFFE ID.
    pub principal: Arc<str>,
    /// `*_app`
    pub app: Arc<str>,
    /// `*_version`
    pub version: Arc<str>,
    /// `*_cluster`
    pub cluster: Arc<str>,
}

impl WorkloadLabels {
    /// An end of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        let unknown: Arc<str> = UNKNOWN.into();
        Self {
            workload: Arc::clone(&unknown),
            canonical_service: Arc::clone(&unknown),
            // envoy istio_stats: the revision of an unknown peer is "latest".
            canonical_revision: "latest".into(),
            namespace: Arc::clone(&unknown),
            principal: Arc::clone(&unknown),
            app: Arc::clone(&unknown),
            version: Arc::clone(&unknown),
            cluster: unknown,
        }
    }

    /// My own end. Constants of the process, never unknown: the canonical service is the label
    /// `service.istio.io/canonical-name`, else `app`, else the workload; the revision its label, else `version`,
    /// else `latest`.
    #[must_use]
    pub fn own(workload: &Workload) -> Self {
        let labels = &workload.labels;
        let service = first([labels.get(CANONICAL_NAME), labels.get("app")]).unwrap_or(&workload.name);
        let revision = revision(labels);
        Self {
            workload: known(&workload.name),
            canonical_service: known(service),
            canonical_revision: known(revision),
            namespace: known(&workload.namespace),
            principal: UNKNOWN.into(),
            app: known(first([labels.get("app")]).unwrap_or(service)),
            version: known(first([labels.get("version")]).unwrap_or(revision)),
            cluster: known(&workload.cluster_id),
        }
    }

    /// The end behind an endpoint, as the registry knows it. `cluster` is the Istio cluster ID of the registry.
    #[must_use]
    pub fn of_endpoint(endpoint: &Endpoint, cluster: &str) -> Self {
        let labels = &endpoint.labels;
        let workload = endpoint.workload.as_deref().filter(|name| !name.is_empty());
        let namespace =
            first([endpoint.identity.as_ref().and_then(SpiffeId::namespace), endpoint.namespace.as_deref()]);
        Self {
            workload: known(workload.unwrap_or(UNKNOWN)),
            canonical_service: known(
                first([labels.get(CANONICAL_NAME), labels.get("app"), workload]).unwrap_or(UNKNOWN),
            ),
            canonical_revision: known(revision(labels)),
            namespace: known(namespace.unwrap_or(UNKNOWN)),
            principal: UNKNOWN.into(),
            app: known(first([labels.get("app")]).unwrap_or(UNKNOWN)),
            version: known(first([labels.get("version")]).unwrap_or(UNKNOWN)),
            cluster: known(if namespace.is_some() { cluster } else { UNKNOWN }),
        }
    }

    /// The end behind a verified identity. `cluster` is the Istio cluster ID it is counted in: Kiali drops a
    /// series whose namespace is known and whose cluster is not.
    #[must_use]
    pub fn of_identity(id: &SpiffeId, cluster: &str) -> Self {
        let mut labels = Self::unknown().with_principal(Some(id));
        if let Some(namespace) = id.namespace() {
            labels.namespace = known(namespace);
            labels.cluster = known(cluster);
        }
        labels
    }

    /// The end behind a verified identity that told which workload it is. The identity has the last word on the
    /// namespace (envoy istio_stats: "namespace from SAN if available").
    pub(crate) fn of_peer(id: &SpiffeId, told: &Told, cluster: &str) -> Self {
        let workload = first([Some(&*told.workload)]);
        let labels = &told.labels;
        let namespace = first([id.namespace(), Some(&told.namespace)]);
        let service = first([labels.get(CANONICAL_NAME), labels.get("app"), workload]);
        let cluster = first([Some(&*told.cluster), namespace.map(|_| cluster)]);
        Self {
            workload: known(workload.unwrap_or(UNKNOWN)),
            canonical_service: known(service.unwrap_or(UNKNOWN)),
            canonical_revision: known(revision(labels)),
            namespace: known(namespace.unwrap_or(UNKNOWN)),
            principal: known(id.as_str()),
            app: known(first([labels.get("app")]).unwrap_or(UNKNOWN)),
            version: known(first([labels.get("version")]).unwrap_or(UNKNOWN)),
            cluster: known(cluster.unwrap_or(UNKNOWN)),
        }
    }

    /// With this principal.
    #[must_use]
    pub fn with_principal(mut self, id: Option<&SpiffeId>) -> Self {
        self.principal = known(id.map_or(UNKNOWN, SpiffeId::as_str));
        self
    }
}

/// Labels of the requests between two workloads, for one service, as one of the two reports them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeLabels {
    /// Who reports.
    pub reporter: Reporter,
    /// The caller.
    pub source: WorkloadLabels,
    /// The callee.
    pub destination: WorkloadLabels,
    /// `destination_service`, `_name` and `_namespace`.
    pub service: ServiceName,
    /// `connection_security_policy`
    pub security: ConnectionSecurity,
}

impl EdgeLabels {
    /// The same reporter with everything that a peer could choose left out.
    pub(super) fn overflow(&self) -> Self {
        let other = ServiceName { host: "other".into(), name: "other".into(), namespace: UNKNOWN.into() };
        let nobody = WorkloadLabels { workload: "other".into(), ..WorkloadLabels::unknown() };
        match self.reporter {
            Reporter::Source => Self {
                source: self.source.clone().with_principal(None),
                destination: nobody,
                service: other,
                security: ConnectionSecurity::Unknown,
                reporter: self.reporter,
            },
            Reporter::Destination => Self {
                source: nobody,
                destination: self.destination.clone().with_principal(None),
                service: other,
                security: ConnectionSecurity::Unknown,
                reporter: self.reporter,
            },
        }
    }

    /// The labels before `request_protocol` and the one after `response_flags`, in Envoy's order.
    fn pairs(&self) -> [(&'static str, &str); 20] {
        let (source, destination, service) = (&self.source, &self.destination, &self.service);
        [
            ("reporter", self.reporter.as_str()),
            ("source_workload", &source.workload),
            ("source_canonical_service", &source.canonical_service),
            ("source_canonical_revision", &source.canonical_revision),
            ("source_workload_namespace", &source.namespace),
            ("source_principal", &source.principal),
            ("source_app", &source.app),
            ("source_version", &source.version),
            ("source_cluster", &source.cluster),
            ("destination_workload", &destination.workload),
            ("destination_workload_namespace", &destination.namespace),
            ("destination_principal", &destination.principal),
            ("destination_app", &destination.app),
            ("destination_version", &destination.version),
            ("destination_service", &service.host),
            ("destination_canonical_service", &destination.canonical_service),
            ("destination_canonical_revision", &destination.canonical_revision),
            ("destination_service_name", &service.name),
            ("destination_service_namespace", &service.namespace),
            ("destination_cluster", &destination.cluster),
        ]
    }

    /// Rendered once, so that a scrape copies instead of escaping.
    pub(super) fn render(&self) -> String {
        let mut out = String::with_capacity(900);
        for (name, value) in self.pairs() {
            let value = if value.is_empty() { UNKNOWN } else { value };
            out.push_str(name);
            out.push_str("=\"");
            escape(value, &mut out).expect("a String takes every write");
            out.push_str("\",");
        }
        out
    }
}

/// Escape a label value. prometheus exposition formats: "label_value can be any sequence of UTF-8 characters, but the
/// backslash, double-quote, and line feed characters have to be escaped".
pub(super) fn escape(value: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        out.write_str(&rest[..at])?;
        out.write_str(match rest.as_bytes()[at] {
            b'\n' => "\\n",
            b'"' => "\\\"",
            _ => "\\\\",
        })?;
        rest = &rest[at + 1..];
    }
    out.write_str(rest)
}

fn revision(labels: &Labels) -> &str {
    first([labels.get(CANONICAL_REVISION), labels.get("version")]).unwrap_or("latest")
}

fn first<const N: usize>(candidates: [Option<&str>; N]) -> Option<&str> {
    candidates.into_iter().flatten().find(|value| !value.is_empty())
}

fn known(value: &str) -> Arc<str> {
    if value.is_empty() { UNKNOWN.into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names_fall_back_in_istios_order() {
        for (labels, service, revision, app, version) in [
            (vec![], "reviews-v1", "latest", "reviews-v1", "latest"),
            (vec![("app", "reviews"), ("version", "v1")], "reviews", "v1", "reviews", "v1"),
            (
                vec![(CANONICAL_NAME, "canon"), (CANONICAL_REVISION, "r7"), ("app", "reviews"), ("version", "v1")],
                "canon",
                "r7",
                "reviews",
                "v1",
            ),
            (vec![("app", ""), ("version", "")], "reviews-v1", "latest", "reviews-v1", "latest"),
        ] {
            let labels = Labels::from_iter(labels);
            let own = WorkloadLabels::own(&Workload::new("default", "reviews-v1").with_labels(labels));
            assert_eq!(
                (&*own.canonical_service, &*own.canonical_revision, &*own.app, &*own.version),
                (service, revision, app, version)
            );
        }
    }

    #[test]
    fn escapes_what_would_end_a_label() {
        let mut out = String::new();
        escape("a\\b\"c\nd{}é", &mut out).unwrap();
        assert_eq!(out, "a\\\\b\\\"c\\nd{}é");
    }

    // kiali IsBadSourceTelemetry: a known namespace with an unknown cluster drops the series.
    #[test]
    fn whoever_has_a_namespace_has_a_cluster() {
        let id: SpiffeId = "spiffe://cluster.local/ns/default/sa/reviews".parse().unwrap();
        let labels = WorkloadLabels::of_identity(&id, "Kubernetes");
        assert_eq!((&*labels.namespace, &*labels.cluster), ("default", "Kubernetes"));
        let spire: SpiffeId = "spiffe://td/billing".parse().unwrap();
        let labels = WorkloadLabels::of_identity(&spire, "Kubernetes");
        assert_eq!((&*labels.namespace, &*labels.cluster), (UNKNOWN, UNKNOWN));
    }
}
