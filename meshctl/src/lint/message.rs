//! A finding: a code, a place, and words.

use std::{fmt, sync::Arc};

use clap::ValueEnum;
use mesh_core::config::{Document, ObjectRef, Position};
use serde::Serialize;

/// How bad a finding is. Istio's three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Info,
    /// It works, and hardly as meant.
    Warning,
    /// It does not work.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A kind of finding. `IST…` are Istio's, with its names and levels; `MESH…` are ours.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Code {
    /// `IST0101`, for instance.
    pub id: &'static str,
    /// `ReferencedResourceNotFound`, for instance.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
}

impl Code {
    pub(super) const fn new(id: &'static str, name: &'static str, level: Level) -> Self {
        Self { id, name, level }
    }
}

/// One thing that was found. Displays as `file:line:column: level: [code] Kind ns/name field.path: what`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// Which kind of finding.
    pub code: &'static Code,
    /// The object; `None` for what is not an object.
    pub object: Option<ObjectRef>,
    /// The field: below `spec`, or from the top where it begins with `metadata` or `status`.
    pub path: String,
    /// The file.
    pub file: Arc<str>,
    /// The place in it.
    pub position: Position,
    /// What was found.
    pub message: String,
}

impl Finding {
    pub(super) fn new(code: &'static Code, document: &Document, path: String, message: String) -> Self {
        let above = path.starts_with("metadata") || path.starts_with("status");
        let root = document.root();
        let position = match document.spec() {
            Some(spec) if !above => spec.locate(&path),
            _ if above => root.locate(&path),
            _ => root.position,
        };
        let object = Some(document.object().clone());
        Self { code, object, path, file: Arc::clone(document.source()), position, message }
    }

    /// The order of findings: by place.
    pub(super) fn place(&self) -> (&str, Position, &str, &str) {
        (&self.file, self.position, self.code.id, &self.message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: [{}] ", self.file, self.position, self.code.level, self.code.id)?;
        if let Some(object) = &self.object {
            write!(f, "{object}{}", if self.path.is_empty() { ": " } else { " " })?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
