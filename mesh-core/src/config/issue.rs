//! What is wrong with configuration, and where.

use std::{fmt, sync::Arc};

use super::{ObjectRef, Position};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The object is in force.
    Warning,
    /// The object is rejected; its last good version stays.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What an issue is about, for tools that sort and count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Topic {
    /// Wrong, or doubtful, in itself.
    #[default]
    Validity,
    /// Good in Istio, and without effect in-process.
    NotEnforced,
    /// Configuration that seems to be there, and that nobody reads.
    NotRead,
    /// A rule that no request can reach.
    UnreachableRule,
    /// One match of a rule, out of several, that no request can reach.
    IneffectiveMatch,
}

/// One thing wrong with configuration. Displays as `file:line:col: severity: Kind ns/name field.path: what`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issue {
    /// Error or warning.
    pub severity: Severity,
    /// The file.
    pub source: Arc<str>,
    /// The place in it.
    pub position: Position,
    /// The object, where the document says which it is.
    pub object: Option<ObjectRef>,
    /// The field below `spec`; empty for the whole object.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub message: String,
    /// What it is about.
    pub topic: Topic,
}

impl Issue {
    /// An issue with a place in a file and no object.
    #[must_use]
    pub fn new(severity: Severity, source: &Arc<str>, position: Position, message: impl Into<String>) -> Self {
        Self {
            severity,
            source: Arc::clone(source),
            position,
            object: None,
            path: String::new(),
            message: message.into(),
            topic: Topic::default(),
        }
    }

    /// The same, about something else than validity.
    #[must_use]
    pub fn about(mut self, topic: Topic) -> Self {
        self.topic = topic;
        self
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: ", self.source, self.position, self.severity)?;
        match (&self.object, self.path.is_empty()) {
            (Some(object), true) => write!(f, "{object}: ")?,
            (Some(object), false) => write!(f, "{object} {}: ", self.path)?,
            (None, false) => write!(f, "{}: ", self.path)?,
            (None, true) => {}
        }
        f.write_str(&self.message)
    }
}

/// Issues gathered while reading configuration. Displays one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues(Vec<Issue>);

impl Issues {
    /// Add one.
    pub fn push(&mut self, issue: Issue) {
        self.0.push(issue);
    }

    /// Add all of another list.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// All, in the order found.
    pub fn iter(&self) -> std::slice::Iter<'_, Issue> {
        self.0.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the errors.
    pub fn errors(&self) -> impl Iterator<Item = &Issue> {
        self.iter().filter(|issue| issue.severity == Severity::Error)
    }

    /// Is there an error?
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }
}

impl<'a> IntoIterator for &'a Issues {
    type Item = &'a Issue;
    type IntoIter = std::slice::Iter<'a, Issue>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            issue.fmt(f)?;
        }
        Ok(())
    }
}
