//! Peer metadata: how the callee learns which workload called.
//!
//! A SPIFFE ID names a service account, not a workload, so Istio's proxies tell each other in two headers,
//! `x-envoy-peer-metadata` and `x-envoy-peer-metadata-id`. We speak the same: `source_workload`, `source_app` and
//! `source_version` are filled in on the callee's side, between our own processes and with sidecars.
//!
//! Who may be told and who is believed follow from mutual TLS. A caller writes the headers with
//! [`PeerMetadata::inject`] only after it knows the connection is one with mesh identity (Istio's
//! `skip_external_clusters`), which is why that is a call and not part of the outermost layer. A callee believes them
//! only beside a verified identity, takes the namespace from that identity, removes the headers before the
//! application sees them, and answers with its own if it was told.

mod base64;
mod structs;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::{Labels, Workload};

const METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
const ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");

/// Longest header that is read. Envoy's have some hundred bytes.
const MAX_HEADER: usize = 4_096;
/// Longest value that becomes a label; Kubernetes' names have at most 253 characters.
const MAX_VALUE: usize = 253;

/// The labels of a workload that its peers see; others stay private.
const TOLD: [&str; 4] = ["app", "service.istio.io/canonical-name", "service.istio.io/canonical-revision", "version"];

/// Who I am, as it is told to a peer. Encoded once; a clone is cheap.
#[derive(Clone, Debug)]
pub struct PeerMetadata {
    metadata: HeaderValue,
    id: HeaderValue,
}

impl PeerMetadata {
    /// The metadata of a workload: its name, namespace, cluster, and the labels that become metric labels.
    #[must_use]
    pub fn of(workload: &Workload) -> Self {
        let mut labels = Vec::new();
        for name in TOLD {
            if let Some(value) = workload.labels.get(name) {
                structs::string(name, value, &mut labels);
            }
        }
        // Sorted by key, as Istio's deterministic serialisation has it.
        let mut fields = Vec::new();
        structs::string("CLUSTER_ID", &workload.cluster_id, &mut fields);
        structs::nested("LABELS", &labels, &mut fields);
        structs::string("NAME", &workload.name, &mut fields);
        structs::string("NAMESPACE", &workload.namespace, &mut fields);
        structs::string("WORKLOAD_NAME", &workload.name, &mut fields);
        let (name, namespace) = (&workload.name, &workload.namespace);
        let id = format!("sidecar~0.0.0.0~{name}.{namespace}~{namespace}.svc.cluster.local");
        Self {
            metadata: HeaderValue::from_str(&base64::encode(&fields)).expect("base64 is a header value"),
            // The id is only a cache key there: one that cannot be written is not worth a failure.
            id: HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("sidecar~0.0.0.0~unknown~")),
        }
    }

    /// Tell the peer. Only on a connection with mutual TLS of mesh identity.
    pub fn inject(&self, headers: &mut HeaderMap) {
        headers.insert(METADATA, self.metadata.clone());
        headers.insert(ID, self.id.clone());
    }
}

/// Take what a peer told out of the headers.
pub(crate) fn take(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(ID);
    headers.remove(METADATA)
}

/// What a peer told, decoded. Absent fields are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) workload: String,
    pub(crate) namespace: String,
    pub(crate) cluster: String,
    pub(crate) labels: Arc<Labels>,
}

/// Decode the header; `None` when it is not one.
pub(crate) fn decode(header: &HeaderValue) -> Option<Told> {
    if header.len() > MAX_HEADER {
        return None;
    }
    let mut told = Told::default();
    let mut labels = Labels::default();
    structs::read(&base64::decode(header.as_bytes())?, |key, value| {
        match (key, value) {
            ("WORKLOAD_NAME", structs::Value::String(name)) => told.workload = short(name)?,
            ("NAMESPACE", structs::Value::String(name)) => told.namespace = short(name)?,
            ("CLUSTER_ID", structs::Value::String(name)) => told.cluster = short(name)?,
            ("LABELS", structs::Value::Struct(fields)) => structs::read(fields, |key, value| {
                if let (true, structs::Value::String(value)) = (TOLD.contains(&key), value) {
                    labels.insert(key, short(value)?);
                }
                Some(())
            })?,
            _ => {}
        }
        Some(())
    })?;
    told.labels = Arc::new(labels);
    Some(told)
}

fn short(value: &str) -> Option<String> {
    (value.len() <= MAX_VALUE).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn workload() -> Workload {
        Workload::new("web", "productpage-v1").with_labels(Labels::from_iter([
            ("app", "productpage"),
            ("version", "v1"),
            ("team", "private"),
        ]))
    }

    #[test]
    fn a_peer_reads_what_was_told_and_nothing_else() {
        let mut headers = HeaderMap::new();
        PeerMetadata::of(&workload()).inject(&mut headers);
        // As sidecars of a cluster named Kubernetes begin theirs: Struct { "CLUSTER_ID": "Kubernetes", …
        assert!(headers[METADATA].to_str().unwrap().starts_with("ChoKCkNMVVNURVJfSUQSDBoKS3ViZXJuZXRlcwo"));
        assert_eq!(headers[ID], "sidecar~0.0.0.0~productpage-v1.web~web.svc.cluster.local");
        let told = decode(&take(&mut headers).unwrap()).unwrap();
        assert!(headers.is_empty());
        assert_eq!(
            told,
            Told {
                workload: "productpage-v1".into(),
                namespace: "web".into(),
                cluster: "Kubernetes".into(),
                labels: Arc::new(Labels::from_iter([("app", "productpage"), ("version", "v1")])),
            }
        );
    }

    #[test]
    fn what_is_not_metadata_is_not_read() {
        let long = base64::encode(&{
            let mut fields = Vec::new();
            structs::string("WORKLOAD_NAME", &"x".repeat(254), &mut fields);
            fields
        });
        for header in ["!", "AAAA", "Ch", &long, &"A".repeat(5_000)] {
            assert_eq!(decode(&HeaderValue::from_str(header).unwrap()), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), raw in "[ -~]{0,100}") {
            let _ = decode(&HeaderValue::from_str(&base64::encode(&bytes)).unwrap());
            let _ = decode(&HeaderValue::from_str(&raw).unwrap());
        }

        #[test]
        fn what_is_told_is_read(name in "[a-z0-9é.-]{1,100}", app in "[a-z0-9-]{0,63}") {
            let workload = Workload::new("ns", &name).with_labels(Labels::from_iter([("app", app.as_str())]));
            let mut headers = HeaderMap::new();
            PeerMetadata::of(&workload).inject(&mut headers);
            let told = decode(&take(&mut headers).unwrap()).unwrap();
            prop_assert_eq!(&told.workload, &name);
            prop_assert_eq!(told.labels.get("app"), Some(app.as_str()));
        }

        #[test]
        fn base64_is_its_own_inverse(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(base64::decode(base64::encode(&bytes).as_bytes()), Some(bytes));
        }
    }
}
