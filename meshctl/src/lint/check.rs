//! Each object alone: what a mesh says about it, and which code that has.

use mesh_core::config::{Document, Issue, Issues, Severity, Topic};

use super::{
    Code, Finding,
    analyze::{sidecar, telemetry, virtual_service},
    codes,
};

/// Groups whose kinds are a mesh's: a kind of theirs that is not read is worth a word. Everybody else's objects stand
/// beside them in real directories, and are nobody's business here.
const GROUPS: [&str; 6] = [
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
    "mesh.rs",
];

/// Is it an object that a mesh reads, or could?
pub(super) fn is_ours(document: &Document) -> bool {
    GROUPS.contains(&document.group()) || matches!((document.group(), document.kind()), ("", "Service" | "MeshConfig"))
}

/// A file, or a part of it, that is no object.
pub(super) fn unreadable(issue: &Issue) -> Finding {
    finding(issue, &codes::NOT_READABLE, issue.message.clone())
}

/// Everything wrong with one object.
pub(super) fn check(document: &Document) -> Vec<Finding> {
    let mut issues = mesh::Config::check(document);
    telemetry::schema::check(document, &mut issues);
    sidecar::schema::check(document, &mut issues);
    virtual_service::layer4::check(document, &mut issues);
    let ours = is_ours(document);
    // Somebody else's kind with a mistake in its apiVersion is ours after all: that is an error.
    issues.iter().filter(|issue| ours || issue.severity == Severity::Error).map(coded).collect()
}

fn coded(issue: &Issue) -> Finding {
    // Istio's two wordings of it differ: the validator's, which is ours too, and the analyzer's.
    let analyzers = |message: &str| match message.strip_prefix("virtualService") {
        Some(rest) => format!("VirtualService{rest}."),
        None => message.to_owned(),
    };
    let (code, message): (&'static Code, String) = match (issue.topic, issue.severity) {
        (Topic::NotEnforced, Severity::Warning) => (&codes::NOT_ENFORCED, issue.message.clone()),
        (Topic::UnreachableRule, Severity::Warning) => {
            (&codes::VIRTUAL_SERVICE_UNREACHABLE_RULE, analyzers(&issue.message))
        }
        (Topic::IneffectiveMatch, Severity::Warning) => {
            (&codes::VIRTUAL_SERVICE_INEFFECTIVE_MATCH, analyzers(&issue.message))
        }
        (Topic::NotEnforced, Severity::Error) => (&codes::NOT_SUPPORTED, issue.message.clone()),
        (_, Severity::Warning) => (&codes::SCHEMA_WARNING, format!("Schema validation warning: {}", issue.message)),
        (_, Severity::Error) => {
            (&codes::SCHEMA_VALIDATION_ERROR, format!("Schema validation error: {}", issue.message))
        }
    };
    finding(issue, code, message)
}

fn finding(issue: &Issue, code: &'static Code, message: String) -> Finding {
    Finding {
        code,
        object: issue.object.clone(),
        path: issue.path.clone(),
        file: issue.source.clone(),
        position: issue.position,
        message,
    }
}

/// A check of an object alone that a mesh does not make: of kinds and parts that it reads and does not enforce.
pub(super) fn refuse(document: &Document, issues: &mut Issues, path: impl Into<String>, message: impl Into<String>) {
    issues.push(document.error(path, message));
}
