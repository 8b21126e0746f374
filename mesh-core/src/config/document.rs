//! One object of configuration: a Kubernetes-style document with the place of every value.

use std::{cmp::Ordering, fmt, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};

use super::{Issue, Issues, Node, Position, Severity, Topic, Value, de, load};
use crate::Labels;

/// The name of an object: `VirtualService default/reviews`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Kind, `VirtualService` for instance.
    pub kind: Arc<str>,
    /// Namespace; `default` when the document gives none.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A document: who it is, and its spec as a tree.
#[derive(Clone, Debug)]
pub struct Document {
    source: Arc<str>,
    api_version: Arc<str>,
    object: ObjectRef,
    metadata: Metadata,
    root: Node,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: Labels,
    annotations: Labels,
    creation_timestamp: Option<String>,
}

impl Document {
    /// All documents of a file's text. A `List`, as kubectl prints it, is taken apart. Syntax errors become
    /// issues; what comes before one is returned.
    pub fn parse_all(source: &str, text: &str, issues: &mut Issues) -> Vec<Self> {
        let source: Arc<str> = source.into();
        let (nodes, error) = load::load(text);
        let mut documents = Vec::new();
        for node in nodes {
            Self::collect(&source, node, issues, &mut documents);
        }
        if let Some(error) = error {
            issues.push(Issue::new(Severity::Error, &source, error.position, error.message));
        }
        documents
    }

    /// A document made in code: any value that serializes to a Kubernetes object.
    ///
    /// # Errors
    /// When the value does not serialize to an object with a kind and a name; the issues say why.
    pub fn from_value(source: &str, value: &impl serde::Serialize) -> Result<Self, Issues> {
        let mut issues = Issues::default();
        let source: Arc<str> = source.into();
        let mut documents = Vec::new();
        match serde_json::to_value(value) {
            Ok(json) => Self::collect(&source, Node::from_json(&json), &mut issues, &mut documents),
            Err(error) => {
                issues.push(Issue::new(Severity::Error, &source, Position { line: 1, column: 1 }, error.to_string()));
            }
        }
        documents.pop().filter(|_| !issues.has_errors()).ok_or(issues)
    }

    fn collect(source: &Arc<str>, node: Node, issues: &mut Issues, documents: &mut Vec<Self>) {
        if node.get("kind").and_then(Node::as_str) == Some("List")
            && let Some(Node { value: Value::Sequence(items), .. }) = node.get("items")
        {
            for item in items {
                Self::collect(source, item.clone(), issues, documents);
            }
            return;
        }
        match Self::from_node(source, node) {
            Ok(document) => documents.push(document),
            Err(issue) => issues.push(issue),
        }
    }

    fn from_node(source: &Arc<str>, root: Node) -> Result<Self, Issue> {
        let refuse = |position, message: &str| Issue::new(Severity::Error, source, position, message);
        if root.get("mesh").is_some() && root.get("kind").is_none() {
            let name: Arc<str> = "mesh".into();
            let object = ObjectRef { kind: "MeshConfig".into(), namespace: "".into(), name };
            return Ok(Self {
                source: Arc::clone(source),
                api_version: "".into(),
                object,
                metadata: Metadata::default(),
                root,
            });
        }
        if !matches!(root.value, Value::Mapping(_)) {
            return Err(refuse(root.position, "a document must be an object with `kind` and `metadata`"));
        }
        let kind = match root.get("kind") {
            Some(node) => node.as_str().ok_or_else(|| refuse(node.position, "`kind` must be a string"))?,
            None => return Err(refuse(root.position, "`kind` is missing (or `mesh:`, for mesh-wide settings)")),
        };
        let metadata = match root.get("metadata") {
            Some(node) => de::decode::<Metadata>(node).map_err(|error| {
                let place = error.place.unwrap_or_else(|| de::Place { path: String::new(), position: node.position });
                let mut issue = refuse(place.position, &error.message);
                issue.path = if place.path.is_empty() { "metadata".into() } else { format!("metadata.{}", place.path) };
                issue
            })?,
            // Some kinds of others have none; `decode` asks for it.
            None => (Metadata::default(), Vec::new()),
        };
        let (metadata, _) = metadata;
        let object = ObjectRef {
            kind: kind.into(),
            namespace: metadata.namespace.as_deref().unwrap_or("default").into(),
            name: metadata.name.as_deref().unwrap_or_default().into(),
        };
        let api_version = root.get("apiVersion").and_then(Node::as_str).unwrap_or_default().into();
        Ok(Self { source: Arc::clone(source), api_version, object, metadata, root })
    }

    /// Which object it is.
    #[must_use]
    pub fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// Its kind; `MeshConfig` for a `mesh:` document.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.object.kind
    }

    /// `apiVersion`, empty when not given.
    #[must_use]
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// The API group: `apiVersion` up to its slash, empty for Kubernetes' core group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.object.name
    }

    /// Its namespace; `default` when not given.
    #[must_use]
    pub fn namespace(&self) -> &Arc<str> {
        &self.object.namespace
    }

    /// Labels of the object itself.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.metadata.labels
    }

    /// Annotations of the object.
    #[must_use]
    pub fn annotations(&self) -> &Labels {
        &self.metadata.annotations
    }

    /// The file it came from.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// `metadata.creationTimestamp`, where Kubernetes wrote one.
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        self.metadata.creation_timestamp.as_deref()
    }

    /// Istio's order: oldest `creationTimestamp` first, then name, then namespace; documents without a
    /// timestamp come after those with one, and keep the order of files and documents among themselves (use a
    /// stable sort).
    #[must_use]
    pub fn creation_order(&self, other: &Self) -> Ordering {
        match (&self.metadata.creation_timestamp, &other.metadata.creation_timestamp) {
            (Some(mine), Some(theirs)) => mine
                .cmp(theirs)
                .then_with(|| self.name().cmp(other.name()))
                .then_with(|| self.namespace().cmp(other.namespace())),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        }
    }

    /// The whole tree: `metadata` and `status` too, which no model reads.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The tree that [`decode`](Self::decode) reads: `spec`, or `mesh` in a `mesh:` document; of an EndpointSlice, which
    /// has neither, the whole.
    #[must_use]
    pub fn spec(&self) -> Option<&Node> {
        if self.is_whole() {
            return Some(&self.root);
        }
        self.root.get("spec").or_else(|| self.root.get("mesh"))
    }

    fn is_whole(&self) -> bool {
        (self.group(), self.kind()) == ("discovery.k8s.io", "EndpointSlice")
    }

    /// Decode the spec. An error becomes an issue and `None`; each [`Unenforced`](super::Unenforced) field that
    /// stands in it becomes a warning. A missing spec decodes as an empty object.
    pub fn decode<T: DeserializeOwned>(&self, issues: &mut Issues) -> Option<T> {
        let before = issues.errors().count();
        self.check_top_level(issues);
        let empty = Node { position: self.root.position, value: Value::Mapping(Vec::new()) };
        let spec = self.spec().filter(|node| node.value != Value::Null).unwrap_or(&empty);
        match de::decode(spec) {
            Ok((decoded, unenforced)) => {
                for place in unenforced {
                    let message = "read but not enforced in-process".to_owned();
                    let issue = self.issue_at(Severity::Warning, place.position, place.path, message);
                    issues.push(issue.about(Topic::NotEnforced));
                }
                (issues.errors().count() == before).then_some(decoded)
            }
            Err(error) => {
                let place = error.place.unwrap_or_else(|| de::Place { path: String::new(), position: spec.position });
                issues.push(self.issue_at(Severity::Error, place.position, place.path, error.message));
                None
            }
        }
    }

    /// Decode one field of the spec; `None` when it is absent or has an error.
    pub fn decode_field<T: DeserializeOwned>(&self, field: &str, issues: &mut Issues) -> Option<T> {
        let node = self.spec()?.get(field).filter(|node| node.value != Value::Null)?;
        let below = |path: String| match path.is_empty() {
            true => field.to_owned(),
            // An item of a list.
            false if path.starts_with('[') => format!("{field}{path}"),
            false => format!("{field}.{path}"),
        };
        match de::decode(node) {
            Ok((decoded, unenforced)) => {
                for place in unenforced {
                    let message = "read but not enforced in-process".to_owned();
                    let issue = self.issue_at(Severity::Warning, place.position, below(place.path), message);
                    issues.push(issue.about(Topic::NotEnforced));
                }
                Some(decoded)
            }
            Err(error) => {
                let place = error.place.unwrap_or_else(|| de::Place { path: String::new(), position: node.position });
                issues.push(self.issue_at(Severity::Error, place.position, below(place.path), error.message));
                None
            }
        }
    }

    fn check_top_level(&self, issues: &mut Issues) {
        if self.object.name.is_empty() {
            let position = self.root.locate("metadata");
            issues.push(self.issue_at(Severity::Error, position, String::new(), "`metadata.name` is missing".into()));
        }
        let Value::Mapping(entries) = &self.root.value else { return };
        if self.is_whole() {
            return;
        }
        for (key, _) in entries {
            if !matches!(key.name.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status" | "mesh") {
                let message =
                    format!("unknown field `{}`, expected apiVersion, kind, metadata, spec or status", key.name);
                issues.push(self.issue_at(Severity::Error, key.position, String::new(), message));
            }
        }
    }

    /// An error at a field below `spec`; the object is rejected.
    pub fn error(&self, path: impl Into<String>, message: impl Into<String>) -> Issue {
        self.issue(Severity::Error, path.into(), message.into())
    }

    /// A warning at a field below `spec`; the object stays in force.
    pub fn warning(&self, path: impl Into<String>, message: impl Into<String>) -> Issue {
        self.issue(Severity::Warning, path.into(), message.into())
    }

    fn issue(&self, severity: Severity, path: String, message: String) -> Issue {
        let position = self.spec().map_or(self.root.position, |spec| spec.locate(&path));
        self.issue_at(severity, position, path, message)
    }

    fn issue_at(&self, severity: Severity, position: Position, path: String, message: String) -> Issue {
        let mut issue = Issue::new(severity, &self.source, position, message);
        (issue.object, issue.path) = (Some(self.object.clone()), path);
        issue
    }
}
