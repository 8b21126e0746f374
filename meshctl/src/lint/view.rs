//! Reading a tree that may be wrong: what is not there, or is of another type, is empty.
//!
//! Analyzers look at objects whether or not a mesh would take them. What is wrong with one alone was said by
//! [`check`](super::check).

use mesh_core::config::{Document, Key, Node, Position, Value};

static NOTHING: Node = Node { position: Position { line: 1, column: 1 }, value: Value::Null };

/// Fields of a node by name.
pub(super) trait View {
    /// The value of a field.
    fn child(&self, field: &str) -> &Node;
    /// Is the field there, and not null?
    fn has(&self, field: &str) -> bool;
    /// A field that is a list.
    fn list(&self, field: &str) -> &[Node];
    /// A field that is a string.
    fn text(&self, field: &str) -> &str;
    /// A field that is a list of strings.
    fn texts(&self, field: &str) -> Vec<&str>;
    /// A field that is an integer.
    fn int(&self, field: &str) -> Option<i64>;
    /// A field that is true.
    fn is_true(&self, field: &str) -> bool;
    /// A field that maps strings to anything.
    fn entries(&self, field: &str) -> &[(Key, Node)];
    /// A field that maps strings to strings.
    fn labels(&self, field: &str) -> Vec<(&str, &str)>;
}

impl View for Node {
    fn child(&self, field: &str) -> &Node {
        self.get(field).unwrap_or(&NOTHING)
    }

    fn has(&self, field: &str) -> bool {
        self.child(field).value != Value::Null
    }

    fn list(&self, field: &str) -> &[Node] {
        match &self.child(field).value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    fn text(&self, field: &str) -> &str {
        self.child(field).as_str().unwrap_or_default()
    }

    fn texts(&self, field: &str) -> Vec<&str> {
        self.list(field).iter().filter_map(Node::as_str).collect()
    }

    fn int(&self, field: &str) -> Option<i64> {
        match self.child(field).value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    fn is_true(&self, field: &str) -> bool {
        self.child(field).value == Value::Bool(true)
    }

    fn entries(&self, field: &str) -> &[(Key, Node)] {
        match &self.child(field).value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    fn labels(&self, field: &str) -> Vec<(&str, &str)> {
        self.entries(field).iter().filter_map(|(key, value)| Some((key.name.as_str(), value.as_str()?))).collect()
    }
}

/// An object's spec; empty where it has none.
pub(super) fn spec(document: &Document) -> &Node {
    document.spec().unwrap_or(&NOTHING)
}
