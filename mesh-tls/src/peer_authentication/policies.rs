use std::{collections::BTreeMap, num::NonZeroU16, sync::Arc};

use mesh_core::{
    Labels, Workload,
    config::{Document, Field, Issue, Issues, fields},
};

use super::{
    PeerAuthMode,
    spec::{MutualTls, Spec},
};

/// One PeerAuthentication, validated.
#[derive(Clone, Debug)]
pub struct PeerAuthentication {
    namespace: Arc<str>,
    /// Empty: the whole namespace, or in the root namespace the whole mesh.
    selector: Labels,
    mode: Option<PeerAuthMode>,
    ports: BTreeMap<NonZeroU16, Option<PeerAuthMode>>,
    ignored_in_root: Issue,
}

impl PeerAuthentication {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Spec>()
    }

    /// Validate a document of this kind. What is wrong with it goes into `issues`; `None` when it has errors.
    #[must_use]
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: Spec = document.decode(issues)?;
        let before = issues.errors().count();
        let selector = spec.selector.as_ref().map(|selector| selector.match_labels.clone()).unwrap_or_default();
        check_selector(document, spec.selector.is_some(), &selector, issues);
        let ports = check_ports(document, spec.port_level_mtls.as_ref(), &selector, issues);
        (issues.errors().count() == before).then(|| Self {
            namespace: Arc::clone(document.namespace()),
            selector,
            mode: spec.mtls.as_ref().and_then(MutualTls::mode),
            ports,
            ignored_in_root: document
                .warning("selector", "a selector has no effect in the root namespace: this policy applies to nothing"),
        })
    }

    fn is_in(&self, namespace: &str) -> bool {
        *self.namespace == *namespace
    }

    /// istio ComposePeerAuthentication: a selector without labels is no selector.
    fn is_wide(&self) -> bool {
        self.selector.is_empty()
    }
}

/// istio validation, workload selector.
fn check_selector(document: &Document, given: bool, selector: &Labels, issues: &mut Issues) {
    if given && selector.is_empty() {
        issues.push(document.warning("selector", "workload selector specified without labels"));
    }
    for (key, value) in selector.iter() {
        if key.is_empty() {
            let message = format!("empty key is not supported in selector: {:?}", format!("{key}={value}"));
            issues.push(document.error("selector.matchLabels", message));
        }
        if key.contains('*') || value.contains('*') {
            let message = format!("wildcard is not supported in selector: {:?}", format!("{key}={value}"));
            issues.push(document.error(format!("selector.matchLabels[\"{key}\"]"), message));
        }
    }
}

/// istio validation, validatePeerAuthentication.
fn check_ports(
    document: &Document,
    ports: Option<&BTreeMap<String, MutualTls>>,
    selector: &Labels,
    issues: &mut Issues,
) -> BTreeMap<NonZeroU16, Option<PeerAuthMode>> {
    let Some(ports) = ports else { return BTreeMap::new() };
    let mut refuse = |path: String, message: &str| issues.push(document.error(path, message));
    if ports.is_empty() {
        refuse("portLevelMtls".into(), "port level mTLS, if defined, must have at least one element");
    }
    if selector.is_empty() {
        let message =
            "mesh/namespace peer authentication cannot have port level mTLS (portLevelMtls requires selector)";
        refuse("portLevelMtls".into(), message);
    }
    let mut checked = BTreeMap::new();
    for (key, tls) in ports {
        let port = key.parse::<NonZeroU16>().ok().filter(|port| port.to_string() == *key);
        match port {
            Some(port) => drop(checked.insert(port, tls.mode())),
            None => refuse(format!("portLevelMtls[\"{key}\"]"), "port must be in range 1..65535"),
        }
    }
    checked
}

/// All PeerAuthentications, in Istio's order: oldest first.
///
/// ```
/// use mesh_core::{Workload, config::{Document, Issues}};
/// use mesh_tls::{PeerAuthMode, PeerAuthentication, PeerAuthentications};
///
/// let yaml = "
/// apiVersion: security.istio.io/v1
/// kind: PeerAuthentication
/// metadata: {name: default, namespace: istio-system}
/// spec: {mtls: {mode: STRICT}}
/// ";
/// let mut issues = Issues::default();
/// let documents = Document::parse_all("mesh.yaml", yaml, &mut issues);
/// let policies = documents.iter().filter_map(|document| PeerAuthentication::from_document(document, &mut issues));
/// let policies = PeerAuthentications::new(policies.collect());
///
/// let reviews = Workload::new("default", "reviews-v1");
/// assert_eq!(policies.mode(&reviews, "istio-system", 9080), PeerAuthMode::Strict);
/// assert_eq!(PeerAuthentications::default().mode(&reviews, "istio-system", 9080), PeerAuthMode::Permissive);
/// ```
#[derive(Clone, Debug, Default)]
pub struct PeerAuthentications(Arc<[PeerAuthentication]>);

impl PeerAuthentications {
    /// These, oldest first: in each scope the oldest wins.
    #[must_use]
    pub fn new(policies: Vec<PeerAuthentication>) -> Self {
        Self(policies.into())
    }

    /// What a workload's port accepts; `port` is the workload's own (Kubernetes' target port), not the service's.
    ///
    /// istio ComposePeerAuthentication: workload over namespace over mesh, UNSET inherits, PERMISSIVE when nobody
    /// says anything; inside a scope only the oldest counts, even where it is UNSET.
    #[must_use]
    pub fn mode(&self, workload: &Workload, root_namespace: &str, port: u16) -> PeerAuthMode {
        let wide = self.client_mode(&workload.namespace, root_namespace);
        let Some(policy) = self.of_workload(workload, root_namespace) else { return wide };
        let mode = policy.mode.unwrap_or(wide);
        let port = NonZeroU16::new(port).and_then(|port| policy.ports.get(&port));
        port.copied().flatten().unwrap_or(mode)
    }

    /// What a client supposes of a service in this namespace (automatic mutual TLS): the namespace's mode, else the
    /// mesh's. istio BestEffortInferServiceMTLSMode: policies of workloads and ports are not looked at.
    #[must_use]
    pub fn client_mode(&self, service_namespace: &str, root_namespace: &str) -> PeerAuthMode {
        let wide = |namespace: &str| {
            self.0.iter().find(|policy| policy.is_wide() && policy.is_in(namespace)).and_then(|policy| policy.mode)
        };
        wide(service_namespace).or_else(|| wide(root_namespace)).unwrap_or_default()
    }

    /// What can only be found once the root namespace is known: policies there that select workloads apply to nothing.
    #[must_use]
    pub fn issues(&self, root_namespace: &str) -> Issues {
        let mut issues = Issues::default();
        for policy in self.0.iter().filter(|policy| !policy.is_wide() && policy.is_in(root_namespace)) {
            issues.push(policy.ignored_in_root.clone());
        }
        issues
    }

    fn of_workload(&self, workload: &Workload, root_namespace: &str) -> Option<&PeerAuthentication> {
        self.0.iter().find(|policy| {
            !policy.is_wide()
                && policy.is_in(&workload.namespace)
                && !policy.is_in(root_namespace)
                && workload.labels.contains_all(&policy.selector)
        })
    }
}
